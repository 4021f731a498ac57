"""Scores of spans in tagged sequences, as for named entities (conlleval; Tjong Kim Sang & De Meulder 2003).

A tag is "O" (outside), or "B-", "I-", "E-" or "S-" with a type. One rule reads BIO, IOB1 and BIOES. A step inside a
span continues the span of the step before if

    tag_t is I or E,   tag_{t-1} is B or I,   and both have the same type

and otherwise starts a new span. An "I-" that no "B-" of its type precedes therefore starts a span, as in conlleval. A
predicted span is right if its first step, its last step and its type are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.train._elementwise import ids, strings
from jaxseq.train.metrics._scores import Scores, scores
from jaxseq.typing import AnyArray


class Spans(NamedTuple):
    """The numbers of correct, predicted and actual spans."""

    correct: jax.Array
    predicted: jax.Array
    actual: jax.Array

    @property
    def precision(self) -> jax.Array:
        """The fraction of predicted spans that are right; 0 if there are none."""
        return scores(*self).precision

    @property
    def recall(self) -> jax.Array:
        """The fraction of actual spans that were found; 0 if there are none."""
        return scores(*self).recall

    @property
    def f1(self) -> jax.Array:
        """The harmonic mean of precision and recall."""
        return scores(*self).f1

    @property
    def value(self) -> dict[str, jax.Array]:
        """Precision, recall and F1 over all types (the micro average)."""
        return Scores(self.precision, self.recall, self.f1)._asdict()


def spans(predicted: AnyArray, labels: AnyArray, tags: Sequence[str], *, mask: AnyArray | None = None) -> Spans:
    """Returns the counts of correct, predicted and actual spans; their value holds precision, recall and F1.

    Args:
      predicted: int `[..., T]`, indices into `tags`. An index out of range counts as outside, like padding.
      labels: int `[..., T]`, indices into `tags`.
      tags: the names of the tags, such as ["O", "B-PER", "I-PER"].
      mask: bool `[..., T]`, True where a step is real; a span ends at padding.

    Raises:
      TypeError, ValueError: a dtype, a shape or `tags` does not fit.

    >>> from jaxseq.train import metrics
    >>> labels, predicted = jnp.array([[1, 2, 0, 1]]), jnp.array([[1, 2, 0, 2]])
    >>> metrics.spans(predicted, labels, ["O", "B-PER", "I-PER"]).f1.item()
    1.0
    """
    table = _table(tags)
    predicted, labels = ids(predicted=predicted, labels=labels)
    if labels.ndim == 0:
        raise ValueError("`labels` must be [..., T], of at least 1 axis; got ()")
    mask = check.flags("mask", mask, labels.shape, "..., T")
    predicted, labels = (_outside_of_range(x, mask, len(tags)) for x in (predicted, labels))
    ours, theirs = _spans(predicted, table), _spans(labels, table)
    correct = ours.starts & theirs.starts & (ours.kind == theirs.kind) & (ours.end == theirs.end)
    return Spans(*(jnp.sum(flags) for flags in (correct, ours.starts, theirs.starts)))


class _Table(NamedTuple):
    """The meaning of each tag id, `[len(tags) + 1]`; the last entry is outside."""

    kind: np.ndarray  # the number of the type, 0 for outside
    continues: np.ndarray  # True for I and E, which continue an open span
    leaves_open: np.ndarray  # True for B and I, whose span may continue


class _Found(NamedTuple):
    """Where spans start, `[..., T]`; the type of each, and the step before which it ends."""

    starts: jax.Array
    kind: jax.Array
    end: jax.Array


def _table(tags: Sequence[str]) -> _Table:
    if not strings("tags", tags, "['O', 'B-PER', 'I-PER']"):
        raise ValueError("`tags` must hold at least one tag, such as ['O', 'B-PER', 'I-PER']; got none")
    prefixes, types = zip(*(tag.partition("-")[::2] for tag in [*tags, "O"]), strict=True)
    for tag, prefix, kind in zip(tags, prefixes, types, strict=False):
        if prefix not in list("OBIES") or (prefix == "O" and kind):
            raise ValueError(f"`tags` must be 'O', or B-, I-, E- or S- with a type, such as 'B-PER'; got {tag!r}")
    numbers = {kind: number for number, kind in enumerate(sorted(set(types)), 1)}
    return _Table(
        np.array([0 if p == "O" else numbers[kind] for p, kind in zip(prefixes, types, strict=True)]),
        np.isin(prefixes, ["I", "E"]),
        np.isin(prefixes, ["B", "I"]),
    )


def _outside_of_range(x, mask, count):
    real = (x >= 0) & (x < count)
    return jnp.where(real if mask is None else real & mask, x, count)


def _spans(x, table):
    def padded(column, before, after):
        return jnp.pad(column, [(0, 0)] * (x.ndim - 1) + [(before, after)])

    T = x.shape[-1]
    kind, continues, leaves_open = (jnp.asarray(column)[x] for column in table)
    kind_before, open_before = (padded(column, 1, 0)[..., :-1] for column in (kind, leaves_open))
    continues &= open_before & (kind == kind_before)
    borders = jnp.where(padded(continues, 0, 1), T, jnp.arange(T + 1))
    end = jax.lax.cummin(borders, axis=x.ndim - 1, reverse=True)[..., 1:]  # the first border after each step
    return _Found((kind > 0) & ~continues, kind, end)
