"""Which text belongs to which sound? Decisions on pairs and places of texts, of any scores, and pictures.

Scores are `[N, N]`, of N sounds (rows) with N texts, of which text i belongs to sound i.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.shared.comparison import Compared
from examples.shared.spectra import BANDS, HOP
from jaxseq import train


def pairs(scores: np.ndarray, texts: Sequence[str], *, alike: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the scores of N matching pairs and N others, and which match, `[2 N]`; each text is in one of either.

    Two texts change places: any two, or, if `alike`, neighbours in the order of their length.
    """
    N, lengths = len(texts), [len(text) for text in texts]
    order = np.argsort(lengths, kind="stable") if alike else np.random.default_rng(0).permutation(N)
    others = np.empty(N, int)
    others[order] = order.reshape(-1, 2)[:, ::-1].ravel()
    return np.concatenate([scores[range(N), range(N)], scores[range(N), others]]), np.arange(2 * N) < N


def combine(scores: Sequence[Sequence[np.ndarray]], texts: Sequence[str]) -> list[np.ndarray]:
    """Returns what a logistic regression makes of several scores, of each part; the first part's pairs train it.

    Args:
      scores: of each kind, for each part, `[N, N]`.
      texts: of the first part, N.
    """
    known = [[pairs(kind[0], texts, alike=alike) for kind in scores] for alike in (False, True)]
    features = np.concatenate([np.stack([found for found, _ in kinds], axis=1) for kinds in known])
    regression = make_pipeline(StandardScaler(), LogisticRegression())
    regression.fit(features, np.concatenate([kinds[0][1] for kinds in known]))
    parts = [np.stack(part, axis=-1) for part in zip(*scores, strict=True)]
    return [regression.decision_function(part.reshape(-1, len(scores))).reshape(part.shape[:2]) for part in parts]


def decisions(scores: np.ndarray, texts: Sequence[str], validation: tuple, *, alike: bool) -> list[float]:
    """Returns accuracy, precision, recall and F1 of pairs, by the threshold that is best on the validation part's."""
    known, known_match = pairs(*validation, alike=alike)
    threshold = max(np.sort(known), key=lambda value: accuracy_score(known_match, known >= value))
    found, match = pairs(scores, texts, alike=alike)
    none: Any = 0  # its types know the word "warn" alone
    numbers = precision_recall_fscore_support(match, found >= threshold, average="binary", zero_division=none)
    return [accuracy_score(match, found >= threshold), *numbers[:3]]


def places(scores: np.ndarray) -> np.ndarray:
    """Returns the place of each sound's own text among all, from 1, `[N]`; of texts as good the first is first."""
    return 1 + np.argmax(np.argsort(-scores, axis=1, kind="stable") == np.arange(len(scores))[:, None], axis=1)


def alone(scores: list[np.ndarray], axis: int) -> list[np.ndarray]:
    """Returns scores that know one of the two inputs alone: those of each part, as their mean over an axis."""
    return [np.broadcast_to(part.mean(axis=axis, keepdims=True), part.shape) for part in scores]


def by_each(
    attention: list[np.ndarray], spelling: list[np.ndarray], duration: list[np.ndarray], texts: Sequence[str]
) -> dict[str, list[np.ndarray]]:
    """Returns three kinds of scores of both parts by name, all together, and what one input alone tells.

    The texts are those of the validation part, of which `combine` learns.
    """
    return {
        "attention": attention,
        "CTC": spelling,
        "duration": duration,
        "all three": combine([attention, spelling, duration], texts),
        "sound alone": alone(attention, 1),
        "text alone": alone(attention, 0),
    }


def print_scores(methods: dict[str, list[np.ndarray]], validation: Sequence[str], test: Sequence[str]) -> None:
    """Prints decisions and places in the test part.

    Args:
      methods: by name, the scores of both parts.
      validation, test: the texts of both parts.
    """
    print(f"\n{'test part,':22}{'with any other text':>36}{'with one as long':>36}{'its text among all':>24}")
    columns = 2 * f"{'accuracy':>12}{'prec.':>8}{'recall':>8}{'F1':>8}"
    print(f"{f'{len(test)} + {len(test)} pairs':22}{columns}{'first':>9}{'in 5':>8}{'MRR':>7}")
    for name, (known, scores) in methods.items():
        numbers, place = "", places(scores)
        for alike in (False, True):
            accuracy, *others = decisions(scores, test, (known, validation), alike=alike)
            numbers += f"{accuracy:12.1%}" + "".join(f"{number:8.1%}" for number in others)
        print(f"{name:22}{numbers}{np.mean(place <= 1):9.1%}{np.mean(place <= 5):8.1%}{np.mean(1 / place):7.3f}")


def print_row(fitted: train.Fit) -> None:
    """Prints the last row of a history."""
    row = fitted.history[-1]
    numbers = ", ".join(f"{name} {row[f'validation/{name}']:.3f}" for name in ("loss", "accuracy", "spelling"))
    print(f"step {row['step']}, {row['seconds']:.0f} s: loss {row['loss']:.3f}, validation {numbers}", flush=True)


def plot_scores(path: Path, scores: np.ndarray, texts: Sequence[str]) -> None:
    """Draws the scores of some twenty texts, the shortest first, and which text is the best for each sound."""
    shown = np.argsort([len(text) for text in texts], kind="stable")[:: max(len(texts) // 20, 1)]
    scores, names = scores[np.ix_(shown, shown)], [texts[row] for row in shown]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="magma", aspect="auto")
    names = [name if len(name) <= 36 else f"{name[:35]}…" for name in names]
    axes.set(xticks=[], yticks=range(len(names)), yticklabels=names, xlabel="the same texts", ylabel="recording of")
    axes.tick_params(axis="y", labelsize="small")
    for row, column in enumerate(scores.argmax(axis=1)):
        axes.plot(column, row, "o", color="tab:green" if row == column else "tab:red", markersize=5)
    figure.suptitle("Scores by attention; a dot is the best of these texts", fontsize="medium")
    figure.colorbar(image, ax=axes)
    figure.savefig(path, dpi=150)


def plot_attention(path: Path, found: Compared, row: int, text: str) -> None:
    """Draws the frames of the sound numbered `row`, and where the letters of its text look."""
    real = found.mask[row]
    weights = found.weights[row][: len(text), : len(real[::2][real[::2]])]
    mels = found.xs[row][real].reshape(-1, BANDS)
    extent = (0, HOP * len(mels))
    figure = Figure(figsize=(9, 0.15 * len(text) + 3), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 0.15 * len(text)))
    top.imshow(mels.T, origin="lower", aspect="auto", extent=(*extent, 0, BANDS), cmap="magma")
    top.set(ylabel="mel band", title="Log-mel energies, and where each letter looks")
    bottom.imshow(weights, aspect="auto", extent=(*extent, len(text) - 0.5, -0.5), cmap="Blues")
    bottom.set(yticks=range(len(text)), yticklabels=text.replace(" ", "␣"), xlabel="seconds", ylabel="text")
    figure.savefig(path, dpi=150)
