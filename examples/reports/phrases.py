"""By which phrases a TextCNN decides: its decision is a sum over them, of which each word has a part."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib import colormaps
from matplotlib.figure import Figure

from jaxseq import nn


@nnx.jit
def matches(model: nn.TextCNN, xs: jax.Array, mask: jax.Array) -> list[jax.Array]:
    """Returns how well each filter matches the phrase that begins at each word, `[N, T, F]` for each width."""
    embed: Any = model.embedding
    words = jnp.where(mask[..., None], embed(xs), 0)
    return [jnp.where(mask[..., None], jax.nn.relu(conv(words)), 0) for conv in model.convs]


def additions(model: nn.TextCNN, xs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Returns what each word adds to the log-odds of "positive", `[N, T]`; with the head's bias these are their sum.

    What a filter's strongest match adds is that of a phrase; its words have equal shares.
    """
    kernel = np.asarray(model.head.kernel[...])
    weights = np.split(kernel[:, 1] - kernel[:, 0], len(model.convs))
    added = np.zeros(xs.shape)
    rows, lengths = np.arange(len(xs))[:, None], mask.sum(axis=1)[:, None]
    every = matches(model, jnp.asarray(xs), jnp.asarray(mask))
    for conv, found, weight in zip(model.convs, every, weights, strict=True):
        starts, strongest = np.asarray(found.argmax(axis=1)), np.asarray(found.max(axis=1))  # [N, F]
        width = conv.kernel_size[0]
        words = np.minimum(lengths - starts, width)  # a phrase may reach beyond the end
        for offset in range(width):
            share = np.where(offset < words, strongest * weight / words, 0)
            np.add.at(added, (rows, np.minimum(starts + offset, xs.shape[1] - 1)), share)
    return added


def print_filters(model: nn.TextCNN, texts: list[list[str]], xs: np.ndarray, mask: np.ndarray, count: int) -> None:
    """Prints the filters that add most to one side, and the phrases of the texts that match each best."""
    kernel = np.asarray(model.head.kernel[...])
    weights = np.split(kernel[:, 1] - kernel[:, 0], len(model.convs))
    print("\nfilters that add most, and what they match best in the test part")
    rows = []
    every = map(np.asarray, matches(model, jnp.asarray(xs), jnp.asarray(mask)))
    for conv, found, weight in zip(model.convs, every, weights, strict=True):
        for f in range(found.shape[2]):
            best = np.unravel_index(np.argsort(-found[..., f], axis=None)[:20], mask.shape)
            phrases = [" ".join(texts[n][t : t + conv.kernel_size[0]]) for n, t in zip(*best, strict=True)]
            rows.append((found[..., f].max() * weight[f], list(dict.fromkeys(phrases))[:4]))
    rows.sort(key=lambda row: -row[0])
    for added, phrases in rows[:count] + rows[-count:]:
        print(f"{added:+5.2f}  " + " | ".join(phrases))


def plot_phrases(texts: list[list[str]], added: np.ndarray, titles: list[str], path: Path, columns: int = 90) -> None:
    """Draws texts, as wide as so many letters, whose words are coloured by what each adds: blue more, red less."""
    size = 10 / 72 * 0.602  # inches that a letter of 10 points is wide
    figure, scale, line = Figure(), np.abs(added).max(), 0
    axes = figure.add_axes((0, 0, 1, 1))
    font = {"family": "monospace", "fontsize": 10, "verticalalignment": "center"}
    for words, values, title in zip(texts, added, titles, strict=True):
        axes.text(1, line, title, fontsize=9, color="0.4", verticalalignment="center")
        line, column = line + 1, 1
        for word, value in zip(words, values, strict=False):
            if column + len(word) >= columns:
                line, column = line + 1, 1
            box = {"facecolor": colormaps["RdBu"](0.5 + 0.4 * value / scale), "edgecolor": "none", "pad": 1.5}
            axes.text(column, line, word, bbox=box, **font)
            column += len(word) + 1
        line += 2
    axes.text(1, line, "blue speaks for positive, red for negative", fontsize=9, style="italic", color="0.4")
    axes.set(xlim=(0, columns), ylim=(line + 1, -1))
    axes.axis("off")
    figure.set_size_inches(columns * size, (line + 2) * 0.22)
    figure.savefig(path, dpi=150)
