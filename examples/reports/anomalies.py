"""Anomalies by a score: how it is made smooth, what is above a threshold, the table and the picture."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxseq.train import metrics

SMOOTH, TOLERANCE = 5, 100  # steps over which scores are averaged; steps that a hit may be off


def smooth(squares: np.ndarray) -> np.ndarray:
    """Returns the mean over the SMOOTH steps that lie around each."""
    return np.convolve(squares, np.ones(SMOOTH) / SMOOTH, mode="same")


def runs(flags: np.ndarray) -> list[slice]:
    """Returns where flags are True: a slice for each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [slice(*edges[i : i + 2].tolist()) for i in range(0, len(edges), 2)]


def hit(score: np.ndarray, anomaly: slice) -> bool:
    """Says whether the highest score lies within the anomaly, or near it: the contest's rule (Wu & Keogh 2021)."""
    reach = max(TOLERANCE, anomaly.stop - anomaly.start)
    return anomaly.start - reach < np.argmax(score) < anomaly.stop - 1 + reach


def print_scores(labels: np.ndarray, scores: dict[str, np.ndarray], thresholds: dict[str, float]) -> None:
    """Prints what each score `[N]` finds of the one anomaly in the labels, bool `[N]`."""
    (anomaly,) = runs(labels)
    print(f"\n{'test part':20}{'threshold':>10}{'precision':>10}{'recall':>8}{'F1':>8}{'false alarms':>14}", end="")
    print(f"{'highest at':>12}{'hit':>5}{'over rest':>11}")
    rest = np.ones(len(labels), bool)
    rest[max(0, anomaly.start - TOLERANCE) : anomaly.stop + TOLERANCE] = False
    for name, score in scores.items():
        alarms = score > thresholds[name]
        found = metrics.confusion(jnp.asarray(alarms, int), jnp.asarray(labels, int), 2).binary
        false = sum(not labels[max(0, run.start - SMOOTH) : run.stop + SMOOTH].any() for run in runs(alarms))
        print(f"{name:20}{thresholds[name]:10.3g}{found.precision:10.1%}{found.recall:8.1%}{found.f1:8.1%}", end="")
        print(f"{false:14d}{np.argmax(score):12d}{'yes' if hit(score, anomaly) else 'no':>5}", end="")
        print(f"{score.max() / score[rest].max():11.3g}")
    print(f"labelled: {anomaly.start} … {anomaly.stop - 1}, {labels.sum()} of {len(labels)} steps, one event")


def plot(
    values: np.ndarray, labels: np.ndarray, scores: dict[str, np.ndarray], thresholds: dict[str, float], path: Path
) -> None:
    """Draws the series and two scores: all that is tested, and beside it what lies around the anomaly."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    panels = figure.subplots(1 + len(scores), 2, sharex="col", width_ratios=[2, 1])
    (anomaly,) = runs(labels)
    around = slice(anomaly.start - 150, anomaly.stop + 150)
    steps = np.arange(len(values))
    for column, shown in enumerate((slice(None), around)):
        panels[0, column].plot(steps[shown], values[shown], color="0.3", linewidth=0.8)
        for axes, (name, score) in zip(panels[1:, column], scores.items(), strict=True):
            axes.semilogy(steps[shown], score[shown], linewidth=0.8, label="score")
            axes.axhline(thresholds[name], color="C3", linestyle="--", label="threshold")
        for axes in panels[:, column]:
            axes.axvspan(anomaly.start - 0.5, anomaly.stop - 0.5, color="C1", alpha=0.4, label="labelled")
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1, column].set_xlabel("step of the tested part")
    panels[0, 0].set(title="all steps", ylabel="value")
    panels[0, 1].set(title="around the anomaly")
    for axes, name in zip(panels[1:, 0], scores, strict=True):
        axes.set_ylabel(f"score, {name}")
    panels[1, 1].legend(frameon=False, loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)
