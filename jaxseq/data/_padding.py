"""Padding: sequences of different lengths in one array, with a mask of the real steps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, ragged
from jaxseq.typing import AnyArray


class Padded(NamedTuple):
    """Padded sequences: `xs [B, T, ...]`, and `mask`, bool `[B, T]`, True where a step is real."""

    xs: np.ndarray
    mask: np.ndarray


def pad(
    sequences: Sequence[ArrayLike] | AnyArray,
    *,
    length: int | None = None,
    multiple: int = 1,
    side: str = "right",
    truncate: str = "right",
    value: float = 0,
) -> Padded:
    """Returns the sequences `[T_i, ...]` padded to one array `[B, T, ...]`, and their mask.

    Integers become int32; other dtypes are kept. Sequences may be empty, and so may the list of them.

    Args:
      sequences: B arrays or lists that differ in length only.
      length: T; longer sequences are cut. None: the length of the longest.
      multiple: T is rounded up to a multiple of this number, so that few shapes are compiled.
      side: "right" or "left": the side on which padding is added.
      truncate: "right" or "left": the end at which a sequence is cut.
      value: the number that fills the padding.

    Raises:
      TypeError, ValueError: an argument does not fit; sequences hold text, or have different feature shapes.

    >>> xs, mask = pad([[5, 6, 7], [8]], multiple=4)
    >>> xs.tolist(), mask.sum(axis=1).tolist()
    ([[5, 6, 7, 0], [8, 0, 0, 0]], [3, 1])
    """
    arrays = ragged("sequences", sequences)
    check.one_of("side", side, ("right", "left"))
    check.one_of("truncate", truncate, ("right", "left"))
    multiple = check.positive_int("multiple", multiple)
    T = max(map(len, arrays), default=0) if length is None else check.natural("length", length)
    T = -(-T // multiple) * multiple
    arrays = [array[:T] if truncate == "right" else array[max(0, len(array) - T) :] for array in arrays]
    starts = [0 if side == "right" else T - len(array) for array in arrays]
    xs = lay(arrays, range(len(arrays)), starts, (len(arrays), T), value)
    mask = lay([np.ones(len(array), bool) for array in arrays], range(len(arrays)), starts, xs.shape[:2], False)
    return Padded(xs, mask.astype(bool))


def unpad(xs: ArrayLike, mask: ArrayLike) -> list[np.ndarray]:
    """Returns the real steps of each row, arrays `[T_i, ...]`; the inverse of `pad`.

    Args:
      xs: `[B, T, ...]`, inputs or outputs.
      mask: bool `[B, T]`, True where a step is real, in any pattern.

    Raises:
      TypeError, ValueError: `mask` is not bool, or not of the shape `[B, T]` of `xs`.

    >>> [row.tolist() for row in unpad(*pad([[5, 6, 7], [], [8]]))]
    [[5, 6, 7], [], [8]]
    """
    xs, mask = numbers("xs", xs), numbers("mask", mask)
    if mask.dtype != bool:
        raise TypeError(f"`mask` must be bool [B, T]; got {mask.dtype}")
    if mask.ndim != 2 or mask.shape != xs.shape[:2]:
        hint = " Are they time-major?" if mask.shape[::-1] == xs.shape[:2] else ""
        raise ValueError(f"`mask` must be [B, T], the first axes of `xs` {xs.shape}; got {mask.shape}.{hint}")
    return [row[real] for row, real in zip(xs, mask, strict=True)]


def lay(arrays, rows, starts, shape, value) -> np.ndarray:
    """Returns an array of `shape` plus feature axes, filled with `value`, with each array placed at (row, start)."""
    feature, dtype = (arrays[0].shape[1:], arrays[0].dtype) if arrays else ((), np.dtype(float))
    fill = numbers("value", value)
    if fill.ndim or (dtype.kind in "biu" and fill.dtype.kind not in "biu"):
        raise TypeError(f"`value` must be one number that {dtype} can hold; got {value!r}")
    check.fits("value", value, dtype)
    xs = np.full((*shape, *feature), value, dtype)
    for array, row, start in zip(arrays, rows, starts, strict=True):
        xs[row, start : start + len(array)] = array
    return xs
