"""Errors of forecasts, and the coverage of prediction intervals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check, masking
from jaxseq.train import losses
from jaxseq.train._elementwise import floating, floats, real, wide
from jaxseq.train.metrics._mean import Mean, mean
from jaxseq.typing import AnyArray


class Rmse(NamedTuple):
    """The sum of squared errors, and their number."""

    total: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> jax.Array:
        """The root of the mean squared error over all batches; NaN if nothing was counted."""
        return jnp.sqrt(Mean(*self).value)


def mae(predictions: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> Mean:
    """Returns the mean absolute error, in units of the targets.

    Args:
      predictions: float `[...]`.
      targets: real `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    return mean(losses.absolute_error(predictions, targets, mask=mask), mask=mask)


def rmse(predictions: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> Rmse:
    """Returns the root mean squared error, in units of the targets.

    Args:
      predictions: float `[...]`.
      targets: real `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    return Rmse(*mean(losses.squared_error(predictions, targets, mask=mask), mask=mask))


def mase(predictions: AnyArray, targets: AnyArray, scale: AnyArray, *, mask: AnyArray | None = None) -> Mean:
    """Returns the mean absolute scaled error, without unit (Hyndman & Koehler 2006).

    Below 1 the forecast is better than the naive forecast is on the training series.

    Args:
      predictions: float `[...]`, such as `[B, T]`.
      targets: real `[...]`.
      scale: what `naive_scale` returns for the training series: a scalar, or one number per series with axes of size 1,
        such as `[B, 1]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    error = losses.absolute_error(predictions, targets, mask=mask)
    if isinstance(scale, np.ndarray) and scale.dtype.kind in "if" and np.any(scale < 0):
        raise ValueError("`scale` must not be negative, as a mean of distances; pass what naive_scale returns")
    scale = check.array("scale", "...", scale)
    real("scale", scale)
    fits = scale.ndim == error.ndim and all(a in (1, b) for a, b in zip(scale.shape, error.shape, strict=True))
    if scale.ndim and not fits:
        raise ValueError(
            f"`scale` must be a scalar, or have the axes of `targets` {error.shape}, each of the same size or 1; "
            f"got {scale.shape}"
        )
    return mean(error / scale.astype(error.dtype), mask=mask)


def naive_scale(series: AnyArray, *, season: int = 1, axis: int = -1, mask: AnyArray | None = None) -> jax.Array:
    """Returns the mean of |y_t - y_{t - season}|, the error of the seasonal-naive forecast, which scales `mase`.

    It has the units of the series. It is NaN if no two real steps are a season apart. It is 0 for a constant series,
    which cannot be scaled.

    Args:
      series: float `[...]`, the training series.
      season: steps in a season; 1 without seasons.
      axis: the time axis. The result has size 1 there, such as `[B, 1]` for `[B, T]`.
      mask: bool `[...]`, True where a step is real. A difference counts if both of its steps are real.

    Raises:
      TypeError, ValueError: a dtype, a shape, `season` or `axis` does not fit.

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


def coverage(lower: AnyArray, upper: AnyArray, targets: AnyArray, *, mask: AnyArray | None = None) -> Mean:
    """Returns the fraction of targets in their prediction intervals, ends included; 90 % intervals should give 0.9.

    Args:
      lower: float `[...]`, such as the 5 % quantile.
      upper: `[...]`, such as the 95 % quantile.
      targets: `[...]`. NaN marks a missing value, which is not counted. An interval with an end of NaN holds no target.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    lower, upper, targets = floats(lower=lower, upper=upper, targets=targets)
    known = ~jnp.isnan(targets)
    mask = check.flags("mask", mask, targets.shape, "...")
    return mean((lower <= targets) & (targets <= upper), mask=known if mask is None else known & mask)
