"""Dropping entries, and scaling what is kept (Srivastava et al. 2014)."""

import jax
import jax.numpy as jnp


def drop(keep: jax.Array, rate: float, x: jax.Array) -> jax.Array:
    """Returns x / (1 - rate) where kept, zero elsewhere; NaN that is dropped is gone."""
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))
