"""The confusion matrix and scores computed from it, as in scikit-learn with `zero_division=0`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq.train._elementwise import ids
from jaxseq.train.metrics._mean import Mean
from jaxseq.train.metrics._scores import Scores, scores
from jaxseq.typing import AnyArray


class Confusion(NamedTuple):
    """A confusion matrix, int `[K, K]`: how often each label (row) was predicted as each class (column).

    `precision`, `recall` and `f1` are `[K]`, one value for each class against the rest. For two classes of which 1 is
    the positive one, as in anomaly detection, use `binary`. Micro averages over all classes equal `accuracy`, because
    each step has one label and one prediction.
    """

    counts: jax.Array

    @property
    def scores(self) -> Scores:
        """Precision, recall and F1 `[K]` of each class against the rest; 0 where undefined."""
        return scores(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0), jnp.sum(self.counts, axis=1))

    @property
    def precision(self) -> jax.Array:
        """The fraction of the predictions of a class that are right, `[K]`."""
        return self.scores.precision

    @property
    def recall(self) -> jax.Array:
        """The fraction of the labels of a class that were predicted, `[K]`."""
        return self.scores.recall

    @property
    def f1(self) -> jax.Array:
        """The harmonic mean of precision and recall, `[K]`."""
        return self.scores.f1

    @property
    def accuracy(self) -> jax.Array:
        """The fraction of steps whose prediction is right; NaN if nothing was counted."""
        return Mean(jnp.trace(self.counts), jnp.sum(self.counts)).value

    @property
    def macro(self) -> Scores:
        """The averages over the classes that occur as a label or a prediction; NaN if none does."""
        occurs = jnp.sum(self.counts, axis=0) + jnp.sum(self.counts, axis=1) > 0
        return Scores(*(jnp.mean(score, where=occurs) for score in self.scores))

    @property
    def binary(self) -> Scores:
        """The scores of class 1 against the rest."""
        return Scores(*(score[1] for score in self.scores))

    @property
    def value(self) -> dict[str, jax.Array]:
        """Accuracy, and the macro averages of precision, recall and F1."""
        return {"accuracy": self.accuracy, **self.macro._asdict()}


def confusion(predicted: AnyArray, labels: AnyArray, classes: int, *, mask: AnyArray | None = None) -> Confusion:
    """Returns the confusion matrix of predictions and labels.

    A step is not counted if its prediction or label is not in 0 … classes - 1.

    Args:
      predicted: int `[...]`, such as `logits.argmax(-1)`.
      labels: int `[...]`.
      classes: K, the number of classes.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype, a shape or `classes` does not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.confusion(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2).counts.tolist()
    [[1, 1], [0, 1]]
    """
    K = check.positive_int("classes", classes)
    predicted, labels = ids(predicted=predicted, labels=labels)
    mask = check.flags("mask", mask, labels.shape, "...")
    counted = (predicted >= 0) & (predicted < K) & (labels >= 0) & (labels < K)
    counted = counted if mask is None else counted & mask
    cell = jnp.where(counted, labels * K + predicted, K * K)  # bincount drops numbers beyond its length
    return Confusion(_meshes.over_all(lambda cell: jnp.bincount(cell.ravel(), length=K * K).reshape(K, K), cell))
