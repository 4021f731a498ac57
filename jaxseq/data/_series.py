"""Time series `[N, D]`: gaps, scales, windows and calendar features; a function that looks ahead in time says so.

Compute what is learned from data (`Normalizer`, the means for gaps) on the training part only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, real, series


class Normalizer(NamedTuple):
    """A map of each column to mean 0 and standard deviation 1: z = (x - mean) / std.

    `apply` and `invert` take NumPy or JAX arrays `[..., D]` and return floats of the same dtype.

    Attributes:
      mean: float64 `[D]`, in the units of the series.
      std: float64 `[D]`, in the units of the series.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, xs: ArrayLike) -> "Normalizer":
        """Returns the normaliser of xs `[N, D]`; pass the training part only.

        NaN marks a missing value and is ignored. The std of a constant column is 1. For padded sequences, pass the real
        steps: `xs[mask]`.

        Raises:
          TypeError, ValueError: xs is not `[N, D]`; a column holds an infinity, or no value at all.

        >>> xs = np.array([[1.0, 5.0], [3.0, 5.0]])
        >>> normalizer = Normalizer.fit(xs)
        >>> normalizer.apply(xs).tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
        >>> normalizer.invert(np.array([[1.0]]), columns=[0]).tolist()
        [[3.0]]
        """
        xs = series("xs", xs).astype(float)
        for column in np.flatnonzero(np.isinf(xs).any(axis=0))[:1]:
            raise ValueError(f"`xs` must be finite, with NaN for missing values; column {column} holds an infinity")
        for column in np.flatnonzero(np.isnan(xs).all(axis=0))[:1]:
            raise ValueError(f"`xs` must have at least one value in each column; column {column} has only NaN")
        constant = np.nanmin(xs, axis=0) == np.nanmax(xs, axis=0)  # its std may be a rounding error, not 0
        return cls(np.nanmean(xs, axis=0), np.where(constant, 1.0, np.nanstd(xs, axis=0)))

    def apply(self, xs: Any, *, columns: Sequence[int] | None = None) -> Any:
        """Returns xs `[..., D]` normalised. `columns` lists the columns that xs holds, if it does not hold all."""
        wide, mean, std = self._of(xs, columns)
        return ((wide - mean) / std).astype(_float(xs))

    def invert(self, xs: Any, *, columns: Sequence[int] | None = None) -> Any:
        """Returns normalised xs `[..., D]`, such as predictions, in original units; `columns` is that of `apply`."""
        wide, mean, std = self._of(xs, columns)
        return (wide * std + mean).astype(_float(xs))

    def _of(self, xs, columns):
        """Returns xs, mean and std in the dtype of the computation, with matching shapes."""
        if not hasattr(xs, "dtype"):
            raise TypeError(f"`xs` must be an array [..., D]; got {type(xs).__name__}")
        real("xs", xs)
        chosen = slice(None) if columns is None else _columns("columns", columns, len(self.mean))
        mean, std = self.mean[chosen], self.std[chosen]
        if np.shape(xs)[-1:] != mean.shape:
            raise ValueError(f"`xs` must be [..., {len(mean)}], the normaliser's columns; got the shape {np.shape(xs)}")
        dtype = mean.dtype if isinstance(xs, np.ndarray) else jnp.result_type(float)
        beside = (1,) * (xs.ndim - 1) + mean.shape
        return xs.astype(dtype), mean.reshape(beside).astype(dtype), std.reshape(beside).astype(dtype)


class Filled(NamedTuple):
    """A series without gaps: `xs [N, D]`, and `observed`, bool `[N, D]`, False where a value was filled in."""

    xs: np.ndarray
    observed: np.ndarray


def fill_missing(xs: ArrayLike, how: str = "forward", *, means: ArrayLike | None = None) -> Filled:
    """Returns a series whose gaps (NaN) are filled, each column independently.

    Args:
      xs: floats `[N, D]`, with steps evenly spaced in time.
      how: "forward": repeats the last value before the gap; a gap at the start gets `means`.
        "mean": fills with `means`.
        "linear": draws a straight line across the gap, and repeats the nearest value at the ends. It uses the value
        after the gap, which is not known when forecasting. A column without any value gets `means`.
      means: `[D]`, the values to fill with, for example `Normalizer.fit(training_part).mean`. Needed only where `how`
        uses them.

    Raises:
      TypeError, ValueError: an argument does not fit; `means` is needed and missing, or holds NaN.

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
        source = np.maximum.accumulate(np.where(observed, steps, 0), axis=0)  # step 0 for a gap at the start
        filled = np.take_along_axis(xs, source, axis=0)
    else:
        filled = xs.copy()
    if how == "linear":
        for column, known in zip(filled.T, observed.T, strict=True):
            if known.any():
                column[~known] = np.interp(steps[~known, 0], steps[known, 0], column[known])
    return Filled(_with_means(filled, means).astype(xs.dtype), observed)


class Windows(NamedTuple):
    """M windows of a series: `inputs [M, length, D]`, `targets [M, horizon, K]`, and `starts`, int `[M]`.

    `starts` holds the first step of each window. `inputs` and `targets` are read-only views of the series, so they take
    no memory of their own until they are indexed.
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
    """Returns all windows of a series: `length` steps of input, and the next `horizon` steps as targets.

    Args:
      xs: `[N, D]`, the whole series.
      length: steps of input in a window.
      horizon: steps to forecast; with 0 there are no targets.
      stride: steps from the start of one window to the start of the next.
      targets: the columns to forecast, K of them. None: all.
      part: the steps that targets may lie in, from `split_in_time`. None: all. Inputs may start before the part, since
        the past is known. Without targets (a horizon of 0), inputs must lie in the part.

    Raises:
      TypeError, ValueError: an argument does not fit, or there is no window.

    >>> inputs, targets, starts = windows(np.arange(10)[:, None], 4, 2, part=slice(7, 10))
    >>> starts.tolist(), inputs[0].ravel().tolist(), targets[0].ravel().tolist()
    ([3, 4], [3, 4, 5, 6], [7, 8])
    """
    xs = series("xs", xs)
    length, horizon = check.positive_int("length", length), check.natural("horizon", horizon)
    stride = check.positive_int("stride", stride)
    columns = slice(None) if targets is None else _columns("targets", targets, xs.shape[1])
    if part is not None and (not isinstance(part, slice) or part.step not in (None, 1)):
        raise TypeError(f"`part` must be a slice of steps, as split_in_time returns it; got {part!r}")
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
    """Returns sin and cos of 2π values / period, float32 `[..., 2]`, for example the hour of a day without a jump.

    Args:
      values: numbers `[...]`, in any unit of time.
      period: the length of a cycle, in the same unit.

    Raises:
      TypeError, ValueError: `values` does not hold numbers, or `period` is not above 0.

    >>> cyclic([0, 6, 24], 24).round(6).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    period = check.positive_finite("period", period)
    angles = (
        2 * np.pi * (real("values", numbers("values", values)) % period) / period
    )  # remove whole periods first, which is exact
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
            f"`means` must give a value for column {column}, where a gap has no value to copy; pass, for example, "
            "Normalizer.fit(training_part).mean"
        )
    return np.where(gaps, means, xs)


def _columns(name, columns, size):
    numbers = np.asarray(columns)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"`{name}` must be a list of column numbers such as [0, 3]; got {columns!r}")
    if np.any((numbers < -size) | (numbers >= size)):
        raise ValueError(f"`{name}` must be among the {size} columns; got {columns!r}")
    return numbers


def _sliding(xs, steps):
    """Returns all windows of `steps` steps as a view `[N - steps + 1, steps, D]`."""
    return np.moveaxis(np.lib.stride_tricks.sliding_window_view(xs, steps, axis=0), -1, 1)


def _float(xs):
    return xs.dtype if jnp.issubdtype(xs.dtype, jnp.floating) else np.float32
