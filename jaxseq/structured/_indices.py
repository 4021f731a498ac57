"""Indices of an array's entries along an axis."""

import jax
import jax.numpy as jnp

from jaxseq.typing import Shape


def along_first(shape: Shape) -> jax.Array:
    """Returns each entry's index along the first axis, int32."""
    return jax.lax.broadcasted_iota(jnp.int32, shape, 0)


def along_last(shape: Shape) -> jax.Array:
    """Returns each entry's index along the last axis, int32."""
    return jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
