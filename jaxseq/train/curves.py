"""Plots of a run's history with matplotlib (`pip install 'jaxseq[plot]'`)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxseq import check
from jaxseq.train import _run
from jaxseq.train._elementwise import strings
from jaxseq.train._run import Row


def plot(
    history: Sequence[Row],
    path: str | os.PathLike | None = None,
    *,
    names: Sequence[str] = ("loss",),
    monitor: str = "loss",
    better: Literal["lower", "higher"] | None = None,
) -> Any:
    """Plots numbers of the history over steps, training and validation together; returns the figure.

    A dotted line marks the row whose params `fit` has kept, the best one by `monitor`. Where the history has no such
    number of validation, the params are the last ones, and there is no line.

    Args:
      history: the history of a `Fit`, or the rows of a CSV file as numbers.
      path: a file to save the plot to; its suffix is a format that matplotlib knows, such as .png. None: not saved.
      names: one panel for each name: "accuracy" plots `"accuracy"` and `"validation/accuracy"`, whichever exist.
      monitor: as it was given to `fit`.
      better: as it was given to `fit`.

    Raises:
      ImportError: matplotlib is not installed.
      TypeError: `names` is not a list of names, `monitor` is not a name, or the history holds other than numbers.
      ValueError: the history is empty, or has no number of such a name; `better` does not say which `monitor` is
        better.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise ImportError("`plot` needs matplotlib: pip install 'jaxseq[plot]'") from None

    if not strings("names", names, "('loss', 'accuracy')"):
        raise ValueError("`names` must hold at least one name, such as ('loss',); got none")
    if not isinstance(history, Sequence) or not all(isinstance(row, Mapping) and "step" in row for row in history):
        raise TypeError(f"`history` must be a list of rows, as in Fit.history; got {check.short(history)}")
    for key, value in [item for row in history for item in row.items()]:
        if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
            raise TypeError(f"`history` must hold rows of numbers; got {check.short(value)} as {key!r}")
    if not history:
        raise ValueError("`history` must hold at least one row; got none")
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be a path or None; got {check.short(path)}")
    if path is not None and not Path(path).name:
        raise ValueError(f"`path` must name a file; got {check.short(path)}")
    best = _run.Best.by(monitor, better)
    rows = [row for row in history if f"validation/{best.monitor}" in row]
    if monitor != "loss" and not rows:
        raise ValueError(f"`monitor` must be a number of validation in the history; got {monitor!r}")
    kept = best.of(rows) if rows else None
    figure = Figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, key, marker in (("training", name, "o"), ("validation", f"validation/{name}", "s")):
            points = [(row["step"], row[key]) for row in history if key in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=label)
        if not axes.lines:
            given = ", ".join(dict.fromkeys(name.removeprefix("validation/") for row in history for name in row))
            raise ValueError(f"`names` must be among those of the history, {given}; got {name!r}")
        if kept is not None:
            axes.axvline(rows[kept]["step"], color="0.5", linestyle=":", linewidth=1, label="kept")
        axes.set(xlabel="step", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure
