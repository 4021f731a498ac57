"""Spans in tagged sequences, as named-entity recognition counts them (conlleval; Tjong Kim Sang & De Meulder 2003).

Tags are "O", outside, and "B-", "I-", "E-" and "S-" with a type: BIO, IOB1 and BIOES are read by one rule. A step
inside a span continues the one before it where

    tag_t is I or E,   tag_{t-1} is B or I,   and both are of one type

and starts a span of its own otherwise. So an "I-" without a "B-" of its type before it starts one, as in conlleval. A
span is right where its first step, its last step and its type are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.train._elementwise import ids, strings
from jaxseq.train.metrics._scores import Scores, scores


class Spans(NamedTuple):
    """How many spans are right, how many were predicted, and how many there are."""

    correct: jax.Array
    predicted: jax.Array
    actual: jax.Array

    @property
    def precision(self) -> jax.Array:
        """Of the predicted spans, the share that are right; 0 without any."""
        return scores(*self).precision

    @property
    def recall(self) -> jax.Array:
        """Of the actual spans, the share that were found; 0 without any."""
        return scores(*self).recall

    @property
    def f1(self) -> jax.Array:
        """The harmonic mean of precision and recall."""
        return scores(*self).f1

    @property
    def value(self) -> dict[str, jax.Array]:
        """Precision, recall and F1 over all types (the micro average)."""
        return Scores(self.precision, self.recall, self.f1)._asdict()


def spans(predicted: jax.Array, labels: jax.Array, tags: Sequence[str], *, mask: jax.Array | None = None) -> Spans:
    """Returns the `Spans` of predicted and actual tags.

    Args:
      predicted: int `[..., T]`, places in `tags`; one that is out of range is outside, like padding.
      labels: int `[..., T]`.
      tags: their names, such as ["O", "B-PER", "I-PER"].
      mask: bool `[..., T]`; spans end at padding.

    Raises:
      TypeError, ValueError: dtypes, shapes or tags do not fit.

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
    """What each tag id says, `[len(tags) + 1]`; the last is outside."""

    kind: np.ndarray  # a number for each type, 0 outside
    continues: np.ndarray  # I, E: it continues a span that is open
    leaves_open: np.ndarray  # B, I: its span may go on


class _Found(NamedTuple):
    """Where spans start, `[..., T]`, and of what type and before which step each one ends that does."""

    starts: jax.Array
    kind: jax.Array
    end: jax.Array


def _table(tags: Sequence[str]) -> _Table:
    if not strings("tags", tags, "['O', 'B-PER', 'I-PER']"):
        raise ValueError("`tags` must name the tags, such as ['O', 'B-PER', 'I-PER']; got none")
    prefixes, types = zip(*(tag.partition("-")[::2] for tag in [*tags, "O"]), strict=True)
    for tag, prefix, kind in zip(tags, prefixes, types, strict=False):
        if prefix not in list("OBIES") or (prefix == "O" and kind):
            raise ValueError(f"`tags` must be 'O' or B-, I-, E- or S- with a type, such as 'B-PER'; got {tag!r}")
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
