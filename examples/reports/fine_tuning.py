"""Accuracies by how much there was to train on: rows of training, the table and the picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from examples.data.reviews import Reviews

Scores = dict[str, dict[int, tuple[float, float]]]  # mean and deviation, by name and size


def print_sizes(movies: Reviews, training: Reviews, validation: Reviews, test: Reviews, words: int) -> None:
    """Prints how many texts there are of each part."""
    print(f"{len(movies.texts)} movie snippets and {len(training.texts)} product sentences to train on, ", end="")
    print(f"{len(validation.texts)} to validate, {len(test.texts)} to test; {words} words")


def print_row(name: str, history: list[dict[str, float]]) -> None:
    """Prints the best row of a history."""
    row = min(history, key=lambda row: row["validation/loss"])
    print(f"{name:32}validation accuracy {row['validation/accuracy']:.1%} at step {row['step']}", flush=True)


def print_scores(scores: Scores) -> None:
    """Prints the accuracies, a column a size."""
    print(f"\n{'test part, accuracy':30}" + "".join(f"{n:>14,}" for n in next(iter(scores.values()))))
    for name, by_size in scores.items():
        cells = (f"{mean:.1%}" + (f" ± {100 * std:.1f}" if std else "      ") for mean, std in by_size.values())
        print(f"{name:30}" + "".join(f"{cell:>14}" for cell in cells))


def plot(scores: Scores, path: Path) -> None:
    """Draws the accuracies over the size; those of one net for all sizes are lines without marks."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, by_size in scores.items():
        sizes, (means, deviations) = list(by_size), np.array(list(by_size.values())).T
        line = {"majority class": ":", "movie nets as they are": "--"}.get(name, "o-")
        axes.errorbar(sizes, means, deviations, fmt=line, markersize=4, capsize=3, label=name)
    axes.set(xscale="log", xlabel="product sentences to train on", ylabel="accuracy on the test part")
    axes.xaxis.set_major_locator(FixedLocator(list(scores["majority class"])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)
