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
from jaxseq._lengths import last_valid
from jaxseq.masking import keep
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given, linear
from jaxseq.nn._layer import Layer
from jaxseq.nn.attention._attention import masked_softmax
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
    ys, mask = _checked(ys, mask)
    if mask is None:
        return jnp.sum(ys[..., -1:, :], axis=-2)  # zeros if T is 0
    return last_valid(jnp.moveaxis(ys, -2, 0), jnp.moveaxis(mask, -1, 0))


def ends_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the outputs of each row at its last and first real step, `[B, 2 H]`; arguments as in `last_pool`."""
    ys, mask = _checked(ys, mask)
    first = last_pool(jnp.flip(ys, -2), None if mask is None else jnp.flip(mask, -1))
    return jnp.concatenate([last_pool(ys, mask), first], axis=-1)


def mean_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the mean of each row's outputs, `[B, H]`; arguments as in `last_pool`.

    >>> from jaxseq import nn
    >>> nn.mean_pool(jnp.array([[[1.0], [3.0], [jnp.nan]]]), jnp.array([[True, True, False]]))
    Array([[2.]], dtype=float32)
    """
    ys, mask = _checked(ys, mask)
    steps = ys.shape[-2] if mask is None else jnp.sum(mask, axis=-1, keepdims=True)
    return jnp.sum(keep(mask, ys), axis=-2) / jnp.maximum(steps, 1).astype(ys.dtype)


def max_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns the maximum of each feature over the real steps, `[B, H]`; arguments as in `last_pool`."""
    ys, mask = _checked(ys, mask)
    mask = jnp.ones(ys.shape[:-1], bool) if mask is None else mask
    largest = jnp.max(ys, axis=-2, where=mask[..., None], initial=-jnp.inf)
    return keep(jnp.any(mask, axis=-1), largest)


def mean_max_pool(ys: AnyArray, mask: AnyArray | None = None) -> jax.Array:
    """Returns `mean_pool` and `max_pool` concatenated, `[B, 2 H]`; arguments as in `last_pool`."""
    return jnp.concatenate([mean_pool(ys, mask), max_pool(ys, mask)], axis=-1)


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
    return jnp.einsum("...t,...th->...h", masked_softmax(scores, mask), keep(mask, ys))


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
        ys = keep(check.flags("mask", mask, ys.shape[:-1], "B, T"), ys)
        return attention_pool(ys, self.query(jnp.tanh(self.hidden(ys)))[..., 0], mask)


def last_of(layer: Layer) -> tuple[Pool, int]:
    """Returns the pooling that summarises the outputs of a layer at its end, and its number of features."""
    return (last_pool, layer.size) if layer.causal else (ends_pool, 2 * layer.size)
