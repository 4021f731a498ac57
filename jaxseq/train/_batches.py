"""The batches of a training run: from a loader, or from a plain sequence."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from jaxseq import check

Batch = Any
"""A pytree of arrays."""


class Loader(Protocol):
    """Batches whose order depends on the epoch's number only, so that a run can resume; `jaxseq.data.Loader` is one."""

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Returns the batches of an epoch, from batch `start` on."""
        ...


class _Listed:
    """A loader that gives the same batches in the same order in every epoch."""

    def __init__(self, batches):
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def epoch(self, number, start=0):
        return iter(self._batches[start:])


def as_loader(batches: Loader | Sequence[Batch]) -> Loader:
    """Returns `batches` as a loader.

    Raises:
      TypeError: `batches` is an iterator, which can be read only once, or holds no batches.
      ValueError: `batches` is empty.
    """
    if hasattr(batches, "epoch") and hasattr(batches, "__len__"):
        loader: Any = batches
    elif isinstance(batches, Sequence) and not isinstance(batches, str) and not hasattr(batches, "_fields"):
        loader = _Listed(batches)
    else:
        raise TypeError(
            f"`batches` must be a loader, such as jaxseq.data.batches(...), or a list of batches; "
            f"got {type(batches).__name__}. An iterator can be read only once: make a list of it."
        )
    if not len(loader):
        raise ValueError("`batches` must hold at least one batch; got none. Is the batch size larger than the data?")
    return loader


def remaining(loader: Loader, position: int, total: int) -> Iterator[Batch]:
    """Returns the batches of all epochs, from the one at `position` to the one before `total`.

    Raises:
      TypeError: a batch is not a pytree of arrays.
      ValueError: the loader gives more or fewer batches in an epoch than its `len`; or JAX cannot hold a number.
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
            raise ValueError(f"`batches` has a len of {len(loader)} batches per epoch; epoch {epoch} gave {given}")
