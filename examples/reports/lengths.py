"""Accuracy at each step, also beyond the length that was trained on, as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def plot(curves: dict[str, dict[str, np.ndarray]], trained: int, path: Path) -> None:
    """Draws the accuracy at each step that is asked for, `[T]` by task and net, else NaN; `trained` steps were seen."""
    figure = Figure(figsize=(4.5 * len(curves) + 2, 3.6), layout="constrained")
    for axes, (title, found) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for number, (name, values) in enumerate(found.items()):
            steps = np.flatnonzero(~np.isnan(values))
            axes.plot(steps + 1, values[steps], label=name, linewidth=5 - number)  # of lines that meet, all show
        axes.axvline(trained, color="0.5", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="step; trained up to the dashed line", ylabel="accuracy", ylim=(0, 1.03))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=150)
