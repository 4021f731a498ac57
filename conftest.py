"""Fixtures shared by all tests."""

import collections
import ctypes
import gc
import importlib.metadata
import itertools
import os
import sys
from pathlib import Path

# Read at JAX's first use: eight devices, and the code generators that compile in less than half the time. Later
# versions have but one generator.
if os.environ.get("JAXSEQ_LAWS") != "optimised" and importlib.metadata.version("jaxlib").startswith("0.10."):
    options = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{options} {os.environ.get('XLA_FLAGS', '')}".strip()
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}".strip()

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("exact", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("exact")

collect_ignore = ["docs/conf.py"]  # it imports Sphinx, which no test needs

_finished = itertools.count(1)


def pytest_configure(config):
    """Compiles fast, as most of the time goes there, and once: programs are kept in pytest's own cache.

    LLVM optimises little, but where the laws are held on optimised programs; XLA's own passes all run. The processes
    that tests start compile as fast.
    """
    if os.environ.get("JAXSEQ_LAWS") != "optimised":
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    cache = getattr(config, "cache", None)
    if cache is not None and jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("programs")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


_room = 800  # megabytes, up to which programs are kept


@pytest.fixture(autouse=True)
def _forget_programs():
    """Drops compiled programs now and then, and gives their memory back: thousands of them exhaust a process.

    What stays is not theirs: they get room beyond it, else they would be dropped after every test.
    """
    global _room
    yield
    if next(_finished) % 60 == 0 or _megabytes() > _room:
        jax.clear_caches()
        gc.collect()
        if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):  # glibc
            ctypes.CDLL(None).malloc_trim(0)
        _room = max(_room, _megabytes() + 200)


def _megabytes():
    """The memory that this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Shares the cases of a test under `@pytest.mark.some(n, learn=m)`.

    `make test` runs n of them, none that is marked `learn`, and `make learn` m of the others (None: all), evenly
    spread. All that `make learn` shares with `make sweeps` are marked `sweep`; with JAXSEQ_LAWS=full none is left out.
    """
    cases = collections.defaultdict(list)
    for item in items:
        if item.get_closest_marker("some"):
            cases[item.nodeid.split("[")[0]].append(item)
    left_out = []
    for of_one_test in cases.values():
        mark = of_one_test[0].get_closest_marker("some")
        left = set(_without([item for item in of_one_test if not item.get_closest_marker("learn")], *mark.args))
        others = [item for item in of_one_test if item in left or item.get_closest_marker("learn")]
        learn = mark.kwargs.get("learn")
        for item in left:
            item.add_marker(pytest.mark.learn)
        if learn is None:
            continue
        for item in others:
            item.add_marker(pytest.mark.sweep)
        if os.environ.get("JAXSEQ_LAWS") != "full":
            left_out += _without(others, learn)
    config.hook.pytest_deselected(items=left_out)
    left_out = set(left_out)
    items[:] = [item for item in items if item not in left_out]


def _without(items, count):
    """The items but `count` of them, evenly spread."""
    count = min(count, len(items))
    chosen = {round((place + 0.5) * len(items) / count - 0.5) for place in range(count)}
    return [item for place, item in enumerate(items) if place not in chosen]


def pytest_collection_finish(session):
    """Collects garbage by hand only: JAX's many objects take a fifth of the time to look through, again and again."""
    gc.collect()
    gc.freeze()
    gc.disable()


def pytest_terminal_summary(terminalreporter):
    """With `--durations=N`, the seconds of each folder too, of all workers together."""
    if terminalreporter.config.option.durations is None:
        return
    seconds = collections.Counter()
    for report in itertools.chain(*terminalreporter.stats.values()):
        if hasattr(report, "duration"):
            folder = Path(report.nodeid.split("::")[0]).parts[:2]
            seconds["/".join(folder[:2] if folder[0] == "tests" else folder[:1])] += report.duration
    terminalreporter.section("durations by folder")
    for folder, duration in seconds.most_common():
        terminalreporter.write_line(f"{duration:8.1f} s  {folder}")


@pytest.fixture
def x64():
    """Runs the test in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    """The names that every doctest may use without importing them."""
    import jax.numpy as jnp

    import jaxseq

    doctest_namespace.update(jax=jax, jnp=jnp, jaxseq=jaxseq)


@pytest.fixture
def count_compilations():
    """Returns a function that runs a call and says how many programs XLA compiled for it."""
    events = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    def count(call):
        events.clear()
        jax.block_until_ready(call())
        return len(events)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)
