"""The decoders of `nn.Seq2Seq`, which write the target from the encoder's outputs, at once or step by step.

A recurrent decoder starts from its initial carry plus tanh(W summary + b), which is added to h and c. The summary is
the encoder's outputs at a row's ends. Other parts of a carry, with other names or of integers, are not changed; if the
parts have no names, all floats are changed. With attention, the output h_t of step t is the query, and logits are
computed from a_t:

    context_t = attention(h_t, memory)        a_t = tanh(W [h_t, context_t] + b)

With input feeding, a_{t-1} is part of the input of step t. A Transformer attends to the memory itself, in every block.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import Given, linear, scan
from jaxseq.nn._layer import Layer, asked, causal, layer_of
from jaxseq.nn.attention._attention import SCORES, Attention, Memory
from jaxseq.nn.attention._transformer import CrossMemory
from jaxseq.nn.models._pooling import last_of
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel


class Seq2SeqCarry(NamedTuple):
    """The carry of decoding."""

    decoder: Carry
    memory: Memory | CrossMemory | None
    fed: jax.Array | None
    """The a_{t-1} of input feeding, `[B, H]`."""


class RecurrentDecoder(nnx.Module):
    """A causal layer or a cell, with optional attention and input feeding."""

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        features: int,
        encoder: Layer,
        *,
        attention: str | None,
        input_feeding: bool,
        kernel: Kernel | None,
        given: Given,
    ):
        if attention is not None:
            check.one_of("attention", attention, SCORES)
        if input_feeding and attention is None:
            raise ValueError("`input_feeding` needs `attention`, whose output it feeds back")
        size = getattr(cell, "size", 0)  # layer_of checks the cell
        features += size if input_feeding else 0
        self.layer = layer_of(cell, features, kernel=kernel, given=given, name="decoder")
        causal(self.layer, "decoder")
        self.input_feeding, self.size = input_feeding, self.layer.size
        self.summarise, summary = last_of(encoder)
        bridges = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.layer.initial_carry(())):
            bridges.append(linear(summary, leaf.size, given) if _is_told(path, leaf) else None)
        self.bridges = nnx.List(bridges)
        H, M = self.size, encoder.size
        self.attention = None if attention is None else Attention(H, M, score=attention, **given._asdict())
        self.join = None if attention is None else linear(H + M, H, given)

    def start(self, ys: jax.Array, mask: AnyArray | None) -> Seq2SeqCarry:
        """Returns the initial carry, given the encoder's outputs `[B, S, M]`."""
        batch, summary = ys.shape[:-2], self.summarise(ys, mask)
        leaves, tree = jax.tree.flatten(self.layer.initial_carry(batch))
        parts = [
            leaf if bridge is None else leaf + jnp.tanh(bridge(summary)).reshape(leaf.shape).astype(leaf.dtype)
            for bridge, leaf in zip(self.bridges, leaves, strict=True)
        ]
        memory = None if self.attention is None else self.attention.remember(ys, mask=mask)
        fed = jnp.zeros((*batch, self.size), ys.dtype) if self.input_feeding else None
        return Seq2SeqCarry(jax.tree.unflatten(tree, parts), memory, fed)

    def read(self, carry: Seq2SeqCarry, xs: jax.Array, mask, key) -> tuple[jax.Array, jax.Array | None]:
        """Returns the outputs `[B, L, H]` and the attention weights `[B, L, S]` for all inputs `[B, L, D]`."""
        if self.input_feeding:
            return self._read_feeding(carry, xs)
        ys = self.layer(xs, carry.decoder, mask=mask, key=key)
        return (ys, None) if self.attention is None else self._join(ys, carry.memory)

    def step(self, carry: Seq2SeqCarry, x: jax.Array) -> tuple[Seq2SeqCarry, jax.Array]:
        """Returns the next carry and the output `[B, H]`."""
        if self.input_feeding:
            return self._fed_step(carry, x)[:2]
        after, y = self.layer.step(carry.decoder, x)
        return carry._replace(decoder=after), y if self.attention is None else self._join(y, carry.memory)[0]

    def _read_feeding(self, carry, xs):
        time, start = xs.ndim - 2, (carry.decoder, carry.fed)
        _, (joined, weights) = scan(type(self)._feed, self, carry.memory, start, jnp.moveaxis(xs, time, 0))
        return jnp.moveaxis(joined, 0, time), jnp.moveaxis(weights, 0, time)

    def _feed(self, memory, carry, x):
        after, joined, weights = self._fed_step(Seq2SeqCarry(carry[0], memory, carry[1]), x)
        return (after.decoder, after.fed), (joined, weights)

    def _fed_step(self, carry, x):
        after, y = self.layer.step(carry.decoder, jnp.concatenate([x, carry.fed], axis=-1))
        joined, weights = self._join(y, carry.memory)
        return Seq2SeqCarry(after, carry.memory, joined), joined, weights

    def _join(self, ys, memory):
        assert self.attention is not None
        assert self.join is not None
        context, weights = self.attention(ys, memory)
        return jnp.tanh(self.join(jnp.concatenate([ys, context], axis=-1))), weights


class MemoryDecoder(nnx.Module):
    """A layer with `memory_features`, which attends to the memory itself: a Transformer."""

    def __init__(self, layer: Any, features: int, encoder: Layer, *, input_feeding: bool, given: Given):
        if input_feeding or layer.memory_features != encoder.size:
            raise ValueError(
                f"a Transformer as `decoder` must have memory_features={encoder.size}, the encoder's size, and no "
                f"input feeding; got memory_features={layer.memory_features}, input_feeding={input_feeding}"
            )
        layer_of(layer, features, kernel=None, given=given, name="decoder")  # raises if it does not fit
        causal(layer, "decoder")
        self.layer, self.size, self.attention = layer, layer.size, None

    def start(self, ys: jax.Array, mask: AnyArray | None) -> Seq2SeqCarry:
        """As in `RecurrentDecoder`."""
        carry = None if asked(self.layer, "max_length") is None else self.layer.initial_carry(ys.shape[:-2])
        return Seq2SeqCarry(carry, self.layer.remember(ys, mask=mask), None)

    def read(self, carry: Seq2SeqCarry, xs: jax.Array, mask, key) -> tuple[jax.Array, None]:
        """As in `RecurrentDecoder`, but without attention weights, which are inside the heads."""
        check_room(self.layer, "target", xs.shape[-2])
        return self.layer(xs, mask=mask, key=key, memory=carry.memory), None

    def step(self, carry: Seq2SeqCarry, x: jax.Array) -> tuple[Seq2SeqCarry, jax.Array]:
        """As in `RecurrentDecoder`."""
        memory = cast("CrossMemory", carry.memory)
        after, y = self.layer.step(carry.decoder, x, memory=memory)
        return carry._replace(decoder=after), y


def check_room(layer: Layer, name: str, steps: int) -> None:
    """Raises unless the layer of a decoder has room for the given number of steps."""
    room = asked(layer, "max_length")
    if room is not None and steps > room:
        raise ValueError(
            f"`{name}` is too long for the decoder: start and ids take {steps} steps, its `max_length` is {room}"
        )


def _is_told(path, leaf):
    """Returns whether the summary of the source is added to a leaf of the carry."""
    names = [key.name if hasattr(key, "name") else getattr(key, "key", None) for key in path[-1:]]
    is_named = any(isinstance(name, str) for name in names)
    return leaf.size > 0 and jnp.issubdtype(leaf.dtype, jnp.floating) and (not is_named or names[0] in ("h", "c"))
