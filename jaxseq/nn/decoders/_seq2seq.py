"""Sequence to sequence (Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015; Vaswani et al. 2017).

    memory = encoder(source)            p(target | source) = Π_t p(y_t | y_1 … y_{t-1}, memory)

Encoder and decoder may be any layers. `_decoders` tells how a decoder starts and attends to the memory.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, decoding
from jaxseq._promote import expand_rank, widen
from jaxseq.masking import keep
from jaxseq.nn._call import Module
from jaxseq.nn._compact import compact, gather
from jaxseq.nn._flax import embedding, given, linear, scan
from jaxseq.nn._ids import check_ids, embed
from jaxseq.nn._layer import Layer, asked, layer_of
from jaxseq.nn.decoders._decoders import MemoryDecoder, RecurrentDecoder, Seq2SeqCarry, check_room
from jaxseq.typing import AnyArray, Cell, Composite, Kernel


class Seq2Seq(Module):
    """An encoder and a decoder, which model the probability of one sequence of ids given another.

    Args:
      encoder: a Cell or Composite, such as `jaxseq.bidirectional(jaxseq.gru(64))`, or an `nn.Layer`. An encoder with
        rotary positions does not tell the decoder where in the memory a step is, since these act only inside its own
        attention.
      decoder: a causal Cell or Composite; or `nn.Transformer(..., memory_features=<the encoder's size>)`, with a
        `max_length` of at least one more than the longest target.
      source_vocabulary, target_vocabulary: the numbers of ids.
      features: D, the features of both embeddings, which encoder and decoder read.
      start, end: the ids in the target's vocabulary that come before and after a sequence.
      attention: the attention of a recurrent decoder: "additive", "general", "dot" or None.
      input_feeding: whether to feed the attention output of a step into the next step. Steps then run one by one,
        without the decoder's own dropout.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

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
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        V = check.positive_int("target_vocabulary", target_vocabulary)
        for name, token in (("start", start), ("end", end)):
            if check.natural(name, token) >= V:
                raise ValueError(f"`{name}` must be one of the V = {V} ids of the target, 0 to {V - 1}; got {token}")
        check.one_of("input_feeding", input_feeding, (True, False))
        self.start, self.end = start, end
        own, features = given(dtype, param_dtype, rngs), check.positive_int("features", features)
        self.encoder = layer_of(encoder, features, kernel=kernel, given=own, name="encoder")
        if asked(self.encoder, "memory_features") is not None:
            raise ValueError("`encoder` must have no `memory_features`, because it reads only the source")
        self.source_embedding = embedding(source_vocabulary, features, own, "source_vocabulary")
        self.target_embedding = embedding(V, features, own)
        feeds = {"input_feeding": bool(input_feeding), "given": own}
        if hasattr(decoder, "memory_features"):
            self.decoder = MemoryDecoder(decoder, features, self.encoder, **feeds)
        else:
            feeds |= {"attention": attention, "kernel": kernel}
            self.decoder = RecurrentDecoder(decoder, features, self.encoder, **feeds)
        self.head = linear(self.decoder.size, V, own)

    def __call__(
        self,
        source: AnyArray,
        target: AnyArray,
        *,
        source_mask: AnyArray | None = None,
        target_mask: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the logits `[B, L + 1, V]` of each id of the target and of the end, given the ids before it.

        Arguments as for `loss`. Logits after the end of a row have no meaning.
        """
        inputs, _, mask = self._taught(target, target_mask)
        return self._logits(source, source_mask, inputs, mask, key)

    def loss(
        self,
        source: AnyArray,
        target: AnyArray,
        *,
        source_mask: AnyArray | None = None,
        target_mask: AnyArray | None = None,
        key: jax.Array | None = None,
        sampled: float | jax.Array = 0.0,
        smoothing: float = 0.0,
    ) -> jax.Array:
        """Returns -log p(target, end | source) `[B]`, in nats, summed over the L + 1 ids of a row.

        Args:
          source: int `[B, S]`; a row with an id out of range gives NaN.
          target: int `[B, L]`, without start and end; a row with an id out of range gives NaN.
          source_mask, target_mask: bool `[B, S]` and `[B, L]`, True where an id is real, in any pattern.
          key: a random key for dropout and for `sampled`. None: no noise.
          sampled: the probability of scheduled sampling (Bengio et al. 2015): that a step reads an id drawn from the
            model's own prediction instead of the target's id. Steps then run one by one, without dropout.
          smoothing: label smoothing, the fraction of the target that is spread evenly over all V ids (Szegedy et al.
            2016).

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        inputs, outputs, mask = self._taught(target, target_mask)
        smoothing = check.rate("smoothing", smoothing)
        if not isinstance(sampled, jax.Array):
            sampled = check.probability("sampled", sampled)
        sampled = check.number("sampled", sampled, "in [0, 1]", lambda p: 0 <= p <= 1)
        if not isinstance(sampled, jax.Array) and sampled == 0:
            logits = self._logits(source, source_mask, inputs, mask, key)
        else:
            logits = self._sampled(source, source_mask, inputs, key, sampled)
        log_p = jax.nn.log_softmax(logits.astype(widen(logits.dtype)))
        taught = jnp.take_along_axis(log_p, outputs[..., None], axis=-1)[..., 0]
        if smoothing:
            taught = (1 - smoothing) * taught + smoothing * jnp.mean(log_p, axis=-1)
        return -jnp.sum(keep(mask, taught), axis=-1)

    def encode(self, source: AnyArray, *, mask: AnyArray | None = None, key: jax.Array | None = None) -> Seq2SeqCarry:
        """Returns the initial carry of decoding.

        Args:
          source: int `[B, S]`.
          mask: bool `[B, S]`, True where an id is real, in any pattern.
          key: a random key for dropout. None: no dropout.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        check.random_key(key)
        ys = self.encoder(
            embed(self.source_embedding, self.encoder, "source", "B, S", source, mask), mask=mask, key=key
        )
        return self.decoder.start(ys, mask)

    def step(self, carry: Seq2SeqCarry, token: AnyArray) -> tuple[Seq2SeqCarry, jax.Array]:
        """Returns the next carry and the logits `[B, V]` after reading one id per row, int `[B]`; for `decoding`."""
        if not isinstance(carry, Seq2SeqCarry):
            raise TypeError(f"`carry` must be what `encode` or `step` returned; got {type(carry).__name__}")
        x = embed(self.target_embedding, self.decoder.layer, "token", "B", token)
        after, y = self.decoder.step(carry, x)
        return after, self.head(y)

    def generate(
        self,
        source: AnyArray,
        max_length: int,
        *,
        source_mask: AnyArray | None = None,
        decode: Callable[..., decoding.Decoded] = decoding.greedy,
    ) -> decoding.Decoded:
        """Returns the decoded target, `Decoded(tokens [B, max_length], lengths, scores, log_probs)`; use `nnx.jit`.

        Args:
          source, source_mask: as for `loss`.
          max_length: the greatest number of ids, including the end.
          decode: a function of `jaxseq.decoding` with its options bound, such as
            `functools.partial(decoding.beam_search, size=4)`, whose tokens are `[B, max_length, 4]`, or
            `functools.partial(decoding.sample, key, top_p=0.9)`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        check_room(self.decoder.layer, "max_length", check.positive_int("max_length", max_length))
        if not (callable(decode) and check.takes(decode, 3, ("max_length", "end"))):
            raise TypeError(f"`decode` must be a function such as decoding.greedy; got {check.short(decode)}")
        carry = self._encoded(source, source_mask)
        start = jnp.full(jnp.shape(source)[:-1], self.start, jnp.int32)
        found = decode(self.step, carry, start, max_length=max_length, end=self.end)
        return found._replace(tokens=jnp.moveaxis(found.tokens, 0, start.ndim))

    def alignments(
        self,
        source: AnyArray,
        target: AnyArray,
        *,
        source_mask: AnyArray | None = None,
        target_mask: AnyArray | None = None,
    ) -> jax.Array:
        """Returns the attention weights `[B, L + 1, S]` of each id of the target, and of the end, on the source.

        Arguments as for `loss`. Weights after the end of a row have no meaning.

        Raises:
          ValueError: there is no attention, or it is inside the heads of a Transformer.
        """
        if self.decoder.attention is None:
            raise ValueError("only a recurrent decoder with attention has alignments")
        inputs, _, mask = self._taught(target, target_mask)
        weights = self._read(self._encoded(source, source_mask, None, inputs), inputs, mask, None)[1]
        assert weights is not None
        return weights

    def _logits(self, source, source_mask, inputs, mask, key):
        check.random_key(key)
        keys = (None, None) if key is None else jax.random.split(key)
        carry = self._encoded(source, source_mask, keys[0], inputs)
        return self.head(self._read(carry, inputs, mask, keys[1])[0])

    def _encoded(self, source, mask, key=None, inputs=None):
        source = check_ids("source", "B, S", source)
        mask = check.flags("source_mask", mask, source.shape, "B, S")
        if inputs is not None and source.shape[:-1] != inputs.shape[:-1]:
            raise ValueError(
                f"`source` and `target` must have the same batch; got {source.shape[:-1]} and {inputs.shape[:-1]}"
            )
        return self.encode(source, mask=mask, key=key)

    def _read(self, carry, inputs, mask, key):
        """Returns the decoder's outputs and the attention weights."""
        xs = embed(self.target_embedding, self.decoder.layer, "target", "B, L", inputs, mask)
        return self.decoder.read(carry, xs, mask, key)

    def _sampled(self, source, source_mask, inputs, key, sampled):
        check.given_key(key)
        carry, tokens = self._encoded(source, source_mask, None, inputs), jnp.moveaxis(inputs, -1, 0)
        steps = tokens, jax.random.split(key, len(tokens)), jnp.arange(len(tokens)) == 0
        _, logits = scan(Seq2Seq._sample, self, sampled, (carry, tokens[0]), steps)
        return jnp.moveaxis(logits, 0, -2)

    def _sample(self, sampled, state, step):
        (carry, said), (token, key, first) = state, step
        keys = jax.random.split(key)
        own = jax.random.bernoulli(keys[0], sampled, token.shape) & ~first
        carry, logits = self.step(carry, jnp.where(own, said, token))
        return (carry, jax.random.categorical(keys[1], jax.lax.stop_gradient(logits)).astype(token.dtype)), logits

    def _taught(self, target, mask):
        """Returns the decoder's inputs and its targets, int32 `[B, L + 1]`, and the mask of real targets."""
        target = check.integers("target", "B, L", target)
        mask = check.flags("target_mask", mask, target.shape, "B, L")
        *batch, L = target.shape
        lengths = jnp.full(batch, L, jnp.int32)
        if mask is not None:
            order, _, lengths = compact(mask)
            target = gather(jnp.where(mask, target, 0), order)
        V = self.target_embedding.num_embeddings
        target = jnp.where((target < 0) | (target >= V), V, target).astype(jnp.int32)  # V is out of range and gives NaN
        edge = jnp.full((*batch, 1), self.start, jnp.int32)
        lengths = lengths[..., None]
        place = expand_rank(jnp.arange(L + 1, dtype=lengths.dtype), lengths)
        outputs = jnp.where(place == lengths, self.end, jnp.concatenate([target, edge], axis=-1))
        return jnp.concatenate([edge, target], axis=-1), outputs, place <= lengths
