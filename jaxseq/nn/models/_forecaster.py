"""Direct forecasting: all steps of the horizon at once, from the last output."""

import jax
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import given, linear, optional_embedding
from jaxseq.nn._layer import Layer, layer_of
from jaxseq.nn.models._heads import POINT, Head, checked_head
from jaxseq.nn.models._pooling import last_of
from jaxseq.nn.models._streams import PerSequence, PooledCarry
from jaxseq.typing import AnyArray, Cell, Composite, Kernel


class Forecaster(PerSequence):
    """A recurrent layer, its last real output, a linear layer and a head: predicts all targets of the horizon.

    For a net that is not causal, the outputs at both ends are used (`nn.ends_pool`).

    Args:
      cell: a Cell, a Composite or an `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      in_features: D, the features of the inputs, or of the embeddings of ids.
      horizon: the number of steps to forecast.
      targets: K, the number of targets per step.
      head: the kind of prediction for each number, with P parameters: `nn.Point()`, `nn.Quantiles(levels)` or
        `nn.Gaussian()`.
      vocabulary: the number of ids. None: inputs are floats, not ids.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.Forecaster(jaxseq.lstm(8), 3, 12, head=nn.Quantiles((0.1, 0.5, 0.9)), rngs=nnx.Rngs(0))
    >>> parameters = model(jnp.ones([2, 48, 3]))
    >>> lower, upper = model.head.interval(parameters, 0.8)
    >>> parameters.shape, lower.shape
    ((2, 12, 1, 3), (2, 12, 1))
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        in_features: int,
        horizon: int,
        *,
        targets: int = 1,
        head: Head = POINT,
        vocabulary: int | None = None,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.horizon = check.positive_int("horizon", horizon)
        self.targets = check.positive_int("targets", targets)
        self.head = checked_head(head)
        own = given(dtype, param_dtype, rngs)
        self.recurrent = layer_of(cell, in_features, kernel=kernel, given=own)
        self.embedding = optional_embedding(vocabulary, in_features, own)
        self.pool, features = last_of(self.recurrent)
        self.output = linear(features, self.horizon * self.targets * head.size, own)

    def __call__(
        self,
        xs: AnyArray,
        carry: PooledCarry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the head's parameters, `[B, horizon, K, P]`; a row without real steps gets those of the bias.

        Args:
          xs: float `[B, T, D]`, or ids `[B, T]`, int; ids on padding are ignored.
          carry: the carry after the steps before `xs`, from `unroll` or `step`. None: sequences start with `xs`.
          mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def _result(self, pooled):
        raw = self.output(pooled)
        return self.head.parameters(raw.reshape(*raw.shape[:-1], self.horizon, self.targets, self.head.size))
