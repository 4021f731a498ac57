"""Language models trained for as long as each other: rows, bits beside those of n-grams, samples, and curves."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from examples.reports.kept import plot_history
from jaxseq import train

HEAD = 20_000  # characters of a play that are read where validation is only for the curve


class Row(NamedTuple):
    """What came of a net."""

    bits: list[float]  # a character, in the validation and in the test part
    steps: int
    characters: int  # that were read in training
    seconds: float  # of training
    params: int
    sample: str  # that it wrote


def print_rows(name: str, seconds: float) -> Callable[[train.Fit], bool]:
    """Returns the callback that prints a row of the net `name`, and ends the run when the seconds are over."""

    def tell(fitted):
        row = fitted.history[-1]
        bits = f"bits per character {row['bits']:.3f}, validation {row['validation/bits']:.3f}"
        print(f"{name}, step {row['step']}, {row['validation/seconds']:.0f} s: {bits}", flush=True)
        return row["validation/seconds"] >= seconds

    return tell


class Bits(NamedTuple):
    """Of n-grams, a character."""

    validation: float
    test: float
    head: float  # in the first HEAD characters of each work of the validation part


def ngram_bits(grams: list[np.ndarray], validation: list[np.ndarray], order: int) -> dict[str, Bits]:
    """Returns the bits of n-grams of an order, and of the order that is best in the validation part.

    Args:
      grams: the bits of both parts, by order, `[orders, N]`.
      validation: the works of the validation part, whose first ids are not predicted.
      order: the one beside the best.
    """
    best = int(grams[0].mean(axis=1).argmin()) + 1
    head = np.concatenate([np.arange(len(work) - 1) < HEAD for work in validation])
    orders = {f"n-gram, order {order}": order, f"n-gram, order {best} (best)": best}
    means = {name: [part[order - 1].mean() for part in grams] for name, order in orders.items()}
    return {
        name: Bits(float(validation), float(test), float(grams[0][orders[name] - 1, head].mean()))
        for name, (validation, test) in means.items()
    }


def print_scores(nets: dict[str, Row], ngrams: dict[str, Bits]) -> None:
    """Prints the bits of nets and of n-grams, and what the nets wrote."""
    print(f"\n{'bits per character':26}{'validation':>11}{'test':>7}{'steps':>7}{'characters':>12}", end="")
    print(f"{'a step':>10}{'seconds':>9}{'params':>11}")
    for name, row in nets.items():
        print(f"{name:26}{row.bits[0]:11.3f}{row.bits[1]:7.3f}{row.steps:7,}{row.characters:12,}", end="")
        print(f"{1e3 * row.seconds / row.steps:7.1f} ms{row.seconds:9.0f}{row.params:11,}")
    for name, bits in ngrams.items():
        print(f"{name:26}{bits.validation:11.3f}{bits.test:7.3f}")
    for name, row in nets.items():
        print(f"\n--- {name}, temperature 0.8 ---\n{row.sample}")


def plot_curves(histories: dict[str, list[dict[str, float]]], ngrams: dict[str, Bits], path: Path) -> None:
    """Draws the bits of nets over the seconds of training, and n-grams beside them, by name."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        plot_history(axes, history, "validation/seconds", "validation/bits", name)
    for number, (name, bits) in enumerate(ngrams.items(), len(histories)):
        axes.axhline(bits.head, color=f"C{number}", linestyle="--", linewidth=1, label=name)
    axes.set(
        xlabel="seconds of training",
        ylabel="bits per character",
        title=f"The first {HEAD:,} characters of each validation play; a star: kept",
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def plot_budget(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws the bits of nets over the seconds that their steps take at least, points by name."""
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.set(xlabel="steps × least seconds of a step", ylabel="bits per character", title="Heads of validation plays")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
