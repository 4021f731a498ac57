import subprocess
import sys
import threading
import traceback

import jax
import numpy as np
import pytest

from jaxseq.data import batches, prefetch
from tests.untyped import untyped


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "jaxseq-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not workers()


def numbers(n, made=None, closed=None):
    try:
        for i in range(n):
            if made is not None:
                made.append(i)
            yield {"i": np.int32(i)}
    finally:
        if closed is not None:
            closed.append(True)


@pytest.mark.parametrize("size", [1, 2, 50])
@pytest.mark.parametrize("n", [0, 1, 9])
def test_batches_come_in_order_and_on_the_device(n, size):
    got = list(prefetch(numbers(n), size))
    assert [int(batch["i"]) for batch in got] == list(range(n))
    assert all(isinstance(batch["i"], jax.Array) for batch in got)


def test_it_takes_loaders_and_keeps_values():
    loader = batches({"xs": np.arange(12.0).reshape(6, 2), "labels": np.arange(6)}, 2, seed=0)
    for batch, want in zip(prefetch(loader.epoch(1)), loader.epoch(1), strict=True):
        for name in want:
            np.testing.assert_array_equal(batch[name], want[name])


def test_it_runs_ahead_by_size_and_no_further():
    made, asked = [], threading.Event()

    def source():
        for i in range(9):
            made.append(i)
            if i == 3:
                asked.set()
            yield i

    ahead = prefetch(source(), 3)
    assert not made
    assert next(ahead) == 0
    assert asked.wait(timeout=10)  # 3 beyond the one that was handed out
    assert made == [0, 1, 2, 3]
    ahead.close()
    assert made == [0, 1, 2, 3]


def test_it_works_while_the_consumer_does():
    """The source waits for the consumer to hold the first batch, and the consumer for the source to make the second."""
    first, second = threading.Event(), threading.Event()

    def source():
        yield 0
        assert first.wait(timeout=10)
        second.set()
        yield 1

    ahead = prefetch(source(), 1)
    assert next(ahead) == 0
    first.set()
    assert second.wait(timeout=10)
    assert next(ahead) == 1
    assert list(ahead) == []


def broken():
    yield {"i": 0}
    yield {"i": 1}
    raise OSError("the disk is gone")


def test_an_exception_comes_after_the_batches_before_it_with_its_traceback():
    ahead = prefetch(broken())
    assert [int(next(ahead)["i"]) for _ in range(2)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(ahead)
    assert "broken" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_what_cannot_go_to_the_device_raises_here():
    with pytest.raises(TypeError, match=r"`batches\['text'\]` must hold numbers or bools; got text"):
        list(prefetch([{"text": "abc"}]))


@pytest.mark.parametrize("size", [1, 3])
def test_a_consumer_that_stops_early_ends_the_thread_and_closes_the_source(size):
    made, closed = [], []
    source = numbers(1000, made, closed)
    for batch in prefetch(source, size):
        if int(batch["i"]) == 2:
            break
    assert not workers()  # the loop dropped the iterator
    assert closed == [True]
    assert len(made) <= 4 + size


def test_closing_before_the_start_and_twice():
    closed = []
    ahead = prefetch(numbers(5, closed=closed))
    ahead.close()
    ahead.close()
    assert list(ahead) == []


def test_a_consumer_that_fails_ends_the_thread():
    def fail():
        for _ in prefetch(numbers(1000)):
            raise KeyError("consumer")

    with pytest.raises(KeyError):
        fail()
    assert not workers()


def test_a_sharding():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    (batch,) = prefetch([{"xs": np.ones([4, 2]), "real": np.ones(4, bool)}], sharding=sharding)
    assert batch["xs"].sharding == batch["real"].sharding == sharding
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "data"))
    with pytest.raises(ValueError, match=r"`batches\['real'\]` is \(4,\), and `sharding` splits it by .*has 2 axes"):
        next(prefetch([{"xs": np.ones([4, 2]), "real": np.ones(4, bool)}], sharding=sharding))


def test_settings_of_the_consumer_hold_for_the_thread(x64):
    (batch,) = prefetch([{"xs": np.ones(2), "ids": np.arange(2)}])
    assert batch["xs"].dtype == np.float64
    assert batch["ids"].dtype == np.int64


def test_errors():
    with pytest.raises(ValueError, match="`size` must be a positive int; got 0"):
        prefetch([], 0)
    with pytest.raises(TypeError, match=r"`batches` must be an iterable, such as loader.epoch\(0\); got int"):
        prefetch(untyped(3))
    with pytest.raises(TypeError, match=r"Loop over those of an epoch: loader.epoch\(number\)$"):
        prefetch(batches({"xs": [1]}, 1))


OPEN = """
import itertools, time
import numpy as np
from jaxseq.data import batches, prefetch

endless = ({"i": np.full(3, i)} for i in itertools.count())
slow = ({"i": np.full(3, i)} for i in itertools.count() if not (i and time.sleep(0.5)))
ahead = [prefetch(endless), prefetch(slow, 1), prefetch(batches({"i": np.arange(99)}, 1).epoch(0))]
print(*(next(one)["i"][0] for one in ahead))
"""


def test_what_is_left_open_ends_with_the_process_without_a_word():
    run = subprocess.run([sys.executable, "-c", OPEN], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "0 0 0\n", "")
