"""Sequence classification: one of K classes for a whole sequence."""

import jax
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import given, linear, optional_embedding
from jaxseq.nn._layer import Layer, layer_of
from jaxseq.nn.models._pooling import AttentionPool, last_of, max_pool, mean_max_pool, mean_pool
from jaxseq.nn.models._streams import PerSequence, PooledCarry
from jaxseq.typing import AnyArray, Cell, Composite, Kernel

POOLINGS = ("last", "mean", "max", "mean_max", "attention")


class SequenceClassifier(PerSequence):
    """An embedding (for ids), a recurrent layer, pooling and a linear layer: one row of logits per sequence.

    Args:
      cell: a Cell, a Composite or an `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      in_features: D, the features of the inputs, or of the embeddings of ids.
      classes: K, the number of classes.
      pooling: "last", "mean", "max", "mean_max" or "attention"; see `nn.last_pool` and the other pools. For a net that
        is not causal, "last" means `nn.ends_pool`, because a backward direction has read the whole row at its first
        step.
      vocabulary: the number of ids. None: inputs are floats, not ids.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.SequenceClassifier(jaxseq.gru(8), 4, 2, vocabulary=100, pooling="attention", rngs=nnx.Rngs(0))
    >>> model(jnp.array([[5, 9, 2], [7, 0, 0]]), mask=jnp.array([[True, True, True], [True, False, False]])).shape
    (2, 2)
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        in_features: int,
        classes: int,
        *,
        pooling: str = "last",
        vocabulary: int | None = None,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check.one_of("pooling", pooling, POOLINGS)
        own = given(dtype, param_dtype, rngs)
        self.recurrent = layer_of(cell, in_features, kernel=kernel, given=own)
        self.embedding = optional_embedding(vocabulary, in_features, own)
        H = self.recurrent.size
        if pooling == "last":
            self.pool, features = last_of(self.recurrent)
        elif pooling == "attention":
            self.pool, features = AttentionPool(H, **own._asdict()), H
        else:
            pools = {"mean": (mean_pool, H), "max": (max_pool, H), "mean_max": (mean_max_pool, 2 * H)}
            self.pool, features = pools[pooling]
        self.head = linear(features, check.positive_int("classes", classes), own)

    def __call__(
        self,
        xs: AnyArray,
        carry: PooledCarry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns logits `[B, K]`; a row without real steps gets the head's bias.

        There is one result per row. Where resets pack several sequences into it, that is the result of the last one.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int; ids on padding are ignored.
          carry: the carry after the steps before `xs`, from `unroll` or `step`. None: sequences start with `xs`.
          mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def _result(self, pooled):
        return self.head(pooled)
