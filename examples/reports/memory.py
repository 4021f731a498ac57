"""Losses of cells on tasks that ask for memory, as a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def plot_losses(curves: dict[str, dict[str, np.ndarray]], baselines: dict[str, tuple[float, str]], path: Path) -> None:
    """Draws the losses, `[steps]` by task and cell, over the steps.

    Args:
      curves: the losses.
      baselines: by task, the loss without a memory, and its unit.
      path: where the picture goes.
    """
    figure = Figure(figsize=(4 * len(curves), 3.5), layout="constrained")
    for axes, (name, losses) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        baseline, unit = baselines[name]
        axes.axhline(baseline, color="0.5", linestyle="--", label="no memory")
        for cell, values in losses.items():
            means = np.array([part.mean() for part in np.array_split(values, min(100, len(values)))])
            axes.plot(np.linspace(0, len(values), len(means)), means, label=cell.upper())
        axes.set(title=name, xlabel="step", ylabel=f"loss, {unit}", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
