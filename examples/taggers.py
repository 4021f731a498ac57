"""What `pos_tagging` and `address_parsing` have in common: a tagger's loss, its decisions, and how they are shown.

A model gives scores of the tags `[B, T, K]` for a batch and a key, and has a field `crf`, None where each tag is chosen
by itself.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure

from jaxseq import data
from jaxseq.train import losses, metrics


def make_loss(graph: nnx.GraphDef) -> Callable:
    """Returns the loss function: nats a word, of the path or of each tag."""

    def loss_fn(params, batch, key):
        model, tags, mask = nnx.merge(graph, params), batch["tags"], batch["mask"]
        scores = model(batch, key)
        if model.crf is None:
            return metrics.mean(losses.cross_entropy(scores, tags, mask=mask), mask=mask), {}
        nats = -model.crf.log_likelihood(scores, tags, mask=mask)
        return metrics.Mean(jnp.sum(nats), jnp.sum(mask)), {}

    return loss_fn


@functools.cache
def make_decode(graph: nnx.GraphDef) -> Callable:
    """Returns the jitted function from params and a batch to tags `[B, T]`, the same one for equal graphs."""

    @jax.jit
    def decode(params, batch):
        model = nnx.merge(graph, params)
        scores = model(batch)
        return scores.argmax(-1) if model.crf is None else model.crf.decode(scores, mask=batch["mask"])

    return decode


def predict(decode: Callable, params: Any, sequences: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    """Returns the tags of each sequence, `[T_i]`."""
    count = len(next(iter(sequences.values())))
    found = [np.zeros(0, int)] * count
    for batch in data.bucketed(sequences, {"index": np.arange(count)}, 64).epoch(0):
        tags = np.asarray(decode(params, batch))
        for row in np.flatnonzero(batch["real"]):
            found[batch["index"][row]] = tags[row, batch["mask"][row]]
    return found


def timed(function: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    """Returns what a tagger finds, and how many words a second, once it is compiled."""
    function()
    started = time.perf_counter()
    found = function()
    return found, sum(map(len, found)) / (time.perf_counter() - started)


def plot_f1(f1: dict[str, np.ndarray], counts: np.ndarray, names: list[str], path: Path, title: str) -> None:
    """Draws the F1 of the 20 most frequent tags, a bar for each tagger.

    Args:
      f1: by tagger, `[K]`.
      counts: of the tags, `[K]`.
      names: of the tags.
      path: where the picture goes.
      title: above it.
    """
    shown = np.argsort(-counts, kind="stable")[: min(20, np.sum(counts > 0))]
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(shown)), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(f1)
    for number, (name, values) in enumerate(f1.items()):
        axes.barh(np.arange(len(shown)) + width * (number - len(f1) / 2 + 0.5), values[shown], width, label=name)
    axes.set(yticks=range(len(shown)), yticklabels=[names[tag] for tag in shown], xlim=(0, 1), xlabel="F1", title=title)
    axes.set_ylim(len(shown) - 0.4, -0.6)  # the most frequent one on top
    figure.legend(frameon=False, ncols=len(f1), loc="outside upper center")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
