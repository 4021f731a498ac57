"""Packing: several sequences in one row, one after the other, so that there is little padding.

A recurrent net that gets the `reset` flags computes the same for packed sequences as for separate ones. Attention must
not cross the borders either: `np.cumsum(reset, axis=1)` numbers the sequences of a row.

Rows are filled by best fit, the longest sequence first. This takes at most 11/9 of the smallest possible number of
rows, plus 4 (Johnson, Demers, Ullman, Garey & Graham 1974).
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, ragged
from jaxseq.data._padding import lay
from jaxseq.typing import AnyArray


class Packed(NamedTuple):
    """N sequences packed into R rows.

    Attributes:
      xs: `[R, length, ...]`, the packed sequences.
      mask: bool `[R, length]`, True where a step is real.
      reset: bool `[R, length]`, True at the first step of each sequence.
      row, start, lengths: int `[N]`. Sequence i is `xs[row[i], start[i] : start[i] + lengths[i]]`.
    """

    xs: np.ndarray
    mask: np.ndarray
    reset: np.ndarray
    row: np.ndarray
    start: np.ndarray
    lengths: np.ndarray


def pack(sequences: Sequence[ArrayLike] | AnyArray, length: int, *, value: float = 0) -> Packed:
    """Returns the sequences `[T_i, ...]` packed into rows of `length` steps; the packing is deterministic.

    Args:
      sequences: N arrays or lists that differ in length only. Integers become int32.
      length: the number of steps in a row.
      value: the number that fills the padding at the end of a row.

    Raises:
      TypeError, ValueError: an argument does not fit, or a sequence is longer than a row.

    >>> packed = pack([[1], [2, 2], [3, 3, 3]], 4)
    >>> packed.xs.tolist(), packed.reset.astype(int).tolist()
    ([[3, 3, 3, 1], [2, 2, 0, 0]], [[1, 0, 0, 1], [1, 0, 0, 0]])
    """
    arrays = ragged("sequences", sequences)
    length = check.positive_int("length", length)
    lengths = np.array([len(array) for array in arrays], int)
    for i in np.flatnonzero(lengths > length)[:1]:
        raise ValueError(f"`sequences[{i}]` has {lengths[i]} steps, more than `length`, {length}. Cut the sequence.")
    row, start = _best_fit(lengths, length)
    shape = (max(row, default=-1) + 1, length)
    xs = lay(arrays, row, start, shape, value)
    mask = lay([np.ones(n, bool) for n in lengths], row, start, shape, False).astype(bool)
    reset = lay([np.arange(n) == 0 for n in lengths], row, start, shape, False).astype(bool)
    return Packed(xs, mask, reset, np.array(row, int), np.array(start, int), lengths)


def place(sequences: Sequence[ArrayLike] | AnyArray, packed: Packed, *, value: float = 0) -> np.ndarray:
    """Returns further sequences, such as tags, packed like the first ones, `[R, length, ...]`.

    Args:
      sequences: N arrays or lists, with the lengths of the sequences that were packed.
      packed: the result of `pack`.
      value: the number that fills the padding.

    Raises:
      TypeError, ValueError: an argument does not fit, or the sequences differ in number or length from those packed.

    >>> packed = pack([[1], [2, 2], [3, 3, 3]], 4)
    >>> place([[0.1], [0.2, 0.3], [0.4, 0.5, 0.6]], packed).tolist()
    [[0.4, 0.5, 0.6, 0.1], [0.2, 0.3, 0.0, 0.0]]
    """
    _check_packed(packed)
    arrays = ragged("sequences", sequences)
    lengths = np.array([len(array) for array in arrays], int)
    if len(lengths) != len(packed.lengths):
        raise ValueError(f"`sequences` must be {len(packed.lengths)} sequences, as when packed; got {len(lengths)}")
    for i in np.flatnonzero(lengths != packed.lengths)[:1]:
        raise ValueError(f"`sequences[{i}]` must have {packed.lengths[i]} steps, as when packed; got {lengths[i]}")
    return lay(arrays, packed.row, packed.start, packed.mask.shape, value)


def unpack(ys: ArrayLike, packed: Packed) -> list[np.ndarray]:
    """Returns the steps of each packed sequence, arrays `[T_i, ...]`, in the order that `pack` was given.

    Args:
      ys: `[R, length, ...]`: the outputs of a net on `packed.xs`, or `packed.xs` itself.
      packed: the result of `pack`.

    Raises:
      TypeError, ValueError: `ys` does not have the rows and steps of `packed`.

    >>> packed = pack([[1], [2, 2], [3, 3, 3]], 4)
    >>> [ys.tolist() for ys in unpack(packed.xs, packed)]
    [[1], [2, 2], [3, 3, 3]]
    """
    _check_packed(packed)
    ys = numbers("ys", ys)
    if ys.shape[:2] != packed.mask.shape:
        raise ValueError(f"`ys` must be [R, length, ...] of the packed {packed.mask.shape}; got {ys.shape}")
    return [ys[r, s : s + n] for r, s, n in zip(packed.row, packed.start, packed.lengths, strict=True)]


def _check_packed(packed):
    if not isinstance(packed, Packed):
        raise TypeError(f"`packed` must be what pack returned; got {type(packed).__name__}")


def _best_fit(lengths, length):
    """Returns the row and start of each sequence: longest first, each into the fullest row that has room for it."""
    row, start = [0] * len(lengths), [0] * len(lengths)
    rooms = []  # (room, row), sorted
    for i in np.argsort(-lengths, kind="stable").tolist():
        at = bisect.bisect_left(rooms, (lengths[i], 0))
        room, row[i] = rooms.pop(at) if at < len(rooms) else (length, len(rooms))
        start[i] = length - room
        bisect.insort(rooms, (room - int(lengths[i]), row[i]))
    return row, start
