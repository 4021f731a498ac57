"""Sequence to sequence (Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015; Vaswani et al. 2017).

    memory = encoder(source)            p(target | source) = Π_t p(y_t | y_1 … y_{t-1}, memory)

A recurrent decoder starts from tanh(W summary + b), for each part of its carry, of the encoder's outputs at a row's
ends. With attention its output h_t at step t asks the memory, and the logits are of what both say:

    context_t = attention(h_t, memory)        a_t = tanh(W [h_t, context_t] + b)

With input feeding a_{t-1} joins the input of step t. A Transformer as decoder looks at the memory in every block.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, decoding
from jaxseq.masking import keep
from jaxseq.nn._attention import Attention, Memory
from jaxseq.nn._compact import compact, gather
from jaxseq.nn._layers import Layer, causal, embed, embedding, layer_of, linear
from jaxseq.nn._pooling import last_of
from jaxseq.nn._transformer import CrossMemory, Transformer
from jaxseq.typing import Carry, Cell, Composite, Kernel


class Seq2SeqCarry(NamedTuple):
    """What a step of decoding goes on from."""

    decoder: Carry
    memory: Memory | CrossMemory | None
    fed: jax.Array | None
    """What input feeding feeds, `[B, H]`."""


class Seq2Seq(nnx.Module):
    """Encoder and decoder: the probability of one sequence of ids given another.

    Args:
      encoder: a Cell or Composite, such as `jaxseq.bidirectional(jaxseq.gru(64))`, or an `nn.Layer`.
      decoder: a causal Cell or Composite, or `nn.Transformer(..., memory_features=<the encoder's size>)`.
      source_vocabulary, target_vocabulary: how many ids there are.
      features: D, of the embeddings of both, which encoder and decoder are fed.
      start, end: the ids of the target's vocabulary that stand before and after a sequence.
      attention: "additive", "general", "dot", or None, of a recurrent decoder.
      input_feeding: feed what attention has made of a step into the next.
      kernel, param_dtype: as in `nn.Recurrent`.
      rngs: draws the params.

    Raises:
      TypeError, ValueError: an argument does not fit, or the decoder is not causal.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> encoder, decoder = jaxseq.bidirectional(jaxseq.gru(8)), jaxseq.gru(8)
    >>> options = {"source_vocabulary": 30, "target_vocabulary": 20, "features": 8, "start": 1, "end": 2}
    >>> model = nn.Seq2Seq(encoder, decoder, **options, rngs=nnx.Rngs(0))
    >>> source, target = jnp.array([[5, 9, 2], [7, 3, 0]]), jnp.array([[4, 4], [6, 0]])
    >>> source_mask, target_mask = source > 0, target > 0
    >>> model.loss(source, target, source_mask=source_mask, target_mask=target_mask).shape
    (2,)
    >>> model.generate(source, 10, source_mask=source_mask).tokens.shape
    (2, 10)
    """

    def __init__(
        self,
        encoder: Cell | Composite | Layer,
        decoder: Cell | Composite | Layer,
        *,
        source_vocabulary: int,
        target_vocabulary: int,
        features: int,
        start: int,
        end: int,
        attention: str | None = "additive",
        input_feeding: bool = False,
        kernel: Kernel | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        V = check.positive_int("target_vocabulary", target_vocabulary)
        for name, token in (("start", start), ("end", end)):
            if check.natural(name, token) >= V:
                raise ValueError(f"`{name}` must be one of the V = {V} ids of the target, 0 to {V - 1}; got {token}")
        check.one_of("input_feeding", input_feeding, (True, False))
        self.start, self.end, self.input_feeding = start, end, bool(input_feeding)
        self.encoder = layer_of(encoder, features, kernel=kernel, param_dtype=param_dtype, rngs=rngs)
        self.source_embedding = embedding(source_vocabulary, features, param_dtype, rngs)
        self.target_embedding = embedding(V, features, param_dtype, rngs)
        self.summarise, summary = last_of(self.encoder)
        looks = isinstance(decoder, Transformer)
        if looks and (input_feeding or decoder.memory_features != self.encoder.size):
            raise ValueError(
                f"a Transformer as `decoder` must have memory_features={self.encoder.size}, the encoder's size, and no "
                f"input feeding; got memory_features={decoder.memory_features}, input_feeding={input_feeding}"
            )
        if input_feeding and attention is None:
            raise ValueError("`input_feeding` feeds what attention has made of a step; there is no `attention`")
        fed = features + (decoder.size if input_feeding else 0)
        self.decoder = layer_of(decoder, fed, kernel=kernel, param_dtype=param_dtype, rngs=rngs)
        causal(self.decoder, "decoder")
        H = self.decoder.size
        options = {"param_dtype": param_dtype, "rngs": rngs}
        attention = None if looks else attention
        self.attention = None if attention is None else Attention(H, self.encoder.size, score=attention, **options)
        self.join = None if self.attention is None else linear(H + self.encoder.size, H, param_dtype, rngs)
        parts = [] if looks else [leaf.size for leaf in jax.tree.leaves(self.decoder.initial_carry(()))]
        self.bridge = nnx.List([linear(summary, size, param_dtype, rngs) for size in parts])
        self.head = linear(H, V, param_dtype, rngs)

    def __call__(
        self,
        source: jax.Array,
        target: jax.Array,
        *,
        source_mask: jax.Array | None = None,
        target_mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the logits `[B, L + 1, V]` of each id of the target, and of the end, given those before.

        Arguments as for `loss`; those after a row's end mean nothing.
        """
        inputs, _, mask = self._taught(target, target_mask)
        return self._logits(source, source_mask, inputs, mask, key)

    def loss(
        self,
        source: jax.Array,
        target: jax.Array,
        *,
        source_mask: jax.Array | None = None,
        target_mask: jax.Array | None = None,
        key: jax.Array | None = None,
        sampled: float | jax.Array = 0.0,
        smoothing: float = 0.0,
    ) -> jax.Array:
        """Returns -log p(target, end | source) `[B]`, in nats, summed over the L + 1 ids of a row.

        Args:
          source: int `[B, S]`.
          target: int `[B, L]`, without start and end.
          source_mask, target_mask: bool `[B, S]`, `[B, L]`, True on real ids, of any pattern.
          key: a key for dropout, and for `sampled`; None: no noise.
          sampled: scheduled sampling (Bengio et al. 2015): how probable it is that a step is fed what the model itself
            says of the step before, drawn, in place of the target. The steps are then made one by one, without dropout.
          smoothing: the share of what is taught that is spread evenly over all V ids (Szegedy et al. 2016).

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        inputs, outputs, mask = self._taught(target, target_mask)
        smoothing = check.rate("smoothing", smoothing)
        if isinstance(sampled, float | int) and sampled == 0:
            logits = self._logits(source, source_mask, inputs, mask, key)
        else:
            logits = self._sampled(source, source_mask, inputs, key, sampled)
        log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
        taught = jnp.take_along_axis(log_p, outputs[..., None], axis=-1)[..., 0]
        if smoothing:
            taught = (1 - smoothing) * taught + smoothing * jnp.mean(log_p, axis=-1)
        return -jnp.sum(keep(mask, taught), axis=-1)

    def encode(self, source: jax.Array, *, mask: jax.Array | None = None, key: jax.Array | None = None) -> Seq2SeqCarry:
        """Returns the carry that decoding begins with.

        Args:
          source: int `[B, S]`.
          mask: bool `[B, S]`, True on real ids, of any pattern.
          key: a key for dropout; None: none.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        ys = self.encoder(embed(self.source_embedding, "source", "B, S", source, mask), mask=mask, key=key)
        batch = ys.shape[:-2]
        if isinstance(self.decoder, Transformer):
            return Seq2SeqCarry(self.decoder.initial_carry(batch), self.decoder.remember(ys, mask=mask), None)
        summary = self.summarise(ys, mask)
        leaves, tree = jax.tree.flatten(self.decoder.initial_carry(batch))
        parts = [
            jnp.tanh(layer(summary)).reshape(leaf.shape).astype(leaf.dtype)
            for layer, leaf in zip(self.bridge, leaves, strict=True)
        ]
        memory = None if self.attention is None else self.attention.remember(ys, mask=mask)
        fed = jnp.zeros((*batch, self.decoder.size), ys.dtype) if self.input_feeding else None
        return Seq2SeqCarry(jax.tree.unflatten(tree, parts), memory, fed)

    def step(self, carry: Seq2SeqCarry, token: jax.Array) -> tuple[Seq2SeqCarry, jax.Array]:
        """Returns the next carry, and the logits `[B, V]` after one id a row, int `[B]`; for `decoding`."""
        x = embed(self.target_embedding, "token", "B", token)
        after, ys = self._step(carry, x)
        return after, self.head(ys)

    def generate(
        self,
        source: jax.Array,
        max_length: int,
        *,
        source_mask: jax.Array | None = None,
        decode: Callable[..., decoding.Decoded] = decoding.greedy,
    ) -> decoding.Decoded:
        """Returns `Decoded(tokens, lengths, scores)`, tokens `[B, max_length]`. Put it under `nnx.jit`.

        Args:
          source, source_mask: as for `loss`.
          max_length: the most ids to write, with the end.
          decode: a function of `jaxseq.decoding`, with its options bound, such as
            `functools.partial(decoding.beam_search, size=4)`, whose tokens are `[B, max_length, 4]`, or
            `functools.partial(decoding.sample, key, top_p=0.9)`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        carry = self.encode(source, mask=source_mask)
        start = jnp.full(jnp.shape(source)[:-1], self.start, jnp.int32)
        found = decode(self.step, carry, start, max_length=max_length, end=self.end)
        return found._replace(tokens=jnp.moveaxis(found.tokens, 0, start.ndim))

    def alignments(
        self,
        source: jax.Array,
        target: jax.Array,
        *,
        source_mask: jax.Array | None = None,
        target_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the weights of attention `[B, L + 1, S]`: where each id of the target, and the end, looks.

        Arguments as for `loss`; those after a row's end mean nothing.

        Raises:
          ValueError: there is no attention, or it is in a Transformer's heads.
        """
        if self.attention is None:
            raise ValueError("only a recurrent decoder with attention has alignments")
        inputs, _, mask = self._taught(target, target_mask)
        weights = self._read(self.encode(source, mask=source_mask), inputs, mask, None)[1]
        assert weights is not None
        return weights

    def _logits(self, source, source_mask, inputs, mask, key):
        keys = (None, None) if key is None else jax.random.split(key)
        carry = self.encode(source, mask=source_mask, key=keys[0])
        return self._read(carry, inputs, mask, keys[1])[0]

    def _read(self, carry, inputs, mask, key):
        """The logits after each id, and the weights of attention."""
        xs = embed(self.target_embedding, "target", "B, L", inputs, mask)
        if isinstance(self.decoder, Transformer):
            ys = self.decoder(xs, mask=mask, key=key, memory=carry.memory)
            return self.head(ys), None
        if self.input_feeding:
            return self._read_feeding(carry, xs)
        ys = self.decoder(xs, carry.decoder, mask=mask, key=key)
        if self.attention is None:
            return self.head(ys), None
        joined, weights = self._join(ys, carry.memory)
        return self.head(joined), weights

    def _read_feeding(self, carry, xs):
        def advance(carry, x):
            after, joined, weights = self._fed_step(Seq2SeqCarry(carry[0], memory, carry[1]), x)
            return (after.decoder, after.fed), (joined, weights)

        memory, time = carry.memory, xs.ndim - 2
        _, (joined, weights) = jax.lax.scan(advance, (carry.decoder, carry.fed), jnp.moveaxis(xs, time, 0))
        return self.head(jnp.moveaxis(joined, 0, time)), jnp.moveaxis(weights, 0, time)

    def _step(self, carry, x):
        if isinstance(self.decoder, Transformer):
            after, y = self.decoder.step(carry.decoder, x, memory=carry.memory)
            return carry._replace(decoder=after), y
        if self.input_feeding:
            return self._fed_step(carry, x)[:2]
        after, y = self.decoder.step(carry.decoder, x)
        return carry._replace(decoder=after), y if self.attention is None else self._join(y, carry.memory)[0]

    def _fed_step(self, carry, x):
        after, y = self.decoder.step(carry.decoder, jnp.concatenate([x, carry.fed], axis=-1))
        joined, weights = self._join(y, carry.memory)
        return Seq2SeqCarry(after, carry.memory, joined), joined, weights

    def _join(self, ys, memory):
        assert self.attention is not None
        assert self.join is not None
        context, weights = self.attention(ys, memory)
        return jnp.tanh(self.join(jnp.concatenate([ys, context], axis=-1))), weights

    def _sampled(self, source, source_mask, inputs, key, sampled):
        check.given_key(key)

        def advance(state, step):
            carry, said = state
            token, key, first = step
            keys = jax.random.split(key)
            own = jax.random.bernoulli(keys[0], sampled, token.shape) & ~first
            carry, logits = self.step(carry, jnp.where(own, said, token))
            return (carry, jax.random.categorical(keys[1], jax.lax.stop_gradient(logits)).astype(token.dtype)), logits

        carry, tokens = self.encode(source, mask=source_mask), jnp.moveaxis(inputs, -1, 0)
        steps = tokens, jax.random.split(key, len(tokens)), jnp.arange(len(tokens)) == 0
        _, logits = jax.lax.scan(advance, (carry, tokens[0]), steps)
        return jnp.moveaxis(logits, 0, -2)

    def _taught(self, target, mask):
        """What the decoder is fed and what it should say, int32 `[B, L + 1]`, and which of that is real."""
        target = check.integers("target", "B, L", target)
        mask = check.flags("target_mask", mask, target.shape, "B, L")
        *batch, L = target.shape
        lengths = jnp.full(batch, L, jnp.int32)
        if mask is not None:
            order, _, lengths = compact(mask)
            target = gather(jnp.where(mask, target, 0), order)
        target = target.astype(jnp.int32)
        edge = jnp.full((*batch, 1), self.start, jnp.int32)
        place = jnp.arange(L + 1)
        outputs = jnp.where(place == lengths[..., None], self.end, jnp.concatenate([target, edge], axis=-1))
        return jnp.concatenate([edge, target], axis=-1), outputs, place <= lengths[..., None]
