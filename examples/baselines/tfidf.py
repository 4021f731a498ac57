"""Reviews by TF-IDF of n-grams and logistic regression."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from examples.data.reviews import Reviews

WORDS_AND_PAIRS = {"ngram_range": (1, 2)}


def predict(
    ngrams: dict[str, Any],
    training: Reviews,
    validation: Reviews,
    texts: list[str],
    *,
    strengths: Sequence[float] = (1, 2, 4, 8, 16),
) -> np.ndarray:
    """Returns the labels of texts; which of the strengths is taken, the validation part says.

    Args:
      ngrams: what is counted, as TfidfVectorizer takes it.
      training, validation: labelled.
      texts: N.
      strengths: of the weights, the inverse of their regularisation.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, **ngrams)
    features = vectorizer.fit_transform(training.texts)
    models = [LogisticRegression(C=c, max_iter=1000).fit(features, training.labels) for c in strengths]
    scores = [model.score(vectorizer.transform(validation.texts), validation.labels) for model in models]
    return models[int(np.argmax(scores))].predict(vectorizer.transform(texts))


def accuracy(training: Reviews, validation: Reviews, test: Reviews, *, strengths: Sequence[float]) -> float:
    """Returns the share of right labels in a part, by words and pairs of words."""
    predicted = predict(WORDS_AND_PAIRS, training, validation, test.texts, strengths=strengths)
    return float(np.mean(predicted == test.labels))


def majority(training: Reviews) -> int:
    """Returns the most frequent label."""
    return int(np.bincount(training.labels).argmax())
