"""Neighbours in a sequence of which a mask leaves some steps."""

import jax
import jax.numpy as jnp


def step_before(real: jax.Array) -> jax.Array:
    """Returns the index int `[T, *B]` of the real step before each, by flags bool `[T, *B]`; -1 where there is none."""
    steps = jnp.arange(len(real)).reshape(-1, *[1] * (real.ndim - 1))
    latest = jax.lax.cummax(jnp.where(real, steps, -1))
    return jnp.pad(latest, [(1, 0)] + [(0, 0)] * (real.ndim - 1), constant_values=-1)[: len(real)]
