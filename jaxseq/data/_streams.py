"""Streams: a long text cut into rows that continue from batch to batch, for nets whose carry does the same."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data import _check
from jaxseq.data._loader import Loader


def streams(ids: ArrayLike | Sequence[ArrayLike], batch_size: int, length: int) -> Loader:
    """Returns the loader of a stateful language model: B streams, of which each batch holds the next T steps.

    Batches are dicts of `"xs"` and `"targets"` (the next token), int32 `[B, T]`; `"reset"`, bool `[B, T]`, True where a
    document or an epoch starts; and `"mask"`, bool `[B, T]`, False after the end of a stream. A row continues where it
    ended in the previous batch, so hand the carry on and read the batches in order. Every token except the first of
    each document is predicted once an epoch.

    Args:
      ids: one document, ints `[N]`, or a list of documents. The last token of a document predicts nothing. If the model
        should predict the end of a document, append a token for it.
      batch_size: B, the number of streams.
      length: T, the steps in a batch.

    Raises:
      TypeError, ValueError: an argument does not fit, or no document has two tokens.

    >>> loader = streams(np.arange(7), 2, 2)
    >>> [batch["xs"].tolist() for batch in loader.epoch(0)]
    [[[0, 1], [3, 4]], [[2, 0], [5, 0]]]
    >>> [batch["targets"].tolist() for batch in loader.epoch(0)]
    [[[1, 2], [4, 5]], [[3, 0], [6, 0]]]
    """
    B, T = check.positive_int("batch_size", batch_size), check.positive_int("length", length)
    documents = [document for document in _documents(ids) if len(document) > 1]
    if not documents:
        raise ValueError("`ids` must hold a document of at least two tokens: one to read and one to predict")
    xs = np.concatenate([document[:-1] for document in documents])
    targets = np.concatenate([document[1:] for document in documents])
    starts = np.zeros(len(xs), bool)
    starts[np.cumsum([0, *[len(document) - 1 for document in documents[:-1]]])] = True
    steps = -(-len(xs) // B)
    return Loader(-(-steps // T), _Plan(xs, targets, starts, B, T, steps))


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """The plan of a loader made by `streams`; every epoch has the same batches."""

    xs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    B: int
    T: int
    steps: int  # of each stream; the last streams may be shorter

    def __call__(self, number):
        return self._batch

    def _batch(self, i):
        step = i * self.T + np.arange(self.T)
        place = np.arange(self.B)[:, None] * self.steps + step
        mask = (step < self.steps) & (place < len(self.xs))
        place = np.where(mask, place, 0)
        reset = np.where(mask, self.starts[place], False) | (step == 0)
        return {
            "xs": np.where(mask, self.xs[place], 0),
            "targets": np.where(mask, self.targets[place], 0),
            "reset": reset,
            "mask": mask,
        }


def _documents(ids):
    """Returns the documents as int32 arrays."""
    _check.sequence("ids", ids, "ids, or of documents of ids")
    if len(ids) and np.ndim(ids[0]) == 0 and not isinstance(ids[0], str):
        return [_check.ids("ids", ids)]
    return [_check.ids(f"ids[{i}]", document) for i, document in enumerate(ids)]
