"""Measuring jitted functions: contenders take turns in one process, so that a drifting machine meets all alike."""

import argparse
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Compiled(NamedTuple):
    """A compiled call, and what making it cost: seconds, and XLA's own figures of bytes.

    `temp_bytes` are those it allocates while it runs, `peak_bytes` these and its arguments and results.
    """

    call: Callable[[], object]
    trace: float
    compile: float
    temp_bytes: int
    peak_bytes: int
    executable: Callable  # for other arguments of the same shapes


class Times(NamedTuple):
    """Seconds of one call over all rounds."""

    minimum: float
    median: float


def describe_machine() -> str:
    """One line: processor, cores, jax's platform and versions."""
    device = jax.devices()[0]
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            processor = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    flags = os.environ.get("XLA_FLAGS", "")
    return (
        f"{processor}, {cores()} cores; {device.platform}: {device.device_kind}; Python {platform.python_version()}, "
        f"jax {jax.__version__}; XLA_FLAGS={flags!r}"
    )


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size_parser(names: str) -> Callable[[str], tuple[int, ...]]:
    """Returns what parses a size on the command line, as many ints as `names`, such as "B,T,D,H"."""

    def parse(text: str) -> tuple[int, ...]:
        try:
            numbers = tuple(map(int, text.split(",")))
        except ValueError:
            numbers = ()
        if len(numbers) != len(names.split(",")):
            raise argparse.ArgumentTypeError(f"a size is {names}; got {text!r}")
        return numbers

    return parse


def compile_call(function: Callable, *args) -> Compiled:
    """Traces and compiles `function(*args)`, timing each."""
    start = time.perf_counter()
    lowered = jax.jit(function).trace(*args).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory: Any = compiled.memory_analysis()
    return Compiled(
        call=lambda: compiled(*args),
        trace=traced - start,
        compile=done - traced,
        temp_bytes=memory.temp_size_in_bytes,
        peak_bytes=(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        ),
        executable=compiled,
    )


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Times each call `rounds` times, after one warm-up each.

    Each round has an order of its own: a pool of threads that still spins for a moment after a call would slow down
    whoever always came next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    order, shuffle = list(calls), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            seconds[name].append(time.perf_counter() - start)
    return {name: Times(min(times), statistics.median(times)) for name, times in seconds.items()}


def check_agreement(results: Mapping[str, object], tolerance: float) -> float:
    """Raises AssertionError unless all results are the first one's, each leaf to `tolerance` of its largest entry.

    Returns the largest error found, as a part of the leaf's largest entry.
    """
    (reference_name, reference), *others = results.items()
    largest = 0.0
    for name, result in others:
        pairs = zip(jax.tree.leaves_with_path(reference), jax.tree.leaves(result), strict=True)
        for (path, want), got in pairs:
            leaf = f"{name}{jax.tree_util.keystr(path)}"
            want, got = (np.asarray(x, np.float64) for x in (want, got))
            if want.shape != got.shape:
                raise AssertionError(f"{leaf} is {got.shape}, and {reference_name} gives {want.shape}")
            error, scale = (float(np.max(np.abs(x), initial=0.0)) for x in (got - want, want))
            if error:
                largest = max(largest, error / scale if scale else math.inf)
            if not error <= tolerance * scale:
                raise AssertionError(
                    f"{leaf} differs from {reference_name} by {error:.3g}, more than {tolerance:.3g} of {scale:.3g}"
                )
    return largest


def matmul(rows: int, inner: int, columns: int, dtype: str) -> tuple[Callable[[], object], int]:
    """Returns one large matrix product to time, `[rows, inner] × [inner, columns]`, and its operations."""
    left, right = (
        jax.random.normal(jax.random.key(seed), shape, dtype)
        for seed, shape in enumerate(((rows, inner), (inner, columns)))
    )
    return compile_call(jnp.matmul, left, right).call, 2 * rows * inner * columns
