"""Rows with what the mask leaves at their front, so that neighbours in a row are neighbours in the sequence."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Compact(NamedTuple):
    """Where each row's real steps stand."""

    order: jax.Array  # int [B, T]: the steps, real ones first
    rank: jax.Array  # int [B, T]: of each step, how many real ones are before it
    lengths: jax.Array  # int [B]


def compact(mask: jax.Array) -> Compact:
    """Returns the order of `mask`, bool `[B, T]`."""
    steps = mask.astype(jnp.int32)
    rank = jnp.cumsum(steps, axis=-1) - steps
    return Compact(jnp.argsort(~mask, axis=-1, stable=True), rank, jnp.sum(steps, axis=-1, dtype=jnp.int32))


def gather(xs: jax.Array, places: jax.Array) -> jax.Array:
    """Returns the entries of `xs` `[B, T, ...]` at places int `[B, N]`, `[B, N, ...]`."""
    index = places.reshape(*places.shape, *[1] * (xs.ndim - places.ndim))
    return jnp.take_along_axis(xs, index, axis=places.ndim - 1)
