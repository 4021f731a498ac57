"""Digits by logistic regression on all pixels at once."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression


def fit(
    learned: dict[str, np.ndarray], validation: dict[str, np.ndarray], strengths: Sequence[float]
) -> tuple[LogisticRegression, float]:
    """Returns the model, one for each strength, with the highest accuracy in the validation part, and that."""
    models = [LogisticRegression(C=c, max_iter=1000).fit(learned["xs"][..., 0], learned["labels"]) for c in strengths]
    scores = [model.score(validation["xs"][..., 0], validation["labels"]) for model in models]
    return models[int(np.argmax(scores))], max(scores)


def most_frequent(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the log-probabilities of classes by how frequent each is among the labels, `[count, K]`: equal rows."""
    return np.tile(np.log(np.bincount(labels) / len(labels)), (count, 1))
