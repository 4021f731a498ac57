"""Language modelling: logits of the next id at every step, and text drawn from them."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check, decoding
from jaxseq.nn._layers import causal, embed, embedding, linear, some_steps
from jaxseq.nn._pooling import last_pool
from jaxseq.nn._recurrent import Recurrent
from jaxseq.typing import Carry, Cell, Composite, Kernel


class LanguageModel(nnx.Module):
    """Embedding, causal recurrent layer, output layer: logits of the next id after each step.

    Args:
      cell: a Cell or a causal Composite; dropout is the cell's: `jaxseq.dropout(cell, inputs=0.2, outputs=0.5)`.
      vocabulary: V, the number of ids.
      features: D, of the embeddings.
      tied: use the embedding as the output layer too (Press & Wolf 2017), behind a linear layer from H to D where
        these differ.
      kernel, param_dtype: as in `nn.Recurrent`.
      rngs: draws the params.

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
        cell: Cell | Composite,
        vocabulary: int,
        features: int,
        *,
        tied: bool = False,
        kernel: Kernel | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        causal(cell)
        check.one_of("tied", tied, (True, False))
        self.recurrent = Recurrent(cell, features, kernel=kernel, param_dtype=param_dtype, rngs=rngs)
        self.embedding = embedding(vocabulary, features, param_dtype, rngs)
        self.tied = tied
        out = features if tied else vocabulary
        self.head = None if tied and cell.size == features else linear(cell.size, out, param_dtype, rngs)

    def __call__(
        self,
        ids: jax.Array,
        carry: Carry | None = None,
        *,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the logits after each step, `[B, T, V]`; arguments are those of `unroll`."""
        return self.unroll(ids, carry, mask=mask, reset=reset, key=key)[1]

    def unroll(
        self,
        ids: jax.Array,
        carry: Carry | None = None,
        *,
        mask: jax.Array | None = None,
        reset: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry, and the logits after each step, `[B, T, V]`.

        Args:
          ids: int `[B, T]`; on padding they may be anything.
          carry, mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        xs = embed(self.embedding, "ids", "B, T", ids, mask)
        carry, ys = self.recurrent.unroll(xs, carry, mask=mask, reset=reset, key=key)
        return carry, self._logits(ys)

    def step(self, carry: Carry | None, ids: jax.Array, *, reset: jax.Array | None = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry, and the logits `[B, V]` after one id a row.

        Args:
          carry: the carry so far; None starts a sequence.
          ids: int `[B]`.
          reset: bool `[B]`, True where a new sequence starts with this step.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        carry, y = self.recurrent.step(carry, embed(self.embedding, "ids", "B", ids), reset=reset)
        return carry, self._logits(y)

    def generate(
        self,
        prompt: jax.Array,
        length: int,
        *,
        key: jax.Array | None = None,
        mask: jax.Array | None = None,
        carry: Carry | None = None,
        temperature: float | jax.Array = 1.0,
        top_k: int | None = None,
        top_p: float | jax.Array | None = None,
    ) -> jax.Array:
        """Returns what the model writes after each prompt, ids `[B, length]`. Put it under `nnx.jit`.

        Args:
          prompt: int `[B, P]`.
          length: how many ids to draw.
          key: a key; None where `temperature` is 0, which draws nothing.
          mask: bool `[B, P]`, for prompts of different lengths, padded on either side; each row needs a real step.
          carry: the carry to start the prompt from; None: the initial one.
          temperature, top_k, top_p: see `jaxseq.decoding.filter_logits`; temperature 0 is greedy.

        Raises:
          TypeError, ValueError: an argument does not fit, or the prompt is empty.
        """
        length = check.positive_int("length", length)
        check.random_key(key)
        xs = embed(self.embedding, "prompt", "B, P", prompt, mask)
        some_steps("prompt", xs.shape[-2])
        carry, ys = self.recurrent.unroll(xs, carry, mask=mask)

        def write(state, key):
            carry, logits = state
            ids = decoding.sample(key, logits, temperature=temperature, top_k=top_k, top_p=top_p)
            return self.step(carry, ids), ids

        keys = None if key is None else jax.random.split(key, length)
        _, ids = jax.lax.scan(write, (carry, self._logits(last_pool(ys, mask))), keys, length)
        return jnp.moveaxis(ids, 0, -1)

    def _logits(self, ys):
        ys = ys if self.head is None else self.head(ys)
        return self.embedding.attend(ys) if self.tied else ys
