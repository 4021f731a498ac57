"""A Transformer block (Vaswani et al. 2017): self-attention, attention to a memory, and a feed-forward net.

    norm="post"   h ← LayerNorm(h + sublayer(h))          as published
    norm="pre"    h ← h + sublayer(LayerNorm(h))          (Xiong et al. 2020); after the last block a LayerNorm

`Sight` tells which keys each query may attend to. Several query heads may share one head of keys and values
(grouped-query attention: Ainslie et al. 2023).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq.nn._flax import Given, dropout, linear
from jaxseq.nn.attention._dot_product import dot_product_attention
from jaxseq.nn.attention._positions import rotary


class Shape(NamedTuple):
    """The sizes of a block: H features, N query heads, K heads of keys and values, and the hidden features."""

    features: int
    heads: int
    kv_heads: int
    hidden: int


class KeyValues(NamedTuple):
    """Keys and values of steps, `[B, K, S, F]` each."""

    keys: jax.Array
    values: jax.Array


class Sight(NamedTuple):
    """What the steps of a pass may attend to."""

    positions: jax.Array | None  # int [B, T], for rotary positions; None: not rotary
    slots: jax.Array | None  # int [B, T], where a step's keys are written into the cache first; None: appended to it
    steps: jax.Array | None  # bool [B, T, S], or [T, S] for all rows: the keys that each query sees; None: all
    memory: jax.Array | None  # bool [B, S']: the real steps of the memory; None: all


def write(cache: jax.Array, steps: jax.Array, slots: jax.Array) -> jax.Array:
    """Returns the cache `[B, K, M, F]` with `steps` `[B, K, T, F]` written to slots int `[B, T]`; slots ≥ M drop."""
    batch, rows = slots.shape[:-1], math.prod(slots.shape[:-1])
    flat, new, at = (x.reshape(rows, *x.shape[len(batch) :]) for x in (cache, steps, slots))
    new = jnp.swapaxes(new, 1, 2)  # one write per step, for all heads
    return flat.at[jnp.arange(rows)[:, None], :, at].set(new, mode="drop").reshape(cache.shape)


class SelfAttention(nnx.Module):
    """Attention of steps to each other, or to the steps of a memory."""

    def __init__(self, shape: Shape, memory_features: int, given: Given):
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        wide, narrow = shape.features, shape.features // shape.heads * shape.kv_heads
        self.query = linear(shape.features, wide, given)
        self.key = linear(memory_features, narrow, given)
        self.value = linear(memory_features, narrow, given)
        self.out = linear(wide, shape.features, given)

    def of(self, xs: jax.Array, positions: jax.Array | None) -> KeyValues:
        """Returns the keys and values of `xs` `[B, S, D]`."""
        keys, values = (_split(layer(xs), self.kv_heads) for layer in (self.key, self.value))
        return KeyValues(_turned(keys, positions), values)

    def __call__(
        self, xs: jax.Array, seen: KeyValues, mask: jax.Array | None, positions: jax.Array | None
    ) -> jax.Array:
        """Returns the attention outputs `[B, T, H]`; `mask`, which broadcasts to `[B, T, S]`, tells what is visible."""
        queries = _turned(_split(self.query(xs), self.heads), positions)
        found = dot_product_attention(queries, *seen, mask)
        return self.out(jnp.swapaxes(found, -2, -3).reshape(*xs.shape[:-1], self.out.in_features))


class Block(nnx.Module):
    """The sublayers of a block with their norms."""

    def __init__(
        self,
        shape: Shape,
        *,
        norm: str,
        activation: Callable[[jax.Array], jax.Array],
        rate: float,
        memory_features: int | None,
        given: Given,
    ):
        H = shape.features
        self.is_pre, self.activation, self.rate = norm == "pre", activation, rate
        self.attention = SelfAttention(shape, H, given)
        self.cross = None if memory_features is None else SelfAttention(shape, memory_features, given)
        self.wide = linear(H, shape.hidden, given)
        self.narrow = linear(shape.hidden, H, given)
        norms = 2 if memory_features is None else 3
        self.norms = nnx.List([nnx.LayerNorm(H, **given._asdict()) for _ in range(norms)])

    def look_at(self, memory: jax.Array) -> KeyValues:
        """Returns the keys and values of a memory `[B, S, M]`."""
        assert self.cross is not None
        return self.cross.of(memory, None)

    def __call__(
        self,
        xs: jax.Array,
        before: KeyValues | None,
        memory: KeyValues | None,
        sight: Sight,
        key: jax.Array | None,
    ) -> tuple[jax.Array, KeyValues]:
        """Returns the outputs `[B, T, H]`, and keys and values: the whole cache if `sight` has slots, else new ones.

        `before` is the cache. Without slots, the keys of the steps are appended to it.
        """
        keys = [None] * 4 if key is None else jax.random.split(key, 4)
        own = None

        def attend(h):
            nonlocal own
            seen, slots = self.attention.of(h, sight.positions), sight.slots
            own = seen
            if before is not None and slots is not None:
                seen = own = jax.tree.map(lambda cache, new: write(cache, new, slots), before, own)
            elif before is not None:
                seen = jax.tree.map(lambda *x: jnp.concatenate(x, axis=-2), before, own)
            return self.attention(h, seen, sight.steps, sight.positions)

        def look(h):
            assert self.cross is not None
            assert memory is not None
            return self.cross(h, memory, None if sight.memory is None else sight.memory[..., None, :], None)

        def feed(h):
            return self.narrow(dropout(keys[3], self.rate, self.activation(self.wide(h))))

        sublayers = [attend, feed] if self.cross is None else [attend, look, feed]
        for sublayer, norm, noise in zip(sublayers, self.norms, keys, strict=False):
            if self.is_pre:
                xs = xs + dropout(noise, self.rate, sublayer(norm(xs)))
            else:
                xs = norm(xs + dropout(noise, self.rate, sublayer(xs)))
        assert own is not None
        return xs, own


def _split(xs, heads):
    """Returns `[B, T, N F]` as `[B, N, T, F]`."""
    return jnp.swapaxes(xs.reshape(*xs.shape[:-1], heads, xs.shape[-1] // heads), -2, -3)


def _turned(heads, positions):
    return heads if positions is None else rotary(heads, positions[..., None, :])
