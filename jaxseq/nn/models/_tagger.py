"""Sequence tagging: one of K tags for each step."""

import jax
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import given, linear, optional_embedding
from jaxseq.nn._layer import Layer, layer_of
from jaxseq.nn.models._streams import PerStep
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel


class SequenceTagger(PerStep):
    """An embedding (for ids), a recurrent layer and a linear layer: one row of logits per step.

    Args:
      cell: a Cell, a Composite or an `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      in_features: D, the features of the inputs, or of the embeddings of ids.
      tags: K, the number of tags.
      vocabulary: the number of ids. None: inputs are floats, not ids.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.SequenceTagger(jaxseq.bidirectional(jaxseq.lstm(8)), 4, 5, vocabulary=100, rngs=nnx.Rngs(0))
    >>> model(jnp.array([[5, 9, 2], [7, 0, 0]])).shape
    (2, 3, 5)
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        in_features: int,
        tags: int,
        *,
        vocabulary: int | None = None,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own = given(dtype, param_dtype, rngs)
        self.recurrent = layer_of(cell, in_features, kernel=kernel, given=own)
        self.embedding = optional_embedding(vocabulary, in_features, own)
        self.head = linear(self.recurrent.size, check.positive_int("tags", tags), own)

    def __call__(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits `[B, T, K]`; on padding they are the head's bias.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int; ids on padding are ignored.
          carry, mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def _result(self, ys):
        return self.head(ys)
