"""Which text belongs to which sound? Decisions on pairs and places of texts, of any scores, and a baseline.

Scores are `[N, N]`, of N sounds (rows) with N texts, of which text i belongs to sound i.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from examples.spoken_digits import RATE
from examples.spoken_prompts import Prompts


def by_duration(train_part: Prompts, part: Prompts) -> np.ndarray:
    """The baseline: the seconds that a sound is off from what a linear regression on the letters says, `[N, N]`."""
    texts, seconds = ([[len(text)] for text in part.texts], np.array([len(sound) for sound in part.sounds]) / RATE)
    line = LinearRegression().fit(
        [[len(text)] for text in train_part.texts], [len(s) / RATE for s in train_part.sounds]
    )
    return -np.abs(seconds[:, None] - line.predict(texts))


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
    numbers = precision_recall_fscore_support(match, found >= threshold, average="binary", zero_division=0)
    return [accuracy_score(match, found >= threshold), *numbers[:3]]


def places(scores: np.ndarray) -> np.ndarray:
    """Returns the place of each sound's own text among all, from 1, `[N]`; of texts as good the first is first."""
    return 1 + np.argmax(np.argsort(-scores, axis=1, kind="stable") == np.arange(len(scores))[:, None], axis=1)


def plot_scores(path: Path, scores: np.ndarray, texts: Sequence[str]) -> None:
    """Draws the scores, and which text is the best for each sound."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(scores, cmap="magma", aspect="auto")
    names = [text if len(text) <= 36 else f"{text[:35]}…" for text in texts]
    axes.set(xticks=[], yticks=range(len(texts)), yticklabels=names, xlabel="the same texts", ylabel="recording of")
    axes.tick_params(axis="y", labelsize="small")
    for row, column in enumerate(scores.argmax(axis=1)):
        axes.plot(column, row, "o", color="tab:green" if row == column else "tab:red", markersize=5)
    figure.suptitle("Scores by attention; a dot is the best of these texts", fontsize="medium")
    figure.colorbar(image, ax=axes)
    figure.savefig(path, dpi=150)
