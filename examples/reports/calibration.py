"""How good are probabilities? Scores of members and of their ensemble, the table and the picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

BINS = 10


def bins(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns share, mean confidence and accuracy `[3, BINS]` of the predictions in each bin of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    count, *sums = (np.bincount(number, weights, BINS) for weights in (None, confidence, right))
    return np.stack([count / len(labels), *(total / np.maximum(count, 1) for total in sums)])


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy, NLL and expected calibration error of the probabilities `[N, K]`."""
    share, confidence, accuracy = bins(probabilities, labels)
    nll = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
    right = (probabilities.argmax(axis=1) == labels).mean()
    return {"accuracy": float(right), "NLL": float(nll), "ECE": float(np.sum(share * abs(confidence - accuracy)))}


def print_scores(table: list[dict[str, float]], ensemble: dict[str, float]) -> None:
    """Prints the scores of the members together, and those of the ensemble."""
    values = {name: np.array([row[name] for row in table]) for name in ensemble}
    best = {"accuracy": np.max, "NLL": np.min, "ECE": np.min}
    rows = {
        "mean of the members": {name: np.mean(column) for name, column in values.items()},
        "their standard deviation": {name: np.std(column) for name, column in values.items()},
        "the best in each column": {name: best[name](column) for name, column in values.items()},
        f"ensemble of {len(table)}": ensemble,
    }
    print(f"\n{'test part':32}{'accuracy':>10}{'NLL':>8}{'ECE':>8}")
    for name, row in rows.items():
        print(f"{name:32}{row['accuracy']:10.1%}{row['NLL']:8.3f}{row['ECE']:8.3f}")


def plot(
    table: list[dict[str, float]], ensemble: dict[str, float], one: np.ndarray, mean: np.ndarray, path: Path
) -> None:
    """Draws members and ensemble by each score, and how confidence and accuracy go together.

    Args:
      table: the scores of each member.
      ensemble: those of the ensemble.
      one: `bins` of all members' predictions in a row.
      mean: `bins` of the ensemble's.
      path: where the picture goes.
    """
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    *panels, reliability = figure.subplots(1, 4, width_ratios=[1, 1, 1, 2])
    for axes, name in zip(panels, ensemble, strict=True):
        values = [row[name] for row in table]
        axes.plot(np.linspace(-0.15, 0.15, len(values)), values, "o", alpha=0.5, label="members")
        axes.plot([-0.25, 0.25], [np.mean(values)] * 2, "C0-", label="their mean")
        axes.plot(0.6, ensemble[name], "C1D", markersize=9, label="ensemble")
        axes.set(title=name, xticks=[], xlim=(-0.5, 0.9))
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, ncols=3, loc="outside lower left")
    for label, (share, confidence, accuracy), marker in (("members", one, "o"), ("ensemble", mean, "D")):
        shown = share > 0.02
        reliability.plot(confidence[shown], accuracy[shown], marker=marker, label=label)
    reliability.plot([0, 1], [0, 1], ":", color="0.5", label="calibrated")
    reliability.set(title="bins of at least 2 % of the test part", xlabel="confidence", ylabel="accuracy")
    reliability.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
