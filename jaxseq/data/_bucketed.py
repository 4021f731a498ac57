"""Batches of sequences of similar length, so that there is little padding and few shapes are compiled."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data import _check
from jaxseq.data._loader import Batch, Loader, check_unreserved, nonempty, random, take
from jaxseq.data._padding import lay
from jaxseq.typing import AnyArray


def bucketed(
    sequences: Sequence[ArrayLike] | AnyArray | Mapping[str, Sequence[ArrayLike] | AnyArray],
    arrays: Mapping[str, ArrayLike],
    batch_size: int,
    *,
    multiple: int = 16,
    seed: int | None = None,
) -> Loader:
    """Returns a loader that batches sequences of similar length together and pads them at the end.

    Batches are dicts of `"xs" [B, T, ...]`, `"mask"` bool `[B, T]`, the `arrays [B, ...]`, and `"real"` bool `[B]`. T
    is a multiple of `multiple`. All epochs have the same shapes. If N is not a multiple of B, the batch with the
    shortest sequences is filled up with rows of padding, which are False in `"real"`.

    Args:
      sequences: N sequences `[T_i, ...]`, named "xs" in the batches; or a dict of such lists by name, for example
        tokens and their tags. Sequence i has the same length under every name. Integers become int32.
      arrays: a dict of arrays `[N, ...]` with one entry per sequence; may be empty. For evaluation,
        `{"index": np.arange(N)}` tells which sequence each row is.
      batch_size: B.
      multiple: T is rounded up to a multiple of this number.
      seed: in each epoch, shuffles sequences of similar length and the order of batches. None: no shuffling, and the
        longest sequences come first.

    Raises:
      TypeError, ValueError: an argument does not fit; there are no sequences; a name is reserved.

    >>> loader = bucketed([[1, 2, 3], [4], [5, 6]], {"labels": [0, 1, 0]}, 2, multiple=2)
    >>> [(batch["xs"].tolist(), batch["labels"].tolist()) for batch in loader.epoch(0)]
    [([[1, 2, 3, 0], [4, 0, 0, 0]], [0, 1]), ([[5, 6], [0, 0]], [0, 0])]
    """
    named = _read(sequences)
    arrays = _check.examples("arrays", arrays)
    N = _check.same_size({name: len(rows) for name, rows in (named | arrays).items()}, "`sequences` and `arrays`")
    check_unreserved(["mask", "real", *named], arrays)
    check_unreserved(["mask", "real"], named)
    lengths = _one_length(named)
    B, seed = check.positive_int("batch_size", batch_size), _check.seed(seed)
    multiple = check.positive_int("multiple", multiple)
    count = -(-nonempty("sequences", N) // B)
    return Loader(count, _Plan(named, arrays, lengths, count, B, multiple, seed))


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """The plan of a loader made by `bucketed`."""

    named: dict[str, list[np.ndarray]]
    arrays: Batch
    lengths: np.ndarray
    count: int
    B: int
    multiple: int
    seed: int | None

    def __call__(self, number):
        B, N = self.B, len(self.lengths)
        padded = np.maximum(-(-self.lengths // self.multiple), 1) * self.multiple
        order, turns = np.arange(N), np.arange(self.count)
        if self.seed is not None:
            source = random(self.seed, number)
            order, turns = source.permutation(N), source.permutation(self.count)
        order = order[np.argsort(-padded[order], kind="stable")]

        def batch(i):
            rows = order[turns[i] * B :][:B]
            shape = (B, int(padded[rows[0]]))
            at = range(len(rows)), [0] * len(rows), shape, 0
            laid = {name: lay([sequence[row] for row in rows], *at) for name, sequence in self.named.items()}
            real_steps = np.zeros(B, int)
            real_steps[: len(rows)] = self.lengths[rows]
            return {**laid, "mask": np.arange(shape[1]) < real_steps[:, None], **take(self.arrays, rows, B)}

        return batch


def _read(sequences):
    if not isinstance(sequences, Mapping):
        return {"xs": _check.ragged("sequences", sequences)}
    if not sequences:
        raise ValueError("`sequences` must hold at least one list of sequences; got an empty dict")
    return {name: _check.ragged(f"sequences[{name!r}]", rows) for name, rows in sequences.items()}


def _one_length(named):
    """Returns the length of each sequence, which must be the same under every name."""
    (first, rows), *others = named.items()
    lengths = np.array([len(row) for row in rows], int)
    for name, rows in others:
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            if len(row) != length:
                raise ValueError(
                    f"`sequences` must have the same length under every name; number {i} has {length} steps in "
                    f"{first!r}, {len(row)} in {name!r}"
                )
    return lengths
