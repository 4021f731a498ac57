"""Decisions on reviews, positive or negative: rows of a history, tables of scores, and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, precision_recall_fscore_support

from examples.data.reviews import Reviews
from jaxseq import train

NAMES = ("negative", "positive")


def print_sizes(parts: list[Reviews], tokens: int) -> None:
    """Prints how many texts there are to train on, to validate and to test."""
    training, validation, test = (len(part.texts) for part in parts)
    print(f"{training} texts to train on, {validation} to validate, {test} to test; {tokens} tokens")


def print_row(fitted: train.Fit) -> None:
    """Prints the last row of a history."""
    row = fitted.history[-1]
    print(f"epoch {row['epoch']:.0f}: training loss {row['loss']:.3f}, validation loss ", end="")
    print(f"{row['validation/loss']:.3f}, validation accuracy {row['validation/accuracy']:.1%}", flush=True)


def scores(labels: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Returns accuracy, and precision, recall and F1 of "positive"."""
    none: Any = 0  # its types know the word "warn" alone
    three = precision_recall_fscore_support(labels, predicted, average="binary", zero_division=none)[:3]
    return [accuracy_score(labels, predicted), *three]


def print_scores(labels: np.ndarray, predictions: dict[str, np.ndarray]) -> None:
    """Prints a row for each of the predictions, `[N]` by name."""
    print(f"\n{'test part':32}{'accuracy':>10}{'precision':>10}{'recall':>10}{'F1':>10}")
    for name, predicted in predictions.items():
        print(f"{name:32}" + "".join(f"{score:10.1%}" for score in scores(labels, predicted)))


def print_probabilities(sentences: list[str], probabilities: np.ndarray) -> None:
    """Prints the decision on each sentence, and how sure it is; the probabilities are `[N, 2]`."""
    print()
    for sentence, (_, positive) in zip(sentences, probabilities, strict=True):
        print(f"{'positive' if positive > 0.5 else 'negative'} {max(positive, 1 - positive):6.1%}  {sentence}")


def print_trained(name: str, seed: int, run: train.Fit) -> None:
    """Prints what came of a run with one of several seeds."""
    best = min(run.history, key=lambda row: row["validation/loss"])
    print(f"{name}, seed {seed}: {run.history[-1]['seconds']:.0f} s, best epoch {best['epoch']:.0f}, ", end="")
    print(f"validation loss {best['validation/loss']:.3f}, accuracy {best['validation/accuracy']:.1%}", flush=True)


def print_scores_of_seeds(
    labels: np.ndarray,
    nets: dict[str, tuple[list[np.ndarray], float, int]],
    baselines: dict[str, np.ndarray],
) -> None:
    """Prints mean and standard deviation of the scores of nets trained with several seeds, and those of baselines.

    Args:
      labels: `[N]`.
      nets: by name, what each seed predicts, `[N]`; seconds of training; the number of params.
      baselines: by name, `[N]`.
    """
    print(f"\n{'test part':30}{'accuracy':>13}{'precision':>13}{'recall':>13}{'F1':>13}{'seconds':>9}{'params':>11}")
    for name, (predicted, seconds, size) in nets.items():
        found = [scores(labels, row) for row in predicted]
        pairs = zip(np.mean(found, axis=0), np.std(found, axis=0), strict=True)
        row = "".join(f"{100 * mean:6.1f}% ± {100 * deviation:3.1f}" for mean, deviation in pairs)
        print(f"{f'{name}, {len(predicted)} seeds':30}{row}{seconds:9.1f}{size:11,}")
    for name, row in baselines.items():
        print(f"{name:30}" + "      ".join(f"{100 * score:6.1f}%" for score in scores(labels, row)))


def plot_confusion(labels: np.ndarray, predicted: np.ndarray, path: Path) -> None:
    """Draws how many of each label were taken for which."""
    figure = Figure(figsize=(4, 3.6), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, display_labels=NAMES, ax=figure.subplots(), cmap="Blues", colorbar=False
    )
    figure.axes[0].set(title="Test part", xlabel="predicted", ylabel="label")
    figure.savefig(path, dpi=150)
