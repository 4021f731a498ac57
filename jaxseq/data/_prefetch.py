"""Prefetching: a thread makes the next batches and sends them to the device while the current one is used."""

import atexit
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any

import jax

from jaxseq import check
from jaxseq._placement import place_batch

_LAST_WAIT = 5.0  # seconds to wait for an unfinished batch when the process ends


def prefetch(
    batches: Iterable[Any], size: int = 2, *, sharding: jax.sharding.Sharding | None = None, parts: int = 1
) -> Generator[Any, None, None]:
    """Returns an iterator over the batches as arrays on the device; a thread prepares up to `size` of them in advance.

    The order is kept. If making a batch raises an exception, it is raised here with its traceback, after the batches
    before it. The thread starts when the first batch is requested. It ends after the last batch, or when the iterator
    is closed or garbage-collected, for example when a loop over it is left early; `batches` is then closed too if it is
    a generator. Closing waits for an unfinished batch; at the end of the process it waits at most five seconds.

    Args:
      batches: an iterable of pytrees of arrays, such as `loader.epoch(number)`.
      size: how many batches are finished or being made before they are requested.
      sharding: the sharding of every array, such as a split of the first axis. None: JAX's default device. With several
        processes, each must have the same batches, or its own part of them if `parts` is given.
      parts: the `parts` of a loader made by `loader.part(index, count)`.

    Raises:
      TypeError, ValueError: `size` or `parts` is not a positive int, or `batches` is not iterable. At a batch: it holds
        text or objects, or integers outside the range of JAX's integers (int32 without `jax_enable_x64`), or `sharding`
        does not fit.

    >>> [int(batch["xs"].sum()) for batch in prefetch([{"xs": jnp.ones(3)}, {"xs": jnp.ones(5)}])]
    [3, 5]
    """
    if not isinstance(batches, Iterable):
        raise TypeError(f"`batches` must be an iterable, such as loader.epoch(0); got {type(batches).__name__}")
    size, parts = check.positive_int("size", size), check.positive_int("parts", parts)
    return _run_ahead(iter(batches), size, sharding, parts)


def _run_ahead(batches, size, sharding, parts):
    ready = queue.SimpleQueue()  # (batch, None); at the end (None, the exception or None)
    room = threading.Semaphore(size)
    stopped = threading.Event()
    settings = jax.config  # may be set for the current thread only
    x64, device = settings.jax_enable_x64, settings.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def work():
        try:
            with jax.enable_x64(x64), jax.default_device(device):
                while room.acquire() and not stopped.is_set():
                    batch = next(batches)
                    check.representable(batch, "batches")
                    if sharding is None:
                        ready.put((jax.device_put(batch), None))
                    else:
                        ready.put((place_batch("batches", batch, sharding, parts), None))
        except BaseException as ending:
            ready.put((None, ending))
        finally:
            if hasattr(batches, "close"):
                batches.close()

    worker = threading.Thread(target=work, name="jaxseq-prefetch", daemon=True)
    unregister = atexit.unregister  # kept here: the module may be gone when an iterator is deleted at exit

    def stop(seconds=None):
        stopped.set()
        room.release()
        worker.join(seconds)

    worker.start()
    atexit.register(stop, _LAST_WAIT)
    try:
        while True:
            batch, ending = ready.get()
            if isinstance(ending, StopIteration):
                return
            if ending is not None:
                raise ending
            room.release()
            yield batch
    finally:
        if not stopped.is_set():  # false at the end of the process
            unregister(stop)
            stop()
