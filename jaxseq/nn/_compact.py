"""Rows with their real steps moved to the front, so that neighbours in the sequence are neighbours in the array."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Compact(NamedTuple):
    """The place of each row's real steps."""

    order: jax.Array  # int [B, T]: the steps, real ones first
    rank: jax.Array  # int [B, T]: for each step, the number of real steps before it
    lengths: jax.Array  # int [B]


def compact(mask: jax.Array) -> Compact:
    """Returns where real steps move, from `mask`, bool `[B, T]`."""
    steps = mask.astype(jnp.int32)
    rank = jnp.cumsum(steps, axis=-1) - steps
    return Compact(jnp.argsort(~mask, axis=-1, stable=True), rank, jnp.sum(steps, axis=-1, dtype=jnp.int32))


def gather(xs: jax.Array, places: jax.Array) -> jax.Array:
    """Returns the entries of `xs` `[B, T, ...]` at indices int `[B, N]`, as `[B, N, ...]`."""
    index = places.reshape(*places.shape, *[1] * (xs.ndim - places.ndim))
    return jnp.take_along_axis(xs, index, axis=places.ndim - 1)
