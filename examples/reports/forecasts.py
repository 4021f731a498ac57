"""Forecasts of several steps ahead, with intervals, beside their baselines: the table, the verdicts and the picture."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from examples.reports.bootstrap import compare
from examples.shared.forecasters import HEAD, MEMBERS, SEEDS, Task

MEDIAN, COVERAGE = HEAD.levels.index(0.5), 0.8


def print_scores(
    task: Task, quantiles: np.ndarray, forecasts: dict[str, np.ndarray], earlier: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Prints the table of the test part and the verdicts, and returns the MAE `[H]` by name.

    `quantiles [SEEDS, M, H, Q]` are the nets', `forecasts [M, H]` the baselines', and `earlier` those of the validation
    part, whose errors' quantiles make the baselines' intervals.
    """
    validation, test = task.parts[1:]
    levels = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    ours = f"jaxseq, {MEMBERS} GRUs, mean of {SEEDS} seeds"
    lower, upper = map(np.asarray, HEAD.interval(jnp.asarray(quantiles), COVERAGE))
    predictions = {ours: (quantiles[..., MEDIAN], lower, upper)}
    for name, forecast in forecasts.items():
        below, above = np.nanquantile(validation.targets - earlier[name], levels, axis=0)
        predictions[name] = (forecast, forecast + below, forecast + above)

    header = "".join(f"{lead:7}" for lead in task.leads)
    print(f"\n{task.what}, {len(test.targets)} forecasts of the test part; MAE by the steps ahead")
    print(f"{'':32}{header}{'mean':>8}{'RMSE':>7}{'MASE':>7}{f'in {COVERAGE:.0%}':>9}{'width':>7}")
    maes, errors = {}, {}
    for name, (point, lower, upper) in predictions.items():
        error = np.abs(point - test.targets)
        axes = tuple(range(error.ndim - 1))
        maes[name], errors[name] = np.nanmean(error, axis=axes), np.nanmean(error, axis=(*axes[:-1], -1))
        held = np.mean(((lower <= test.targets) & (test.targets <= upper))[..., ~np.isnan(test.targets)])
        mae, rmse = maes[name].mean(), np.sqrt(np.nanmean(error**2, axis=(-2, -1))).mean()
        print(f"{name:32}" + "".join(f"{value:7.3f}" for value in maes[name]), end="")
        print(f"{mae:8.3f}{rmse:7.3f}{mae / task.naive_error:7.3f}{held:9.1%}{np.mean(upper - lower):7.2f}")
    by_seed = np.nanmean(np.abs(quantiles[..., MEDIAN] - test.targets), axis=(1, 2)).round(3).tolist()
    print(f"MAE of each seed: {by_seed}\n")
    for name in forecasts:
        *changes, verdict = compare(errors[ours], errors[name], task.block)
        change, low, high = np.array(changes) / errors[name].mean()
        print(f"MAE against {name}: {change:+.1%} (95 % interval {low:+.1%} to {high:+.1%}), {verdict}")
    return maes


def plot(task: Task, quantiles: np.ndarray, maes: dict[str, np.ndarray], path: Path) -> None:
    """Draws the first ten forecasts of the test part that do not overlap, by one ensemble, and the MAE by lead."""
    test, last = task.parts[2], int(task.leads[-1])
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, 3))
    rows = np.arange(0, len(test.days), last)[:10]
    for row in rows:
        lower, q25, median, q75, upper = quantiles[0, row].T
        for low, high, alpha in ((lower, upper, 0.2), (q25, q75, 0.35)):
            left.fill_between(test.days[row], low, high, color="C0", alpha=alpha, linewidth=0)
        left.plot(test.days[row], median, color="C0")
    left.plot(test.days[rows].ravel(), test.targets[rows].ravel(), "k.", markersize=4)
    left.set(title=f"Test part: a forecast every {last} steps", ylabel=task.what)
    drawn, names = [*left.collections[:2], left.lines[0], left.lines[-1]], ("80 %", "50 %", "median", "measured")
    left.legend(drawn, names, loc="lower center", bbox_to_anchor=(0.5, -0.25), frameon=False, ncols=4)
    left.xaxis.set_major_formatter(ConciseDateFormatter(left.xaxis.get_major_locator()))
    for name, values in maes.items():
        right.plot(task.leads, values, "o-", markersize=3, label=name, zorder=3 if name.startswith("jaxseq") else 2)
    right.set(title="Test part", xlabel="steps ahead", ylabel=f"MAE, {task.what}", ylim=(0, None), xticks=task.leads)
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
