"""Errors of forecasts, and how often prediction intervals hold."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check, masking
from jaxseq.train import losses
from jaxseq.train._elementwise import floating, floats, real, wide
from jaxseq.train.metrics._mean import Mean, mean


class Rmse(NamedTuple):
    """The summed squared errors, and how many there are."""

    total: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> jax.Array:
        """The root of the mean, over all batches; NaN where nothing was counted."""
        return jnp.sqrt(Mean(*self).value)


def mae(predictions: jax.Array, targets: jax.Array, *, mask: jax.Array | None = None) -> Mean:
    """Returns the mean absolute error of predictions `[...]`; arguments as in `losses.absolute_error`."""
    return mean(losses.absolute_error(predictions, targets, mask=mask), mask=mask)


def rmse(predictions: jax.Array, targets: jax.Array, *, mask: jax.Array | None = None) -> Rmse:
    """Returns the root mean squared error of predictions `[...]`; arguments as in `losses.squared_error`."""
    return Rmse(*mean(losses.squared_error(predictions, targets, mask=mask), mask=mask))


def mase(predictions: jax.Array, targets: jax.Array, scale: jax.Array, *, mask: jax.Array | None = None) -> Mean:
    """Returns the mean absolute scaled error (Hyndman & Koehler 2006): below 1, it beats the naive forecast in-sample.

    Args:
      predictions: float `[...]`, such as `[B, T]`.
      targets: `[...]`.
      scale: a scalar, or one a series, with axes of 1 such as `[B, 1]`: what `naive_scale` gave for the series that the
        model was fitted to.
      mask: bool `[...]`.

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit.
    """
    error = losses.absolute_error(predictions, targets, mask=mask)
    if isinstance(scale, np.ndarray) and scale.dtype.kind in "if" and np.any(scale < 0):
        raise ValueError("`scale` must not be negative, a mean of distances; give what naive_scale returns")
    scale = check.array("scale", "...", scale)
    real("scale", scale)
    fits = scale.ndim == error.ndim and all(a in (1, b) for a, b in zip(scale.shape, error.shape, strict=True))
    if scale.ndim and not fits:
        raise ValueError(
            f"`scale` must be a scalar, or have the axes of `targets` {error.shape}, each as long or 1; "
            f"got {scale.shape}"
        )
    return mean(error / scale.astype(error.dtype), mask=mask)


def naive_scale(series: jax.Array, *, season: int = 1, axis: int = -1, mask: jax.Array | None = None) -> jax.Array:
    """Returns the mean of |y_t - y_{t - season}|, the error of the seasonal-naive forecast, for `mase`.

    It is NaN where no two real steps are a season apart, and 0, which scales nothing, for a constant series.

    Args:
      series: float `[...]`, what the model is fitted to.
      season: steps a season; 1 without one.
      axis: that of time; the result has it at length 1, such as `[B, 1]` of `[B, T]`.
      mask: bool `[...]`; a difference counts where both steps are real.

    Raises:
      TypeError, ValueError: dtypes, shapes, `season` or `axis` do not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.naive_scale(jnp.array([[1.0, 2.0, 4.0]]))
    Array([[1.5]], dtype=float32)
    """
    series = check.array("series", "...", series)
    floating("series", series)
    season = check.positive_int("season", season)
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise TypeError(f"`axis` must be an int; got {check.short(axis)}")
    if not -series.ndim <= axis < series.ndim:
        raise ValueError(f"`axis` must be one of the {series.ndim} axes of `series` {series.shape}; got {axis}")
    mask = check.flags("mask", mask, series.shape, "...")
    steps = series.shape[axis]
    real = jnp.ones(series.shape, bool) if mask is None else mask

    def differences(change, x):
        return change(
            jax.lax.slice_in_dim(x, min(season, steps), steps, axis=axis),
            jax.lax.slice_in_dim(x, 0, max(steps - season, 0), axis=axis),
        )

    change = differences(lambda a, b: jnp.abs(a - b), masking.keep(mask, series.astype(wide(series))))
    return jnp.mean(change, axis=axis, keepdims=True, where=differences(jnp.logical_and, real))


def coverage(lower: jax.Array, upper: jax.Array, targets: jax.Array, *, mask: jax.Array | None = None) -> Mean:
    """Returns the share of targets in their prediction intervals, ends included: 0.9 is right for 90 % intervals.

    Args:
      lower: float `[...]`, such as the 5 % quantile.
      upper: `[...]`, such as the 95 % quantile.
      targets: `[...]`; one that is NaN, as missing values are, counts nowhere. An end that is NaN holds nothing.
      mask: bool `[...]`.

    Raises:
      TypeError, ValueError: dtypes or shapes do not fit.
    """
    lower, upper, targets = floats(lower=lower, upper=upper, targets=targets)
    known = ~jnp.isnan(targets)
    mask = check.flags("mask", mask, targets.shape, "...")
    return mean((lower <= targets) & (targets <= upper), mask=known if mask is None else known & mask)
