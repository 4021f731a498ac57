"""Processes that train together, and how they agree: what one decides all do, and where one fails all do.

They exchange a few bytes by JAX's own collectives. A process that is killed is noticed by JAX's runtime, which ends the
others.
"""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Sharding

Value = TypeVar("Value")


class Processes:
    """All processes of `jax.distributed`, or this one alone."""

    def __init__(self, together: bool):
        self.together = together

    @property
    def is_first(self) -> bool:
        """Whether this one writes, prints and decides."""
        return not self.together or jax.process_index() == 0

    def all(self, do: Callable[[], Value]) -> list[Value]:
        """Returns what `do` returned in each; what it raised in one is raised in all.

        Values and exceptions are pickled.
        """
        if not self.together:
            return [do()]
        value, error = None, None
        try:
            value = do()
        except Exception as raised:  # whatever it is: the others are told
            error = raised
        told = _exchange(value, error)
        if error is not None:
            raise error
        for number, (_, other) in enumerate(told):
            if other is not None:
                other.add_note(f"raised in process {number} of {jax.process_count()}")
                raise other
        return [value for value, _ in told]

    def first(self, do: Callable[[], Value]) -> Value:
        """Returns in all what `do` returned in the first, which alone calls it."""
        value: Any = self.all(lambda: do() if self.is_first else None)[0]
        return value


ALONE = Processes(together=False)


def of_sharding(sharding: Sharding | None) -> Processes:
    """The processes whose devices a sharding names.

    Raises:
      ValueError: these are some, and not all.
    """
    if sharding is None or sharding.is_fully_addressable:
        return ALONE
    named = {device.process_index for device in sharding.device_set}
    if len(named) != jax.process_count():
        raise ValueError(
            f"`sharding` must be of devices of all {jax.process_count()} processes, or of this one alone; it is of "
            f"{len(named)}"
        )
    return Processes(together=True)


def of_tree(tree: Any) -> Processes:
    """The processes that hold a tree's arrays together."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return next((of_sharding(leaf.sharding) for leaf in arrays if not leaf.is_fully_addressable), ALONE)


def on_host(tree: Any) -> Any:
    """Returns arrays that are whole on every device as this process holds them; others as they are."""
    return jax.tree.map(lambda leaf: leaf if leaf.is_fully_addressable else leaf.addressable_data(0), tree)


def _exchange(value, error):
    """What each process has to tell, in their order."""
    sent = np.frombuffer(_pickled(value, error), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(sent.size))
    room = 1 << max(10, int(sizes.max() - 1).bit_length())  # few sizes, so that few programs are compiled
    received = multihost_utils.process_allgather(np.pad(sent, (0, room - sent.size)))
    return [pickle.loads(each[:size].tobytes()) for each, size in zip(received, sizes, strict=True)]


def _pickled(value, error):
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception of any library, of which the text has to do
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return pickle.dumps((value, error))
