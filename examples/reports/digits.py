"""Digits that several nets have read: what each cost and found, and what it looks at."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from examples.reports.kept import plot_history
from jaxseq import diagnostics, nn
from jaxseq.train import losses, metrics


class Cost(NamedTuple):
    """What a net costs."""

    params: int
    milliseconds: float  # of a training step


def print_budgets(steps: dict[str, int], seconds: dict[str, float]) -> None:
    """Prints how long all the steps of each net take, of so many seconds each."""
    for name, count in steps.items():
        print(f"{name}: {count:,} steps of {1e3 * seconds[name]:.1f} ms are {count * seconds[name]:.0f} s")


def print_trained(name: str, history: list[dict[str, float]]) -> None:
    """Prints what came of training."""
    best = min(history, key=lambda row: row["validation/loss"])
    print(f"{name}: validation accuracy {best['validation/accuracy']:.1%} at step {best['step']}, ", end="")
    print(f"of {history[-1]['step']} in {history[-1]['seconds']:.0f} s", flush=True)


def print_scores(logits: dict[str, np.ndarray], costs: dict[str, Cost], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Prints the scores of logits `[N, K]` by name, the highest accuracy first; returns the nets' decisions."""
    truth = jnp.asarray(labels)
    found = {
        name: metrics.confusion(jnp.asarray(rows.argmax(-1)), truth, rows.shape[1]) for name, rows in logits.items()
    }
    print(f"\n{'test part':22}{'parameters':>10}{'ms a step':>11}", end="")
    print(f"{'accuracy':>10}{'precision':>11}{'recall':>8}{'F1':>8}{'NLL':>8}")
    for name in sorted(found, key=lambda name: -float(found[name].accuracy)):
        nll = losses.cross_entropy(jnp.asarray(logits[name]), truth).mean()
        precision, recall, f1 = found[name].macro
        cost = f"{costs[name].params:10,}{costs[name].milliseconds:11.1f}" if name in costs else ""
        print(f"{name:22}{cost:21}{found[name].accuracy:10.1%}", end="")
        print(f"{precision:11.1%}{recall:8.1%}{f1:8.1%}{nll:8.3f}")
    return {name: np.asarray(found[name].counts) for name in costs}


@nnx.jit
def attribute(model: nn.SequenceClassifier, digits: jax.Array, labels: jax.Array, blank: jax.Array) -> jax.Array:
    """Returns what each pixel of digits `[N, T, 1]` adds to the logit of what they are, by integrated gradients."""
    of_digits = jnp.arange(len(labels)), labels
    return diagnostics.integrated_gradients(lambda xs: model(xs)[of_digits], digits, baseline=blank)


def plot_accuracy(histories: dict[str, list[dict[str, float]]], linear: float, path: Path) -> None:
    """Draws the accuracy in the validation part over the seconds of training."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        plot_history(axes, history, "seconds", "validation/accuracy", name)
    axes.axhline(linear, color="0.5", linestyle="--", label="logistic regression")
    axes.set(xlabel="seconds of training", ylabel="accuracy", ylim=(0, 1), title="Validation part; a star: kept")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def plot_confusion(counts: dict[str, np.ndarray], path: Path) -> None:
    """Draws how often each class, a row, was taken for which, by name."""
    figure = Figure(figsize=(4 * len(counts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (name, table) in zip(panels, counts.items(), strict=True):
        axes.imshow(table / np.maximum(table.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(table):
            if count:
                color = "white" if 2 * count > table[row].sum() else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
        axes.set(xticks=range(len(table)), yticks=range(len(table)), xlabel="predicted", title=name)
    figure.axes[0].set(ylabel="is")
    figure.suptitle("Decisions on the test part", fontsize="medium")
    figure.savefig(path, dpi=150)


def plot_saliency(
    models: dict[str, nn.SequenceClassifier], part: dict[str, np.ndarray], classes: Sequence[int], path: Path
) -> None:
    """Draws the first digit of each of the classes, and what each of its pixels adds to the logit of what it is."""
    shown = [int(np.flatnonzero(part["labels"] == label)[0]) for label in classes]
    digits, labels = part["xs"][shown], jnp.asarray(part["labels"][shown])
    given = jnp.asarray(digits), labels, jnp.full(digits.shape, part["xs"].min())
    attributions = {name: np.asarray(attribute(model, *given)) for name, model in models.items()}
    side = math.isqrt(digits.shape[1])
    figure = Figure(figsize=(2.2 * (1 + len(attributions)), 2.3 * len(digits)), layout="constrained")
    columns = {"digit": digits, **attributions}
    for panels, (name, values) in zip(
        figure.subplots(len(digits), len(columns), squeeze=False).T, columns.items(), strict=True
    ):
        for axes, value in zip(panels, values, strict=True):
            largest = np.max(np.abs(value))
            colors = {"cmap": "gray_r"} if name == "digit" else {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
            axes.imshow(value.reshape(side, side), **colors)
            axes.set(xticks=[], yticks=[])
        panels[0].set_title(name, fontsize="medium")
    figure.suptitle("Integrated gradients: red adds to the logit of the digit, blue takes from it", fontsize="medium")
    figure.savefig(path, dpi=150)
