"""The confusion matrix and what follows from it, after scikit-learn with `zero_division=0`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq.train._elementwise import ids
from jaxseq.train.metrics._mean import Mean
from jaxseq.train.metrics._scores import Scores, scores


class Confusion(NamedTuple):
    """How often each label (row) was predicted as each class (column), int `[K, K]`.

    `precision`, `recall` and `f1` are `[K]`, one for each class against the rest. Of two classes with 1 the positive
    one, as in anomaly detection, the usual scores are `binary`. Micro averages over all classes are all the
    `accuracy`, as each step has one label and one prediction.
    """

    counts: jax.Array

    @property
    def scores(self) -> Scores:
        """Precision, recall and F1 `[K]` of each class against the rest; 0 where undefined."""
        return scores(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0), jnp.sum(self.counts, axis=1))

    @property
    def precision(self) -> jax.Array:
        """Of those predicted as a class, the share that are of it, `[K]`."""
        return self.scores.precision

    @property
    def recall(self) -> jax.Array:
        """Of those of a class, the share predicted as it, `[K]`."""
        return self.scores.recall

    @property
    def f1(self) -> jax.Array:
        """The harmonic mean of precision and recall, `[K]`."""
        return self.scores.f1

    @property
    def accuracy(self) -> jax.Array:
        """The share that are right; NaN where nothing was counted."""
        return Mean(jnp.trace(self.counts), jnp.sum(self.counts)).value

    @property
    def macro(self) -> Scores:
        """The plain averages over the classes that occur as a label or a prediction; NaN where none does."""
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


def confusion(predicted: jax.Array, labels: jax.Array, classes: int, *, mask: jax.Array | None = None) -> Confusion:
    """Returns the `Confusion` of predictions and labels.

    A step whose id or label is not in 0 … classes - 1 is not counted.

    Args:
      predicted: int `[...]`, such as `logits.argmax(-1)`.
      labels: int `[...]`.
      classes: K.
      mask: bool `[...]`.

    Raises:
      TypeError, ValueError: dtypes, shapes or `classes` do not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.confusion(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2).counts.tolist()
    [[1, 1], [0, 1]]
    """
    K = check.positive_int("classes", classes)
    predicted, labels = ids(predicted=predicted, labels=labels)
    mask = check.flags("mask", mask, labels.shape, "...")
    counted = (predicted >= 0) & (predicted < K) & (labels >= 0) & (labels < K)
    counted = counted if mask is None else counted & mask
    cell = jnp.where(counted, labels * K + predicted, K * K)  # bincount drops what is beyond its length
    return Confusion(_meshes.over_all(lambda cell: jnp.bincount(cell.ravel(), length=K * K).reshape(K, K), cell))
