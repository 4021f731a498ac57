"""Regimes of volatility: what each is, how forecasts by them are scored, and the picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from examples.reports.returns import print_against

YEAR = 252  # trading days
COLORS = ("C0", "C1", "C3", "k")


class Forecast(NamedTuple):
    """What was said of each return `[T]` the day before, told by what came: its log-density, and its quantile."""

    density: np.ndarray
    quantile: np.ndarray  # the probability of a lower return


def describe(mean: np.ndarray, deviation: np.ndarray, transition: np.ndarray) -> None:
    """Prints each regime: its mean and standard deviation `[K]`, and what follows from the transitions `[K, K]`."""
    transition = transition / transition.sum(axis=1, keepdims=True)
    share = np.linalg.matrix_power(transition, 100_000)[0]
    print(f"\n{'regime':8}{'mean, % a day':>15}{'volatility, % a year':>22}{'lasts, days':>13}{'share of days':>15}")
    for k, stays in enumerate(np.diag(transition)):
        lasts = 1 / (1 - stays) if stays < 1 else np.inf
        print(f"{k + 1:<8}{mean[k]:15.3f}{np.sqrt(YEAR) * deviation[k]:22.1f}{lasts:13.1f}{share[k]:15.1%}")


def print_scores(forecasts: dict[str, Forecast], test: slice) -> None:
    """Prints the scores of forecasts on the days `test`, and whether the first one is better than each other."""
    print(f"{'':24}{'NLL':>9}{'in 80%':>9}{'in 95%':>9}{'in 99%':>9}")
    for name, (density, quantile) in forecasts.items():
        held = "".join(f"{np.mean(np.abs(2 * quantile[test] - 1) < share):9.1%}" for share in (0.8, 0.95, 0.99))
        print(f"{name:24}{-density[test].mean():9.4f}{held}")
    print()
    nll = {name: -forecast.density[test] for name, forecast in forecasts.items()}
    print_against(nll.pop(next(iter(nll))), nll)


def plot(
    days: np.ndarray,
    returns: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray],
    ahead: np.ndarray,
    smoothed: np.ndarray,
    variance: np.ndarray,
    start: int,
    path: Path,
) -> None:
    """Draws the price, coloured by regimes in hindsight, and the volatility a day ahead.

    Args:
      days: `[T]`.
      returns: `[T]`, per cent.
      moments: mean and standard deviation of each regime, `[K]`.
      ahead: probabilities of the regimes the day before, `[T, K]`.
      smoothed: those in hindsight.
      variance: the baseline's, `[T]`.
      start: the day that the test part begins with.
      path: where the picture goes.
    """
    mean, deviation = moments
    level = 100 * np.exp(np.cumsum(returns) / 100)
    second = ahead @ (deviation**2 + mean**2) - (ahead @ mean) ** 2
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    top.plot(days, level, color="0.8", linewidth=0.8)
    for k in range(len(mean)):
        at = smoothed.argmax(axis=1) == k
        label = f"regime {k + 1}: {np.sqrt(YEAR) * deviation[k]:.0f} % a year"
        top.plot(days[at], level[at], ".", color=COLORS[k], markersize=2.5, label=label)
    top.set(yscale="log", ylabel="price, first day 100", title="Regimes in hindsight: smoothed probabilities")
    top.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    top.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    top.yaxis.set_minor_locator(NullLocator())
    bottom.plot(days, np.sqrt(YEAR * variance), color="0.6", linewidth=0.8, label="RiskMetrics, λ = 0.94")
    bottom.plot(days, np.sqrt(YEAR * second), color="C2", linewidth=0.8, label=f"{len(mean)} regimes, filtered")
    bottom.set(ylabel="volatility, % a year", ylim=(0, None), title="A day ahead: filtered probabilities")
    for axes in (top, bottom):
        axes.axvline(days[start], color="k", linestyle=":", linewidth=1, label="test part, from here")
        axes.legend(frameon=False, fontsize="small", markerscale=3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
