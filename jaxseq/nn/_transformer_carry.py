"""Where the steps of a pass stand, what each of them sees, and what stays of them for later ones."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.nn._transformer_block import KeyValues


class TransformerCarry(NamedTuple):
    """The steps of each row's sequence so far: a cache of keys and values, and how many there are, int32 `[B]`."""

    layers: tuple[KeyValues, ...]
    length: jax.Array


class Places(NamedTuple):
    """Where the steps of a pass stand; those that the mask leaves out take no place."""

    positions: jax.Array  # int [B, T]: each one's in its sequence
    sequence: jax.Array | None  # int [B, T]: which one, 0 that of the carry; None: all are of that
    mask: jax.Array | None
    length: jax.Array  # int [B]: of the sequence of the carry
    length_after: jax.Array  # int [B]: of the last sequence


def places_of(xs: jax.Array, carry: TransformerCarry | None, mask: jax.Array | None, reset: jax.Array | None) -> Places:
    """Returns the places of the steps of `xs` `[B, T, D]`."""
    *batch, T, _ = xs.shape
    real = jnp.ones((*batch, T), jnp.int32) if mask is None else mask.astype(jnp.int32)
    rank = jnp.cumsum(real, axis=-1) - real
    count = jnp.sum(real, axis=-1)
    length = jnp.zeros(batch, jnp.int32) if carry is None else carry.length
    if reset is None:
        return Places(rank + length[..., None], None, mask, length, length + count)
    sequence = jnp.cumsum(reset.astype(jnp.int32), axis=-1)
    begins = jax.lax.cummax(jnp.where(reset, rank, 0), axis=rank.ndim - 1)
    positions = rank - begins + jnp.where(sequence == 0, length[..., None], 0)
    begun = jnp.max(jnp.where(reset, rank, 0), axis=-1, initial=0)
    length_after = count - begun + jnp.where(jnp.any(reset, axis=-1), 0, length)
    return Places(positions, sequence, mask, length, length_after)


def sight(places: Places, carry: TransformerCarry | None, causal: bool) -> jax.Array | None:
    """Returns which steps each one sees, of a cache and of its own pass, bool `[B, T, M + T]`; None: all."""
    *batch, T = places.positions.shape
    seen = jnp.tri(T, dtype=bool) if causal else None
    if places.mask is not None:
        seen = _and(seen, places.mask[..., None, :])
    if places.sequence is not None:
        seen = _and(seen, places.sequence[..., :, None] == places.sequence[..., None, :])
    if seen is None:
        return None
    seen = jnp.broadcast_to(seen, (*batch, T, T))
    if carry is None:
        return seen
    room = carry.layers[0].keys.shape[-3]
    cached = jnp.broadcast_to((jnp.arange(room) < places.length[..., None])[..., None, :], (*batch, T, room))
    if places.sequence is not None:
        cached &= (places.sequence == 0)[..., None]
    return jnp.concatenate([cached, seen], axis=-1)


def carry_after(carry: TransformerCarry, places: Places, new: list[KeyValues]) -> TransformerCarry:
    """Returns the cache with the real steps of the last sequence, each at its position."""
    batch, rows = places.length.shape, math.prod(places.length.shape)
    kept = jnp.ones(places.positions.shape, bool) if places.mask is None else places.mask
    if places.sequence is not None:
        kept &= places.sequence == jnp.max(places.sequence, axis=-1, keepdims=True, initial=0)
    target = jnp.where(kept, places.positions, carry.layers[0].keys.shape[-3])  # there it is dropped

    def write(cache, own):
        flat, steps, at = (x.reshape(rows, *x.shape[len(batch) :]) for x in (cache, own, target))
        return flat.at[jnp.arange(rows)[:, None], at].set(steps, mode="drop").reshape(cache.shape)

    layers = jax.tree.map(write, carry.layers, tuple(new))
    return TransformerCarry(layers, places.length_after)


def _and(flags, others):
    return others if flags is None else flags & others
