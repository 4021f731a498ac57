"""Augmentation on the device: pure functions of a random key, for use inside a jitted loss.

With `key=None` each function returns its input unchanged, so that one loss serves training and validation. Arrays are
batch-major, [B, T, D]. Functions with a `mask` do not change padding. Spans of steps and of features are those of
SpecAugment (Park et al. 2019): the width w is uniform in 0 … `width`, and the start is uniform in 0 … n - w, where n is
the number of real steps or of features.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxseq import check
from jaxseq._promote import expand_rank
from jaxseq.typing import AnyArray


def time_mask(
    key: jax.Array | None,
    xs: AnyArray,
    *,
    spans: int,
    width: int,
    mask: AnyArray | None = None,
    value: ArrayLike = 0.0,
) -> jax.Array:
    """Returns xs with random spans of real steps replaced by `value` in each row (SpecAugment's time masking).

    Args:
      key: a random key. None: xs is returned unchanged.
      xs: `[B, T, D]`.
      spans: the number of spans in each row; they may overlap.
      width: the greatest width of a span, in steps. In a shorter row it is the number of real steps.
      mask: bool `[B, T]`, True where a step is real, in any pattern. None: every step is real.
      value: the number, or array `[D]`, that replaces a step, for example the mean.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> xs = time_mask(jax.random.key(0), jnp.ones([2, 100, 3]), spans=2, width=20)
    >>> bool(jnp.all(xs.min(axis=2) == xs.max(axis=2))), bool(xs.mean() > 0.6)
    (True, True)
    """
    xs, mask = _sequences(key, xs, mask)
    spans, width = check.positive_int("spans", spans), check.positive_int("width", width)
    value = _one_or_each("value", value, xs)
    if key is None:
        return xs
    real = jnp.ones(xs.shape[:2], bool) if mask is None else mask
    hidden = _spans(key, jnp.cumsum(real, axis=1) - 1, real.sum(axis=1), spans, width) & real
    return jnp.where(hidden[..., None], _everywhere(value, xs), xs)


def feature_mask(key: jax.Array | None, xs: AnyArray, *, spans: int, width: int, value: ArrayLike = 0.0) -> jax.Array:
    """Returns xs with random spans of features replaced by `value` at all steps of each row (SpecAugment).

    Args:
      key: a random key. None: xs is returned unchanged.
      xs: `[B, T, D]`, such as spectrograms.
      spans: the number of spans in each row; they may overlap.
      width: the greatest width of a span, in features; at most D.
      value: the number, or array `[D]`, that replaces a feature.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    xs, _ = _sequences(key, xs, None)
    spans, width = check.positive_int("spans", spans), check.positive_int("width", width)
    B, _, D = xs.shape
    if width > D:
        raise ValueError(f"`width` must be at most D = {D}, the features of `xs`; got {width}")
    value = _one_or_each("value", value, xs)
    if key is None:
        return xs
    hidden = _spans(key, jnp.broadcast_to(jnp.arange(D), (B, D)), jnp.full(B, D), spans, width)
    return jnp.where(hidden[:, None], _everywhere(value, xs), xs)


def jitter(key: jax.Array | None, xs: AnyArray, scale: ArrayLike, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns xs with Gaussian noise added at the real steps.

    Args:
      key: a random key. None: xs is returned unchanged.
      xs: `[B, T, D]`.
      scale: the standard deviation of the noise, in the units of xs: a number, or an array `[D]`.
      mask: bool `[B, T]`, True where a step is real. None: every step is real.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    xs, mask = _sequences(key, xs, mask)
    scale = _one_or_each("scale", scale, xs)
    if not isinstance(scale, Tracer) and not np.all(np.asarray(scale) >= 0):
        raise ValueError("`scale` must be at least 0; got a negative number or NaN")
    if key is None:
        return xs
    noisy = xs + _everywhere(scale, xs) * jax.random.normal(key, xs.shape, xs.dtype)
    return noisy if mask is None else jnp.where(mask[..., None], noisy, xs)


def token_dropout(
    key: jax.Array | None, ids: AnyArray, rate: float, unknown: int, *, mask: AnyArray | None = None
) -> jax.Array:
    """Returns ids in which each real token is replaced by `unknown` with probability `rate`.

    This trains the embedding of the unknown token, and makes the model depend less on single words.

    Args:
      key: a random key. None: ids is returned unchanged.
      ids: ints `[B, T]`.
      rate: in [0, 1).
      unknown: the id that replaces a token; 1 in a `Vocabulary`.
      mask: bool `[B, T]`, True where a token is real. None: every token is real.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    check.random_key(key)
    ids = check.integers("ids", "B, T", ids)
    rate, unknown = check.rate("rate", rate), check.natural("unknown", unknown)
    check.fits("unknown", unknown, ids.dtype)
    mask = check.flags("mask", mask, ids.shape, "B, T")
    if key is None:
        return ids
    dropped = jax.random.bernoulli(key, rate, ids.shape)
    return jnp.where(dropped if mask is None else dropped & mask, jnp.asarray(unknown, ids.dtype), ids)


def _everywhere(value, xs):
    """Returns a number, or an array `[D]`, broadcast to the shape of xs."""
    return expand_rank(jnp.asarray(value, xs.dtype), xs)


def _sequences(key, xs, mask):
    check.random_key(key)
    xs = check.array("xs", "B, T, D", xs)
    if xs.ndim != 3:
        raise ValueError(f"`xs` must be [B, T, D]; got {xs.shape}")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"`xs` must be floating [B, T, D]; got {xs.dtype}")
    return xs, check.flags("mask", mask, xs.shape[:2], "B, T")


def _one_or_each(name, value, xs):
    """Returns a number, or an array `[D]`, in the dtype of xs."""
    value = check.array_like(name, "D", value)
    if value.shape not in ((), xs.shape[2:]):
        raise ValueError(f"`{name}` must be a number, or [D] = {xs.shape[2:]}; got the shape {value.shape}")
    if jnp.iscomplexobj(value):
        raise TypeError(f"`{name}` must be real; got {value.dtype}")
    return value.astype(xs.dtype)


def _spans(key, place, n, spans, width):
    """Returns the steps in spans, bool `[B, L]`. `place [B, L]` numbers a row's real steps; `n [B]` counts them."""
    key_width, key_start = jax.random.split(key)
    shape, n = (len(n), spans), n[:, None]
    widths = jnp.minimum(jax.random.randint(key_width, shape, 0, width + 1), n)
    starts = jax.random.randint(key_start, shape, 0, n - widths + 1)[..., None]
    inside = (starts <= place[:, None]) & (place[:, None] < starts + widths[..., None])
    return inside.any(axis=1)
