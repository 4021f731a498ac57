"""Distributions of the next daily return, beside baselines: the tables, the verdicts and the picture."""

import math
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from examples.reports.bootstrap import compare

BLOCK = 20  # trading days, a month: what the bootstrap draws together
CLAIM = "No price prediction is claimed: what can be forecast is how far the price will move, not where to."


def print_scores(actual: np.ndarray, means: dict[str, np.ndarray], deviations: dict[str, np.ndarray]) -> None:
    """Prints the scores of means and of normal distributions, and whether ours are better.

    Args:
      actual: the returns `[M]`.
      means: what is forecast by each, ours `[SEEDS, M]` first; "zero" is among the others, `[M]`.
      deviations: likewise; the mean of one that is not among `means` is zero.
    """
    print(f"{'the next return':34}{'MAE':>9}{'RMSE':>9}")
    for name, point in means.items():
        mae, rmse = np.abs(point - actual).mean(), np.sqrt(np.mean((point - actual) ** 2, axis=-1)).mean()
        print(f"{name:34}{mae:9.4f}{rmse:9.4f}")
    print(f"\n{'its distribution':34}{'NLL':>9}{'in 80%':>9}{'in 95%':>9}{'in 99%':>9}")
    nll = {}
    for name, sigma in deviations.items():
        z = (actual - means.get(name, 0)) / sigma
        held = "".join(f"{np.mean(np.abs(z) < reach):9.1%}" for reach in (1.2816, 1.9600, 2.5758))
        nll[name] = np.mean((0.5 * z**2 + np.log(sigma) + 0.5 * math.log(2 * math.pi)).reshape(-1, len(actual)), axis=0)
        print(f"{name:34}{nll[name].mean():9.4f}{held}")

    print()
    ours, *baselines = nll
    for what, error in (("absolute", np.abs), ("squared", np.square)):
        change, low, high, verdict = compare(np.mean(error(means[ours] - actual), axis=0), error(actual), BLOCK)
        interval = f"95 % interval {low:+.4f} to {high:+.4f}"
        print(f"{what} error of the mean against zero: {change:+.4f} ({interval}), {verdict}")
    print_against(nll[ours], {name: nll[name] for name in baselines})


def print_against(ours: np.ndarray, others: dict[str, np.ndarray]) -> None:
    """Prints whether our negative log-likelihoods `[M]` are lower than those of each other."""
    for name, theirs in others.items():
        change, low, high, verdict = compare(ours, theirs, BLOCK)
        print(f"NLL against {name}: {change:+.3f} (95 % interval {low:+.3f} to {high:+.3f}), {verdict}")
    print(CLAIM)


def plot(
    days: np.ndarray,
    actual: np.ndarray,
    mean: np.ndarray,
    interval: tuple[jax.Array, jax.Array],
    deviations: dict[str, np.ndarray],
    path: Path,
) -> None:
    """Draws returns `[M]` with forecast mean and interval, and deviations by name, `[M]` or `[SEEDS, M]`."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    top.fill_between(days, *interval, color="C0", alpha=0.3, linewidth=0, label="95 % interval, a day ahead")
    top.plot(days, mean, color="C0", linewidth=1, label="mean, a day ahead")
    top.plot(days, actual, "k.", markersize=2, label="S&P 500")
    top.set(title="Test part", ylabel="log-return, %")
    for name, sigma in deviations.items():
        bottom.plot(days, np.atleast_2d(sigma)[0], linewidth=1, label=name)
    bottom.set(ylabel="deviation, %", ylim=(0, None))
    for axes in (top, bottom):
        axes.legend(frameon=False, fontsize="small", ncols=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
