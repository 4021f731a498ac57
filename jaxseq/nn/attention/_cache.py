"""The positions of the steps of a pass, what each step may attend to, and the cache for later steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank
from jaxseq.nn.attention._block import KeyValues, write


class TransformerCarry(NamedTuple):
    """The state of each row's sequence: a cache of keys and values, and its number of steps, int32 `[B]`."""

    layers: tuple[KeyValues, ...]
    length: jax.Array


class Places(NamedTuple):
    """The places of the steps of a pass; steps where the mask is False are not counted."""

    positions: jax.Array  # int [B, T]: the position of each step in its sequence
    sequence: jax.Array | None  # int [B, T]: the number of its sequence, 0 for that of the carry; None: all are 0
    mask: jax.Array | None
    length: jax.Array  # int [B]: the length of the carry's sequence
    length_after: jax.Array  # int [B]: the length of the last sequence, after the pass
    slots: jax.Array | None  # int [B, T]: where steps are written into the cache before attention; None: not before


def places_of(xs: jax.Array, carry: TransformerCarry | None, mask: jax.Array | None, reset: jax.Array | None) -> Places:
    """Returns the places of the steps of `xs` `[B, T, D]`."""
    *batch, T, _ = xs.shape
    real = jnp.ones((*batch, T), jnp.int32) if mask is None else mask.astype(jnp.int32)
    rank = jnp.cumsum(real, axis=-1) - real
    count = jnp.sum(real, axis=-1, dtype=jnp.int32)
    length = jnp.zeros(batch, jnp.int32) if carry is None else carry.length
    if reset is None:
        positions = rank + length[..., None]
        return Places(positions, None, mask, length, length + count, _slots(positions, carry, mask))
    sequence = jnp.cumsum(reset.astype(jnp.int32), axis=-1)
    begins = jax.lax.cummax(jnp.where(reset, rank, 0), axis=rank.ndim - 1)
    positions = rank - begins + jnp.where(sequence == 0, length[..., None], 0)
    begun = jnp.max(jnp.where(reset, rank, 0), axis=-1, initial=0)
    length_after = count - begun + jnp.where(jnp.any(reset, axis=-1), 0, length)
    # If steps precede a reset in the same pass, they must still see the cache that the reset ends: no slots then.
    slots = _slots(positions, carry, mask) if isinstance(T, int) and T <= 1 else None
    return Places(positions, sequence, mask, length, length_after, slots)


def sight(places: Places, carry: TransformerCarry | None, causal: bool) -> jax.Array | None:
    """Returns which keys each step sees, bool `[B, T, S]` or a shape that broadcasts to it; None: all.

    The keys are those of the pass, S = T. With a cache of room M they are those of the cache, S = M, if the steps are
    written into it first; otherwise those of the cache followed by those of the pass, S = M + T.
    """
    *batch, T = places.positions.shape
    if carry is not None and places.slots is not None:
        room = jnp.arange(carry.layers[0].keys.shape[-2], dtype=jnp.int32)
        return expand_rank(room, places.positions[..., None]) <= places.positions[..., None]
    seen = jnp.tri(T, dtype=bool) if causal else None
    if places.mask is not None:
        seen = _and(seen, places.mask[..., None, :])
    if places.sequence is not None:
        seen = _and(seen, places.sequence[..., :, None] == places.sequence[..., None, :])
    if carry is None:
        return seen
    seen = jnp.broadcast_to(True if seen is None else seen, (*batch, T, T))
    room = carry.layers[0].keys.shape[-2]
    length = places.length[..., None]
    cached = jnp.broadcast_to(
        (expand_rank(jnp.arange(room, dtype=length.dtype), length) < length)[..., None, :], (*batch, T, room)
    )
    assert places.sequence is not None
    return jnp.concatenate([cached & (places.sequence == 0)[..., None], seen], axis=-1)


def carry_after(carry: TransformerCarry, places: Places, new: list[KeyValues]) -> TransformerCarry:
    """Returns the cache with the keys and values of the last sequence's real steps, each at its position."""
    kept = jnp.ones(places.positions.shape, bool) if places.mask is None else places.mask
    if places.sequence is not None:
        kept &= places.sequence == jnp.max(places.sequence, axis=-1, keepdims=True, initial=0)
    slots = jnp.where(kept, places.positions, carry.layers[0].keys.shape[-2])  # writes to that slot are dropped
    layers = jax.tree.map(lambda cache, own: write(cache, own, slots), carry.layers, tuple(new))
    return TransformerCarry(layers, places.length_after)


def _slots(positions, carry, mask):
    """Returns each step's position; for False steps the first slot beyond the cache, where writes are dropped."""
    if carry is None:
        return None
    return positions if mask is None else jnp.where(mask, positions, carry.layers[0].keys.shape[-2])


def _and(flags, others):
    return others if flags is None else expand_rank(flags, others) & others
