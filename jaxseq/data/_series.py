"""Time series `[N, D]`: gaps, scales, windows and calendars, with no look into the future that is not named.

Fit what is learned from data (`Normalizer`, means for gaps) on the part to train on only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, real, series


class Normalizer(NamedTuple):
    """Brings each column to mean 0 and standard deviation 1: z = (x - mean) / std.

    `apply` and `invert` take NumPy and JAX arrays `[..., D]`, and give floats of the same dtype.

    Attributes:
      mean, std: float64 `[D]`.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, xs: ArrayLike) -> "Normalizer":
        """Returns the normaliser of xs `[N, D]`, the part to train on: later parts would leak into it.

        NaN, a missing value, is left out; the std of a column that does not vary is 1. Of padded sequences take the
        real steps: `xs[mask]`.

        Raises:
          TypeError, ValueError: xs are not `[N, D]`; a column holds an infinity, or no value at all.

        >>> xs = np.array([[1.0, 5.0], [3.0, 5.0]])
        >>> normalizer = Normalizer.fit(xs)
        >>> normalizer.apply(xs).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> normalizer.invert(np.array([[1.0]]), columns=[0]).tolist()
        [[3.0]]
        """
        xs = series("xs", xs).astype(float)
        for column in np.flatnonzero(np.isinf(xs).any(axis=0))[:1]:
            raise ValueError(f"`xs` must be finite, or NaN where missing; column {column} holds an infinity")
        for column in np.flatnonzero(np.isnan(xs).all(axis=0))[:1]:
            raise ValueError(f"`xs` must have a value in each column; column {column} has none")
        constant = np.nanmin(xs, axis=0) == np.nanmax(xs, axis=0)  # its std may be a rounding error, not 0
        return cls(np.nanmean(xs, axis=0), np.where(constant, 1.0, np.nanstd(xs, axis=0)))

    def apply(self, xs: Any, *, columns: Sequence[int] | None = None) -> Any:
        """Returns xs `[..., D]` normalised; `columns` says which D they are, where not all."""
        mean, std = self._of(xs, columns)
        return ((xs - mean) / std).astype(_float(xs))

    def invert(self, xs: Any, *, columns: Sequence[int] | None = None) -> Any:
        """Returns normalised xs `[..., D]`, such as predictions, in their units; `columns`: which D, where not all."""
        mean, std = self._of(xs, columns)
        return (xs * std + mean).astype(_float(xs))

    def _of(self, xs, columns):
        if not hasattr(xs, "dtype"):
            raise TypeError(f"`xs` must be an array [..., D]; got {type(xs).__name__}")
        real("xs", xs)
        chosen = slice(None) if columns is None else _columns("columns", columns, len(self.mean))
        mean, std = self.mean[chosen], self.std[chosen]
        if np.shape(xs)[-1:] != mean.shape:
            raise ValueError(f"`xs` must be [..., {len(mean)}], the columns of the normaliser; got {np.shape(xs)}")
        return mean, std


class Filled(NamedTuple):
    """A series without gaps: `xs [N, D]`, and `observed`, bool `[N, D]`, False where a value was filled in."""

    xs: np.ndarray
    observed: np.ndarray


def fill_missing(xs: ArrayLike, how: str = "forward", *, means: ArrayLike | None = None) -> Filled:
    """Returns a series with its gaps, NaN, filled column by column.

    Args:
      xs: floats `[N, D]`, steps evenly apart.
      how: "forward": the last value before the gap; in a gap at the start, `means`.
        "mean": `means`.
        "linear": a straight line over the gap, the nearest value at the ends. It looks ahead to the value after the
        gap, which a forecast does not know. A column without any value gets `means`.
      means: `[D]`, what fills where there is no value to go by: `Normalizer.fit(training_part).mean`.

    Raises:
      TypeError, ValueError: an argument does not fit; `means` are needed and not there, or hold NaN.

    >>> xs, observed = fill_missing([[1.0], [np.nan], [3.0]])
    >>> xs.ravel().tolist(), observed.ravel().tolist()
    ([1.0, 1.0, 3.0], [True, False, True])
    """
    xs = series("xs", xs)
    if not np.issubdtype(xs.dtype, np.floating):
        raise TypeError(f"`xs` must be floating, with NaN where a value is missing; got {xs.dtype}")
    check.one_of("how", how, ("forward", "mean", "linear"))
    observed = ~np.isnan(xs)
    steps = np.arange(len(xs))[:, None]
    if how == "forward":
        source = np.maximum.accumulate(np.where(observed, steps, 0), axis=0)  # 0, itself a gap, in a gap at the start
        filled = np.take_along_axis(xs, source, axis=0)
    else:
        filled = xs.copy()
    if how == "linear":
        for column, known in zip(filled.T, observed.T, strict=True):
            if known.any():
                column[~known] = np.interp(steps[~known, 0], steps[known, 0], column[known])
    return Filled(_with_means(filled, means).astype(xs.dtype), observed)


class Windows(NamedTuple):
    """M windows of a series: `inputs [M, length, D]`, `targets [M, horizon, K]`, `starts` int `[M]`, their first steps.

    `inputs` and `targets` are views, to be read only: they take no memory of their own until they are indexed.
    """

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray


def windows(
    xs: ArrayLike,
    length: int,
    horizon: int = 0,
    *,
    stride: int = 1,
    targets: Sequence[int] | None = None,
    part: slice | None = None,
) -> Windows:
    """Returns the windows of a series: `length` steps to read, and the `horizon` steps after them to forecast.

    Args:
      xs: `[N, D]`, the whole series.
      length, horizon: steps; with a horizon of 0 there are no targets.
      stride: steps from a window to the next.
      targets: the columns to forecast; None: all.
      part: the steps that targets may lie in, from `split_in_time`; None: all. The inputs may reach back before it,
        into what is known by then. Without targets, the inputs lie in it.

    Raises:
      TypeError, ValueError: an argument does not fit; there is no such window.

    >>> inputs, targets, starts = windows(np.arange(10)[:, None], 4, 2, part=slice(7, 10))
    >>> starts.tolist(), inputs[0].ravel().tolist(), targets[0].ravel().tolist()
    ([3, 4], [3, 4, 5, 6], [7, 8])
    """
    xs = series("xs", xs)
    length, horizon = check.positive_int("length", length), check.natural("horizon", horizon)
    stride = check.positive_int("stride", stride)
    columns = slice(None) if targets is None else _columns("targets", targets, xs.shape[1])
    if part is not None and (not isinstance(part, slice) or part.step not in (None, 1)):
        raise TypeError(f"`part` must be a slice of steps, as split_in_time gives it; got {part!r}")
    begin, end, _ = (part or slice(None)).indices(len(xs))
    first = max(0, begin - length) if horizon else begin
    starts = np.arange(first, end - length - horizon + 1, stride)
    if not len(starts):
        raise ValueError(
            f"there is no window of {length} + {horizon} steps with its {'targets' if horizon else 'inputs'} in "
            f"[{begin}, {end}); `xs` has {len(xs)} steps"
        )
    every = slice(first, starts[-1] + 1, stride)
    future = xs[length:, columns]
    return Windows(_sliding(xs, length)[every], _sliding(future, horizon)[every], starts)


def cyclic(values: ArrayLike, period: float) -> np.ndarray:
    """Returns sin and cos of 2π values / period, float32 `[..., 2]`: an hour of the day without a jump at midnight.

    Raises:
      TypeError, ValueError: `values` are no numbers, `period` not above 0.

    >>> cyclic([0, 6, 24], 24).round(6).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    period = check.positive_finite("period", period)
    values = real("values", numbers("values", values))
    angles = 2 * np.pi * (values % period) / period  # whole periods go first, which is exact
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)


def _with_means(xs, means):
    if means is not None:
        means = real("means", numbers("means", means))
        if means.shape != xs.shape[1:] or np.isnan(means).any():
            raise ValueError(f"`means` must be [D] = {xs.shape[1:]}, without NaN; got {check.short(means.tolist())}")
    gaps = np.isnan(xs)
    if not gaps.any():
        return xs
    column = np.flatnonzero(gaps.any(axis=0))[0]
    if means is None:
        raise ValueError(
            f"`means` must say what fills column {column} where there is no value to go by, such as "
            "Normalizer.fit(training_part).mean"
        )
    return np.where(gaps, means, xs)


def _columns(name, columns, size):
    numbers = np.asarray(columns)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"`{name}` must be a list of columns such as [0, 3]; got {columns!r}")
    if np.any((numbers < -size) | (numbers >= size)):
        raise ValueError(f"`{name}` must be of the {size} columns there are; got {columns!r}")
    return numbers


def _sliding(xs, steps):
    """The view `[N - steps + 1, steps, D]`."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(xs, steps, axis=0), -1, 1)


def _float(xs):
    return xs.dtype if jnp.issubdtype(xs.dtype, jnp.floating) else np.float32
