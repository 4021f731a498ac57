"""Pooling: one vector per row from the outputs of its real steps; zeros for a row without real steps.

    last       y_n, where n is the last real step
    ends       [y_n, y_1]: a net that reads in both directions has read the whole row at its two ends
    mean       Σ_t y_t / n
    max        max_t y_t, for each feature independently
    mean_max   [mean, max]                                                      (Howard & Ruder 2018)
    attention  Σ_t α_t y_t,   α = softmax_t(v · tanh(y_t W + b))                (additive: Bahdanau et al. 2015)

Padding, even NaN, affects neither a value nor a gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given, linear
from jaxseq.nn._layer import Layer
from jaxseq.nn.models import _folds
from jaxseq.nn.models._folds import Fold
from jaxseq.typing import AnyArray

Pool = Callable[[jax.Array, AnyArray | None], jax.Array]


def last_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the output of each row at its last real step, `[B, H]`.

    Args:
      ys: `[B, T, H]`.
      mask: bool `[B, T]`, True where a step is real, in any pattern. None: all steps are real.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    return _pooled(_folds.LAST, ys, mask)


def ends_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the outputs of each row at its last and first real step, `[B, 2 H]`; arguments as in `last_pool`."""
    return _pooled(_folds.ENDS, ys, mask)


def mean_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the mean of each row's outputs, `[B, H]`; arguments as in `last_pool`.

    >>> from jaxseq import nn
    >>> nn.mean_pool(jnp.array([[[1.0], [3.0], [jnp.nan]]]), jnp.array([[True, True, False]]))
    Array([[2.]], dtype=float32)
    """
    return _pooled(_folds.MEAN, ys, mask)


def max_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the maximum of each feature over the real steps, `[B, H]`; arguments as in `last_pool`."""
    return _pooled(_folds.MAX, ys, mask)


def mean_max_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns `mean_pool` and `max_pool` concatenated, `[B, 2 H]`; arguments as in `last_pool`."""
    return _pooled(_MEAN_MAX, ys, mask)


def attention_pool(ys: AnyArray, scores: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the mean of each row's outputs, weighted by softmax(scores), `[B, H]`.

    Args:
      ys: `[B, T, H]`.
      scores: `[B, T]`.
      mask: bool `[B, T]`, True where a step is real, in any pattern. None: all steps are real.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    ys, mask = _checked(ys, mask)
    scores = check.inputs("scores", "B, T", scores, ys)
    if scores.shape != ys.shape[:-1]:
        raise ValueError(f"`scores` must be [B, T] = {ys.shape[:-1]}, as `ys` is; got {check.shaped(scores)}")
    return _pooled(_folds.attention(lambda _: scores), ys, mask)


_MEAN_MAX = _folds.both(_folds.MEAN, _folds.MAX)
_FOLDS: dict[Pool, Fold] = {
    last_pool: _folds.LAST,
    ends_pool: _folds.ENDS,
    mean_pool: _folds.MEAN,
    max_pool: _folds.MAX,
    mean_max_pool: _MEAN_MAX,
}


def _pooled(fold, ys, mask):
    ys, mask = _checked(ys, mask)
    return fold.value(fold.of(ys, mask)).astype(ys.dtype)


def _checked(ys: AnyArray, mask: AnyArray | None) -> tuple[jax.Array, jax.Array | None]:
    ys = check.inputs("ys", "B, T, H", ys, None)
    return ys, check.flags("mask", mask, ys.shape[:-1], "B, T")


class AttentionPool(Module):
    """Additive attention pooling with learned scores.

    Args:
      features: H, the features of the outputs to pool.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.
    """

    def __init__(
        self,
        features: int,
        *,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        own, features = given(dtype, param_dtype, rngs), check.positive_int("features", features)
        self.dtype = own.dtype
        self.hidden = linear(features, features, own)
        self.query = linear(features, 1, own, use_bias=False)

    def __call__(self, ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
        """Returns the weighted mean of each row's outputs, `[B, H]`; arguments as in `last_pool`."""
        ys = floats("ys", "B, T, H", ys, self.hidden.kernel[...], self.dtype)
        check.features("ys", ys, self.hidden.in_features)
        return _pooled(_folds.attention(self._scores), ys, mask)

    def _scores(self, ys):
        return self.query(jnp.tanh(self.hidden(ys)))[..., 0]


def fold_of(pool: Pool) -> Fold:
    """Returns the fold of a pool of this module."""
    return _folds.attention(pool._scores) if isinstance(pool, AttentionPool) else _FOLDS[pool]


def last_of(layer: Layer) -> tuple[Pool, int]:
    """Returns the pooling that summarises the outputs of a layer at its end, and its number of features."""
    return (last_pool, layer.size) if layer.causal else (ends_pool, 2 * layer.size)
