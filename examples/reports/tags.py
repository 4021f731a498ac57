"""Tags, right and wrong: rows of training, tables of scores, and the F1 of each tag as a picture."""

import functools
from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from examples.data.tagged_talk import Part
from jaxseq import data
from jaxseq.train import metrics


def plot_f1(f1: dict[str, np.ndarray], counts: np.ndarray, names: Sequence[str], path: Path, title: str) -> None:
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


def print_row(name: str, row: dict[str, float]) -> None:
    """Prints a row of the history of the net `name`."""
    print(f"{name}, epoch {row['epoch']:.0f}: {row['loss']:.3f} nats a word in training, ", end="")
    print(f"accuracy {row['validation/accuracy']:.1%} in validation", flush=True)


def print_tagged(words: list[list[str]], ids: list[np.ndarray], tags: data.Vocabulary) -> None:
    """Prints each word with its tag."""
    for row, found in zip(words, ids, strict=True):
        print(" ".join(f"{word}/{tag}" for word, tag in zip(row, tags.decode(found), strict=True)))


def print_scores(
    part: Part, found: dict[str, tuple[list[np.ndarray], float]], known: Container[str], K: int
) -> dict[str, np.ndarray]:
    """Prints the scores of taggers, and returns the F1 of each tag, `[K]`, by tagger.

    Args:
      part: the test part.
      found: by tagger, the tags of each utterance, and how many words a second it took.
      known: words; how those that are not among them are tagged, a column says.
      K: how many tags there are.
    """
    unknown = part.scored & np.array([word not in known for words in part.talk.words for word in words])
    share = f"{unknown.sum() / part.scored.sum():.1%} unknown"
    print(f"\n{'test part':28}{'accuracy':>10}{share:>16}{'macro F1':>10}{'words/s':>10}")
    f1 = {}
    for name, (rows, speed) in found.items():
        tags = np.concatenate(rows)
        scores = metrics.confusion(jnp.asarray(tags), jnp.asarray(part.labels), K, mask=jnp.asarray(part.scored))
        f1[name] = np.asarray(scores.f1)
        of_unknown = (tags == part.labels)[unknown].mean()
        print(f"{name:28}{part.accuracy(rows):10.1%}{of_unknown:16.1%}{scores.macro.f1:10.1%}{speed:10,.0f}")
    return f1


class Folds:
    """Scores of taggers in several test parts."""

    def __init__(self, K: int):
        self.K = K
        self.scores, self.seconds, self.confusions = defaultdict(list), defaultdict(list), defaultdict(list)

    def add(self, name: str, found: list[np.ndarray], truth: list[np.ndarray], seconds: float) -> None:
        """Adds a tagger's tags of each sequence of a test part, and the seconds that it was trained for."""
        ids, labels = (jnp.asarray(np.concatenate(rows)) for rows in (found, truth))
        confusion = metrics.confusion(ids, labels, self.K)
        whole = np.mean([np.array_equal(*rows) for rows in zip(found, truth, strict=True)])
        self.confusions[name].append(confusion)
        self.scores[name].append([confusion.accuracy, whole, confusion.macro.f1])
        self.seconds[name].append(seconds)
        print(f"part {len(self.scores[name])}, {name}: {confusion.accuracy:.1%} of the words", flush=True)

    def print(self) -> None:
        """Prints mean and standard deviation of the scores."""
        print(f"\n{'test parts':14}{'words':>14}{'addresses':>14}{'macro F1':>14}{'s to train':>12}")
        for name, rows in self.scores.items():
            pairs = zip(np.mean(rows, axis=0), np.std(rows, axis=0), strict=True)
            row = "".join(f"{f'{mean:.1%} ± {100 * std:.1f}':>14}" for mean, std in pairs)
            print(f"{name:14}{row}{np.mean(self.seconds[name]):12.1f}")

    def plot(self, names: Sequence[str], path: Path) -> None:
        """Draws the F1 of the tags with these names, in all parts together."""
        together = {name: functools.reduce(metrics.merge, found) for name, found in self.confusions.items()}
        frequency = np.asarray(next(iter(together.values())).counts.sum(axis=1))
        f1 = {name: np.asarray(confusion.f1) for name, confusion in together.items()}
        plot_f1(f1, frequency, names, path, "Test parts, the most frequent tags")
