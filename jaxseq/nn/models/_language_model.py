"""Language modelling: logits of the next id at every step, and generation of text."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, decoding
from jaxseq._promote import expand_rank
from jaxseq.nn._call import Module
from jaxseq.nn._flax import embedding, given, linear
from jaxseq.nn._ids import check_ids, embed
from jaxseq.nn._layer import Layer, asked, causal, layer_of, some_steps
from jaxseq.nn.models._ngrams import NGramEmbedding, NGrams
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel, Shape


class LanguageCarry(NamedTuple):
    """The carry of a language model with n-grams."""

    recurrent: Carry
    recent: jax.Array  # int32 [B, n - 1], the last ids


class LanguageModel(Module):
    """An embedding, a causal recurrent layer and an output layer: logits of the next id after each step.

    Args:
      cell: a causal Cell, Composite or `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      vocabulary: V, the number of ids.
      features: D, the features of the embeddings.
      tied: whether the embedding is also the output layer (Press & Wolf 2017). If H is not D, a linear layer from H to
        D comes before it.
      ngrams: `nn.NGrams(orders)`: embeddings of the last ids that are appended to the inputs and the outputs of the
        recurrent layer (Mikolov et al. 2011). They improve predictions for little computation, but need a large table
        of parameters. The carry is then a `LanguageCarry`. None: no n-grams.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit, or the net is not causal.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.LanguageModel(jaxseq.lstm(8), 50, 8, tied=True, rngs=nnx.Rngs(0))
    >>> prompt = jnp.array([[3, 1, 4], [1, 5, 9]])
    >>> model(prompt).shape
    (2, 3, 50)
    >>> model.generate(prompt, 10, key=jax.random.key(0), top_p=0.9).shape
    (2, 10)
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        vocabulary: int,
        features: int,
        *,
        tied: bool = False,
        ngrams: NGrams | None = None,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check.one_of("tied", tied, (True, False))
        own, features = given(dtype, param_dtype, rngs), check.positive_int("features", features)
        self.ngrams = None if ngrams is None else NGramEmbedding(ngrams, own)
        extra = 0 if self.ngrams is None else self.ngrams.size
        self.recurrent = layer_of(cell, features + extra, kernel=kernel, given=own)
        causal(self.recurrent)
        self.embedding = embedding(vocabulary, features, own)
        self.tied = tied
        out = features if tied else vocabulary
        in_features = self.recurrent.size + extra
        self.head = None if tied and in_features == features else linear(in_features, out, own)

    def initial_carry(self, batch_shape: Shape = ()) -> Carry:
        """Returns the initial carry."""
        carry = self.recurrent.initial_carry(batch_shape)
        return carry if self.ngrams is None else LanguageCarry(carry, self.ngrams.initial_carry(batch_shape))

    def __call__(
        self,
        ids: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the logits after each step, `[B, T, V]`; arguments as for `unroll`."""
        return self.unroll(ids, carry, mask=mask, reset=reset, key=key)[1]

    def unroll(
        self,
        ids: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry and the logits after each step, `[B, T, V]`.

        Args:
          ids: int `[B, T]`; ids on padding are ignored. An id out of range gives NaN from its step on.
          carry, mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        carry, ys = self._unroll("ids", "B, T", ids, carry, mask, reset, key)
        return carry, self._logits(ys)

    def step(self, carry: Carry | None, ids: AnyArray, *, reset: AnyArray | None = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry and the logits `[B, V]` after reading one id per row.

        Args:
          carry: the carry before the step. None: a new sequence starts.
          ids: int `[B]`; one out of range gives NaN.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        x = embed(self.embedding, self.recurrent, "ids", "B", ids)
        if self.ngrams is None:
            carry, y = self.recurrent.step(carry, x, reset=reset)
            return carry, self._logits(y)
        carry, recent = _parts(carry)
        reset = check.flags("reset", reset, x.shape[:-1], "B")
        recent, grams = self.ngrams.step(jnp.asarray(ids), recent, reset)
        carry, y = self.recurrent.step(carry, jnp.concatenate([x, grams], axis=-1), reset=reset)
        return LanguageCarry(carry, recent), self._logits(jnp.concatenate([y, grams], axis=-1))

    def read(self, carry: Carry, tokens: AnyArray) -> tuple[jax.Array, Callable[[jax.Array], Carry]]:
        """Returns logits `[n, B, V]` after each of the tokens `[n, B]`, and a function that rewinds the carry.

        The function is `after(count int32 [B])`, which returns the carry after the first `count` tokens. This is the
        `read` of `decoding.speculative`. It needs a layer with `rewind`, such as `nn.Transformer`. For recurrent layers
        leave `read` out; `speculative` then runs their steps.

        Raises:
          TypeError, ValueError: an argument does not fit, the layer cannot rewind, or the model has n-grams.
        """
        rewind = asked(self.recurrent, "rewind")
        if rewind is None or self.ngrams is not None or carry is None:
            raise ValueError(
                "`read` needs a carry, and a model without n-grams whose layer has `rewind`, such as nn.Transformer; "
                "leave `read` out of decoding.speculative"
            )
        ids = jnp.moveaxis(check_ids("tokens", "n, B", tokens), 0, -1)
        last, logits = self.unroll(ids, carry)
        return jnp.moveaxis(logits, -2, 0), lambda count: rewind(last, len(tokens) - count)

    def generate(
        self,
        prompt: AnyArray,
        length: int,
        *,
        key: jax.Array | None = None,
        mask: AnyArray | None = None,
        carry: Carry | None = None,
        end: int | None = None,
        temperature: float | AnyArray = 1.0,
        top_k: int | None = None,
        top_p: float | AnyArray | None = None,
        typical: float | AnyArray | None = None,
    ) -> jax.Array:
        """Returns the generated ids after each prompt, `[B, length]`; use it under `nnx.jit`.

        This is `decoding.sample` from the prompt's last id on. `step` works with all functions of `decoding`.

        Args:
          prompt: int `[B, P]`.
          length: the number of ids to generate.
          key: a random key; may be None if `temperature` is 0, since nothing is drawn then.
          mask: bool `[B, P]`, for prompts of different lengths, padded on either side; each row needs a real step.
          carry: the initial carry of the prompt. None: that of the model.
          end: the id that ends a row; after it the row is -1. None: rows do not end. A row also ends if its logits are
            NaN: after an id out of range, or, with a mask or a carry, after a Transformer's `max_length`.
          temperature, top_k, top_p, typical: see `jaxseq.decoding.filter_logits`; temperature 0 is greedy.

        Raises:
          TypeError, ValueError: an argument does not fit, or the prompt is empty.
        """
        length, prompt = check.positive_int("length", length), check_ids("prompt", "B, P", prompt)
        mask = check.flags("mask", mask, prompt.shape, "B, P")
        some_steps("prompt", prompt.shape[-1])
        if mask is None:
            before, last = prompt[..., :-1], prompt[..., -1]
        else:
            places = expand_rank(jnp.arange(prompt.shape[-1]), prompt)
            place = jnp.max(jnp.where(mask, places, 0), axis=-1, keepdims=True)
            before, last = prompt, jnp.take_along_axis(prompt, place, axis=-1)[..., 0]
            mask &= places != place
        room = asked(self.recurrent, "max_length")
        if room is not None and carry is None and mask is None and prompt.shape[-1] + length - 1 > room:
            raise ValueError(
                f"`length`: a prompt of {prompt.shape[-1]} and {length} more ids, of which the last needs no place, do "
                f"not fit into the {room} steps of `max_length`"
            )
        carry = self._unroll("prompt", "B, P", before, carry, mask)[0]
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "typical": typical}
        tokens = decoding.sample(key, self.step, carry, last, max_length=length, end=end, **options).tokens
        return jnp.moveaxis(tokens, 0, -1)

    def _unroll(self, name, axes, ids, carry, mask=None, reset=None, key=None):
        """Returns the last carry and the inputs of the output layer."""
        xs = embed(self.embedding, self.recurrent, name, axes, ids, mask)
        if self.ngrams is None:
            return self.recurrent.unroll(xs, carry, mask=mask, reset=reset, key=key)
        carry, recent = _parts(carry)
        mask, reset = (check.flags(name, f, xs.shape[:-1], axes) for name, f in (("mask", mask), ("reset", reset)))
        recent, grams = self.ngrams.unroll(jnp.asarray(ids), recent, mask, reset)
        carry, ys = self.recurrent.unroll(jnp.concatenate([xs, grams], axis=-1), carry, mask=mask, reset=reset, key=key)
        return LanguageCarry(carry, recent), jnp.concatenate([ys, grams], axis=-1)

    def _logits(self, ys):
        ys = ys if self.head is None else self.head(ys)
        return self.embedding.attend(ys) if self.tied else ys


def _parts(carry):
    """Returns the two carries of a model with n-grams."""
    if carry is not None and not isinstance(carry, LanguageCarry):
        raise TypeError(
            f"`carry` must be the nn.LanguageCarry that a model with n-grams returns; got {type(carry).__name__}"
        )
    return (None, None) if carry is None else carry
