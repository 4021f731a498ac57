"""Translations: their scores, some beside what they should be, curves, and where a model looks."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import sacrebleu
from flax import nnx
from matplotlib.figure import Figure

from examples.reports.kept import plot_history
from examples.shared import subwords
from examples.shared.units import END, Units
from jaxseq import diagnostics, nn


def scores(written: list[str], references: list[str]) -> str:
    """Returns corpus BLEU and chrF as columns."""
    metrics = (sacrebleu.corpus_bleu, sacrebleu.corpus_chrf)
    return "{:12.1f}{:6.1f}".format(*(metric(written, [references]).score for metric in metrics))


def plot_curves(histories: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draws the validation loss of models by name over the seconds of training."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.subplots()
    for name, history in histories.items():
        plot_history(axes, history, "seconds", "validation/loss", name)
    axes.set(xlabel="seconds of training", ylabel="nats a unit", title="Validation part; a star: kept")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def print_examples(sources: list[str], targets: list[str], written: dict[str, list[str]], count: int = 6) -> None:
    """Prints some sentences with the translation that stands in the book, and those of models by name."""
    for i in np.linspace(0, len(sources) - 1, count).astype(int):
        print()
        texts = {"English": sources[i], "Spanish": targets[i], **{name: texts[i] for name, texts in written.items()}}
        for name, text in texts.items():
            print(f"{name:20}{text}")


def plot_alignment(model: nn.Seq2Seq, units: Units, source: str, target: str, path: Path) -> None:
    """Draws where a translation looks; a unit that goes on with a word has a hyphen before it."""
    ids = [jnp.asarray(row)[None] for row in units.encode([source, target])]
    names = [
        [unit[1:] if unit.startswith(subwords.SPACE) else f"-{unit}" for unit in row]
        for row in subwords.split([source, target], units.merges)
    ]
    figure = Figure(figsize=(6, 6), layout="constrained")
    weights = nnx.jit(nn.Seq2Seq.alignments)(model, *ids)[0]
    diagnostics.plot_alignment(weights, source=names[0], target=[*names[1], END], ax=figure.subplots())
    figure.savefig(path, dpi=150)
