"""Drops entries and scales the entries that are kept (Srivastava et al. 2014)."""

import jax
import jax.numpy as jnp


def drop(keep: jax.Array, rate: float, x: jax.Array) -> jax.Array:
    """Returns x / (1 - rate) where `keep` is True, and zero elsewhere, even where x is NaN."""
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))
