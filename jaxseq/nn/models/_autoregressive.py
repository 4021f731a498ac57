"""Autoregressive forecasting: one step at a time, with each forecast as the next input."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import given, linear, scan
from jaxseq.nn._layer import Layer, causal, layer_of, some_steps
from jaxseq.nn.models._heads import POINT, Head, checked_head
from jaxseq.nn.models._pooling import last_pool
from jaxseq.nn.models._streams import PerStep
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel


class AutoregressiveForecaster(PerStep):
    """A causal recurrent layer, a linear layer and a head, which predict the next step after each step.

    Args:
      cell: a causal Cell, Composite or `nn.Layer`. For dropout, pass `jaxseq.dropout(cell, inputs=0.2)`.
      features: K, the features of the inputs, which are also the targets.
      head: the kind of prediction for each number, with P parameters: `nn.Point()`, `nn.Quantiles(levels)` or
        `nn.Gaussian()`.
      kernel, dtype, param_dtype: as in `nn.Recurrent`.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit, or the net is not causal.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> model = nn.AutoregressiveForecaster(jaxseq.gru(8), 3, head=nn.Gaussian(), rngs=nnx.Rngs(0))
    >>> xs = jnp.ones([2, 48, 3])
    >>> model.forecast(xs, 12).shape
    (2, 12, 3, 2)
    >>> model.sample_paths(xs, 12, key=jax.random.key(0), paths=100).shape
    (100, 2, 12, 3)
    """

    def __init__(
        self,
        cell: Cell | Composite | Layer,
        features: int,
        *,
        head: Head = POINT,
        kernel: Kernel | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.head = checked_head(head)
        own, features = given(dtype, param_dtype, rngs), check.positive_int("features", features)
        self.recurrent = layer_of(cell, features, kernel=kernel, given=own)
        causal(self.recurrent)
        self.output = linear(self.recurrent.size, features * head.size, own)

    def __call__(
        self,
        xs: AnyArray,
        carry: Carry | None = None,
        *,
        mask: AnyArray | None = None,
        reset: AnyArray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the head's parameters for the step after each step, `[B, T, K, P]`.

        Args:
          xs: `[B, T, K]`.
          carry, mask, reset, key: as in `nn.Recurrent.unroll`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        return self.unroll(xs, carry, mask=mask, reset=reset, key=key)[1]

    def forecast(
        self, xs: AnyArray, horizon: int, *, mask: AnyArray | None = None, carry: Carry | None = None
    ) -> jax.Array:
        """Returns the head's parameters for the steps after `xs`, `[B, horizon, K, P]`, feeding back point forecasts.

        The parameters of the first step are the model's prediction. Those of later steps treat the point forecasts
        before them as certain. For the spread at every step, use `sample_paths`.

        Args:
          xs: `[B, T, K]`.
          horizon: the number of steps to forecast.
          mask: bool `[B, T]`, True where a step is real, in any pattern; each row needs a real step.
          carry: the initial carry. None: that of the layer.

        Raises:
          TypeError, ValueError: an argument does not fit, or `xs` has no steps.
        """
        horizon, start = check.positive_int("horizon", horizon), self._read(xs, mask, carry)
        _, parameters = scan(AutoregressiveForecaster._point, self, None, start, None, horizon)
        return jnp.moveaxis(parameters, 0, -3)

    def sample_paths(
        self,
        xs: AnyArray,
        horizon: int,
        *,
        key: jax.Array,
        paths: int,
        mask: AnyArray | None = None,
        carry: Carry | None = None,
    ) -> jax.Array:
        """Returns random continuations of `xs`, `[paths, B, horizon, K]`; each path feeds back its own samples.

        Args:
          xs, horizon, mask, carry: as in `forecast`.
          key: a random key.
          paths: the number of paths.

        Raises:
          TypeError, ValueError: an argument does not fit, `xs` has no steps, or the head cannot be sampled.
        """
        horizon, paths = check.positive_int("horizon", horizon), check.positive_int("paths", paths)
        if key is None:
            raise TypeError("`key` must be a jax.random.key; got NoneType")
        check.random_key(key)
        start = self._read(xs, mask, carry)
        keys = jax.vmap(lambda key: jax.random.split(key, horizon))(jax.random.split(key, paths))
        found = jax.vmap(lambda keys: scan(AutoregressiveForecaster._draw, self, None, start, keys)[1])(keys)
        return jnp.moveaxis(found, 1, -2)

    def _point(self, _given, state, _x):
        carry, parameters = state
        return self.step(carry, self.head.point(parameters)), parameters

    def _draw(self, _given, state, key):
        carry, parameters = state
        x = self.head.sample(key, parameters)
        return self.step(carry, x), x

    def _read(self, xs, mask, carry):
        """Returns the carry after `xs`, and the parameters of the next step."""
        carry, ys = self.recurrent.unroll(xs, carry, mask=mask)
        some_steps("xs", ys.shape[-2])
        return carry, self._result(last_pool(ys, mask))

    def _result(self, ys):
        raw = self.output(ys)
        return self.head.parameters(raw.reshape(*raw.shape[:-1], raw.shape[-1] // self.head.size, self.head.size))
