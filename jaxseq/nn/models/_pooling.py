"""Pooling: one vector a row from the outputs of its real steps, zeros for a row that has none.

    last       y_n, n the last real step
    ends       [y_n, y_1]: a net that reads in both directions has read all of a row at its two ends
    mean       Σ_t y_t / n
    max        max_t y_t, each feature apart
    mean_max   [mean, max]                                                      (Howard & Ruder 2018)
    attention  Σ_t α_t y_t,   α = softmax_t(v · tanh(y_t W + b))                (additive: Bahdanau et al. 2015)

What stands in padding, NaN too, reaches neither a value nor a gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.masking import keep, last_valid
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given, linear
from jaxseq.nn._layer import Layer
from jaxseq.nn.attention._attention import masked_softmax

Pool = Callable[[jax.Array, jax.Array | None], jax.Array]


def last_pool(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns each row's output at its last real step, `[B, H]`.

    Args:
      ys: `[B, T, H]`.
      mask: bool `[B, T]`, True on real steps, of any pattern; None: all.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    ys, mask = _checked(ys, mask)
    if mask is None:
        return jnp.sum(ys[..., -1:, :], axis=-2)  # of no step at all: zeros
    return last_valid(jnp.moveaxis(ys, -2, 0), jnp.moveaxis(mask, -1, 0))


def ends_pool(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns each row's outputs at its last and at its first real step, `[B, 2 H]`; arguments as in `last_pool`."""
    ys, mask = _checked(ys, mask)
    first = last_pool(jnp.flip(ys, -2), None if mask is None else jnp.flip(mask, -1))
    return jnp.concatenate([last_pool(ys, mask), first], axis=-1)


def mean_pool(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns the mean of each row's outputs, `[B, H]`; arguments as in `last_pool`.

    >>> from jaxseq import nn
    >>> nn.mean_pool(jnp.array([[[1.0], [3.0], [jnp.nan]]]), jnp.array([[True, True, False]]))
    Array([[2.]], dtype=float32)
    """
    ys, mask = _checked(ys, mask)
    steps = ys.shape[-2] if mask is None else jnp.sum(mask, axis=-1, keepdims=True)
    return jnp.sum(keep(mask, ys), axis=-2) / jnp.maximum(steps, 1).astype(ys.dtype)


def max_pool(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns the largest of each row's outputs, feature by feature, `[B, H]`; arguments as in `last_pool`."""
    ys, mask = _checked(ys, mask)
    mask = jnp.ones(ys.shape[:-1], bool) if mask is None else mask
    largest = jnp.max(ys, axis=-2, where=mask[..., None], initial=-jnp.inf)
    return keep(jnp.any(mask, axis=-1), largest)


def mean_max_pool(ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns `mean_pool` beside `max_pool`, `[B, 2 H]`; arguments as in `last_pool`."""
    return jnp.concatenate([mean_pool(ys, mask), max_pool(ys, mask)], axis=-1)


def attention_pool(ys: jax.Array, scores: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns the mean of each row's outputs with the weights softmax(scores), `[B, H]`.

    Args:
      ys: `[B, T, H]`.
      scores: `[B, T]`.
      mask: bool `[B, T]`, True on real steps, of any pattern; None: all.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    ys, mask = _checked(ys, mask)
    scores = check.inputs("scores", "B, T", scores, ys)
    if scores.shape != ys.shape[:-1]:
        raise ValueError(f"`scores` must be [B, T] = {ys.shape[:-1]}, those of `ys`; got {check.shaped(scores)}")
    return jnp.einsum("...t,...th->...h", masked_softmax(scores, mask), keep(mask, ys))


def _checked(ys: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    ys = check.inputs("ys", "B, T, H", ys, None)
    return ys, check.flags("mask", mask, ys.shape[:-1], "B, T")


class AttentionPool(Module):
    """Additive attention pooling: what to look for is learned.

    Args:
      features: H.
      dtype: the dtype of the computation, to which params and inputs are cast; None: that of the params.
      param_dtype: the dtype of the params; None: JAX's default float.
      rngs: draws the params.
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

    def __call__(self, ys: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Returns the weighted mean of each row's outputs, `[B, H]`; arguments as in `last_pool`."""
        ys = floats("ys", "B, T, H", ys, self.hidden.kernel[...], self.dtype)
        check.features("ys", ys, self.hidden.in_features)
        ys = keep(check.flags("mask", mask, ys.shape[:-1], "B, T"), ys)
        return attention_pool(ys, self.query(jnp.tanh(self.hidden(ys)))[..., 0], mask)


def last_of(layer: Layer) -> tuple[Pool, int]:
    """Returns what reads the summary of a row off the outputs of a layer, and the number of its features."""
    return (last_pool, layer.size) if layer.causal else (ends_pool, 2 * layer.size)
