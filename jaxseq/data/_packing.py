"""Packing: several sequences in a row, one after the other, so that little is padding.

A recurrent net that is given the `reset` flags reads a packed row as if its sequences were apart. Attention must not
look across borders either: `np.cumsum(reset, axis=1)` numbers the sequences of a row.

Rows are filled by best fit, the longest sequence first. That takes at most 11/9 of the fewest rows possible, and 4 more
(Johnson, Demers, Ullman, Garey & Graham 1974).
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, ragged
from jaxseq.data._padding import lay


class Packed(NamedTuple):
    """N sequences in R rows.

    Attributes:
      xs: `[R, length, ...]`.
      mask: bool `[R, length]`, True where a step is real.
      reset: bool `[R, length]`, True at the first step of each sequence.
      row, start, lengths: int `[N]`: sequence i is `xs[row[i], start[i] : start[i] + lengths[i]]`.
    """

    xs: np.ndarray
    mask: np.ndarray
    reset: np.ndarray
    row: np.ndarray
    start: np.ndarray
    lengths: np.ndarray


def pack(sequences: Sequence[ArrayLike], length: int, *, value: float = 0) -> Packed:
    """Returns the sequences `[T_i, ...]` in rows of `length` steps, always in the same way.

    Args:
      sequences: N arrays or lists, alike but for their lengths; integers become int32.
      length: the steps of a row.
      value: what stands in the padding at the end of a row.

    Raises:
      TypeError, ValueError: an argument does not fit; a sequence is longer than a row.

    >>> packed = pack([[1], [2, 2], [3, 3, 3]], 4)
    >>> packed.xs.tolist(), packed.reset.astype(int).tolist()
    ([[3, 3, 3, 1], [2, 2, 0, 0]], [[1, 0, 0, 1], [1, 0, 0, 0]])
    """
    arrays = ragged("sequences", sequences)
    length = check.positive_int("length", length)
    lengths = np.array([len(array) for array in arrays], int)
    for i in np.flatnonzero(lengths > length)[:1]:
        raise ValueError(f"`sequences[{i}]` has {lengths[i]} steps, more than a row's `length` of {length}. Cut it.")
    row, start = _best_fit(lengths, length)
    shape = (max(row, default=-1) + 1, length)
    xs = lay(arrays, row, start, shape, value)
    mask = lay([np.ones(n, bool) for n in lengths], row, start, shape, False).astype(bool)
    reset = lay([np.arange(n) == 0 for n in lengths], row, start, shape, False).astype(bool)
    return Packed(xs, mask, reset, np.array(row, int), np.array(start, int), lengths)


def place(sequences: Sequence[ArrayLike], packed: Packed, *, value: float = 0) -> np.ndarray:
    """Returns other sequences, such as tags, `[R, length, ...]` where `pack` put those of the same lengths.

    Raises:
      TypeError, ValueError: an argument does not fit; the sequences are not of the same number and lengths.

    >>> packed = pack([[1], [2, 2], [3, 3, 3]], 4)
    >>> place([[0.1], [0.2, 0.3], [0.4, 0.5, 0.6]], packed).tolist()
    [[0.4, 0.5, 0.6, 0.1], [0.2, 0.3, 0.0, 0.0]]
    """
    _check_packed(packed)
    arrays = ragged("sequences", sequences)
    lengths = np.array([len(array) for array in arrays], int)
    if len(lengths) != len(packed.lengths):
        raise ValueError(f"`sequences` must be the {len(packed.lengths)} that are packed; got {len(lengths)}")
    for i in np.flatnonzero(lengths != packed.lengths)[:1]:
        raise ValueError(f"`sequences[{i}]` must have {packed.lengths[i]} steps, as when packed; got {lengths[i]}")
    return lay(arrays, packed.row, packed.start, packed.mask.shape, value)


def unpack(ys: ArrayLike, packed: Packed) -> list[np.ndarray]:
    """Returns what belongs to each packed sequence, arrays `[T_i, ...]`, in the order that `pack` was given.

    Args:
      ys: `[R, length, ...]`: a net's outputs on `packed.xs`, or those themselves.
      packed: what `pack` returned.

    Raises:
      TypeError, ValueError: `ys` are not of the packed rows.

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
    """Each sequence's row and start: the longest first, into the row that it leaves the least room in."""
    row, start = [0] * len(lengths), [0] * len(lengths)
    rooms = []  # (room, row), sorted
    for i in np.argsort(-lengths, kind="stable").tolist():
        at = bisect.bisect_left(rooms, (lengths[i], 0))
        room, row[i] = rooms.pop(at) if at < len(rooms) else (length, len(rooms))
        start[i] = length - room
        bisect.insort(rooms, (room - int(lengths[i]), row[i]))
    return row, start
