"""Agreement between processes that train together: all take one decision, and if one fails, all fail.

They exchange a few bytes by JAX's own collectives. If a process is killed, JAX's runtime notices it and ends the
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
    """All processes of `jax.distributed`, or only this one."""

    def __init__(self, together: bool):
        self.together = together

    @property
    def is_first(self) -> bool:
        """Whether this process writes, prints and decides."""
        return not self.together or jax.process_index() == 0

    def all(self, do: Callable[[], Value]) -> list[Value]:
        """Returns the results of `do` in all processes; an exception in one process is raised in all.

        Values and exceptions are pickled.
        """
        if not self.together:
            return [do()]
        value, error = None, None
        try:
            value = do()
        except Exception as raised:  # any exception: the other processes must know of it
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
        """Calls `do` in the first process only, and returns its result in all processes."""
        value: Any = self.all(lambda: do() if self.is_first else None)[0]
        return value


ALONE = Processes(together=False)


def of_sharding(sharding: Sharding | None) -> Processes:
    """Returns the processes whose devices a sharding uses.

    Raises:
      ValueError: it uses devices of several processes, but not of all.
    """
    if sharding is None or sharding.is_fully_addressable:
        return ALONE
    named = {device.process_index for device in sharding.device_set}
    if len(named) != jax.process_count():
        raise ValueError(
            f"`sharding` must use devices of all {jax.process_count()} processes, or of this one only; it uses those "
            f"of {len(named)}"
        )
    return Processes(together=True)


def of_tree(tree: Any) -> Processes:
    """Returns the processes over which a tree's arrays are spread."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return next((of_sharding(leaf.sharding) for leaf in arrays if not leaf.is_fully_addressable), ALONE)


def on_host(tree: Any) -> Any:
    """Returns arrays as this process's own copies if each device holds them whole; other arrays are unchanged."""
    return jax.tree.map(lambda leaf: leaf if leaf.is_fully_addressable else leaf.addressable_data(0), tree)


def _exchange(value, error):
    """Returns what each process has sent, in the order of their indices."""
    sent = np.frombuffer(_pickled(value, error), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(sent.size))
    room = 1 << max(10, int(sizes.max() - 1).bit_length())  # a power of two, so that few programs are compiled
    received = multihost_utils.process_allgather(np.pad(sent, (0, room - sent.size)))
    return [pickle.loads(each[:size].tobytes()) for each, size in zip(received, sizes, strict=True)]


def _pickled(value, error):
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception that cannot be pickled is sent as its text
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return pickle.dumps((value, error))
