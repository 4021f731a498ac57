"""What training reads: a loader, or a plain sequence of batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from jaxseq import check

Batch = Any
"""A pytree of arrays."""


class Loader(Protocol):
    """Batches in an order that is a pure function of the epoch, so a run can go on where it was; as `jaxseq.data`'s."""

    def __len__(self) -> int:
        """The batches of an epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from the one numbered `start`."""
        ...


class _Listed:
    """The same batches in the same order in every epoch."""

    def __init__(self, batches):
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def epoch(self, number, start=0):
        return iter(self._batches[start:])


def as_loader(batches: Loader | Sequence[Batch]) -> Loader:
    """Returns `batches` as a loader.

    Raises:
      TypeError: it is an iterator, which could be read once only, or nothing of batches.
      ValueError: there are none.
    """
    if hasattr(batches, "epoch") and hasattr(batches, "__len__"):
        loader: Any = batches
    elif isinstance(batches, Sequence) and not isinstance(batches, str) and not hasattr(batches, "_fields"):
        loader = _Listed(batches)
    else:
        raise TypeError(
            f"`batches` must be a loader, such as jaxseq.data.batches(...), or a list of batches; "
            f"got {type(batches).__name__}. An iterator is read once only: make a list of it."
        )
    if not len(loader):
        raise ValueError("`batches` must hold at least one batch; got none. Is the batch size larger than the data?")
    return loader


def remaining(loader: Loader, position: int, total: int) -> Iterator[Batch]:
    """The batches of all epochs, from the one at `position` to the one before `total`.

    Raises:
      TypeError: a batch is not of arrays.
      ValueError: an epoch of the loader is not of as many batches as its `len` says, or JAX cannot hold its numbers.
    """
    while position < total:
        epoch, index = divmod(position, len(loader))
        end = (epoch + 1) * len(loader)
        for batch in loader.epoch(epoch, index):
            position += 1
            if position > end:
                break
            check.representable(batch, "batches")
            yield batch
        if position != end:
            given = "more" if position > end else position - epoch * len(loader)
            raise ValueError(f"`batches` has {len(loader)} batches an epoch by its len; epoch {epoch} gave {given}")
