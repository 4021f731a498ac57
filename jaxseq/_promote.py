"""Explicit promotion of ranks and dtypes. The library works under JAX's strict promotion modes.

`jax_numpy_rank_promotion="raise"` rejects `[B, H] + [H]`; `jax_numpy_dtype_promotion="strict"` rejects adding bfloat16
to float32.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.typing import AnyArray


def expand_rank(w: AnyArray, x: Any) -> jax.Array:
    """Returns `w` with leading axes of size 1 up to the rank of `x`: `[H]` for an x `[T, B, H]` becomes `[1, 1, H]`."""
    return jax.lax.expand_dims(w, range(x.ndim - w.ndim))


def wider(*dtypes: Any) -> jnp.dtype:
    """Returns the dtype that holds all of `dtypes`, by JAX's standard promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Allows implicit promotion of ranks and dtypes in another library's code."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def widen(dtype: Any) -> jnp.dtype:
    """Returns the dtype for sums over `dtype`: at least float32."""
    return wider(jnp.dtype(dtype), jnp.float32)
