"""Promotion of ranks and dtypes, said explicitly: JAX's modes that forbid the implicit kind then change nothing.

`jax_numpy_rank_promotion="raise"` refuses `[B, H] + [H]`, `jax_numpy_dtype_promotion="strict"` bfloat16 with float32.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp


def beside(w: jax.Array, x: Any) -> jax.Array:
    """Returns `w` with axes of 1 in front, as many as `x` has more: `[H]` beside `[T, B, H]` is `[1, 1, H]`."""
    return jax.lax.expand_dims(w, range(x.ndim - w.ndim))


def wider(*dtypes: Any) -> jnp.dtype:
    """Returns the dtype that holds all of `dtypes`, by JAX's usual rules."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Lets another library's code promote ranks and dtypes as it was written to."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def widen(dtype: Any) -> jnp.dtype:
    """Returns the dtype in which sums over `dtype` are kept: float32 at least."""
    return wider(jnp.dtype(dtype), jnp.float32)
