"""Neighbouring steps of a sequence after a mask has left some steps out."""

import jax
import jax.numpy as jnp

from jaxseq.structured._indices import along_first


def step_before(real: jax.Array) -> jax.Array:
    """Returns the index int `[T, *B]` of the last real step before each step; -1 if there is none."""
    latest = jax.lax.cummax(jnp.where(real, along_first(real.shape), -1))
    return jnp.pad(latest, [(1, 0)] + [(0, 0)] * (real.ndim - 1), constant_values=-1)[: real.shape[0]]


def shifted(xs: jax.Array, steps: int) -> jax.Array:
    """Returns `xs` `[T, ...]` as many steps later, or earlier where below 0; zeros where nothing stood before."""
    return jax.lax.pad(xs, jnp.zeros((), xs.dtype), [(steps, -steps, 0)] + [(0, 0, 0)] * (xs.ndim - 1))
