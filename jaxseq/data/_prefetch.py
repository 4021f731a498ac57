"""Prefetching: the next batches are made and sent to the device while this one is computed on."""

import atexit
import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any

import jax

from jaxseq import check
from jaxseq._placement import place_batch

_LAST_WAIT = 5.0  # seconds, for a batch in the making when the process ends


def prefetch(
    batches: Iterable[Any], size: int = 2, *, sharding: jax.sharding.Sharding | None = None, parts: int = 1
) -> Generator[Any, None, None]:
    """Returns the batches, in their order, as arrays on the device; a thread runs ahead by `size` of them.

    An exception in the making of a batch is raised here, after the batches before it, with its traceback. The thread
    starts with the first batch that is asked for. It ends with the last one, or when the result is closed or dropped,
    as when a loop over it is left; `batches`, if a generator, is then closed too. A batch in the making is waited for,
    at the end of the process up to five seconds.

    Args:
      batches: pytrees of arrays, such as `loader.epoch(number)`.
      size: how many batches are made, or in the making, before they are asked for.
      sharding: where they go, one that fits every array, such as the split of its first axis; None: JAX's default
        device. Of several processes each is to have the same batches, or with `parts` its part of them.
      parts: of a loader made by `loader.part(index, count)`, its `parts`.

    Raises:
      TypeError, ValueError: `size` or `parts` is no positive int, `batches` cannot be iterated over. At the batch: it
        holds text or objects, or integers beyond those of JAX, which are int32 without `jax_enable_x64`; `sharding`
        does not fit.

    >>> [int(batch["xs"].sum()) for batch in prefetch([{"xs": jnp.ones(3)}, {"xs": jnp.ones(5)}])]
    [3, 5]
    """
    if not isinstance(batches, Iterable):
        raise TypeError(f"`batches` must be an iterable, such as loader.epoch(0); got {type(batches).__name__}")
    size, parts = check.positive_int("size", size), check.positive_int("parts", parts)
    return _run_ahead(iter(batches), size, sharding, parts)


def _run_ahead(batches, size, sharding, parts):
    ready = queue.SimpleQueue()  # (batch, None), or (None, what ended it)
    room = threading.Semaphore(size)
    stopped = threading.Event()
    settings = jax.config  # which may be set for this thread only
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
    unregister = atexit.unregister  # there is no `atexit` any more where what was left open is dropped last of all

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
        if not stopped.is_set():  # not at the end of the process
            unregister(stop)
            stop()
