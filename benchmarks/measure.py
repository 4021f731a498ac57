"""Measuring jitted functions: contenders take turns in one process, so that a drifting machine meets all alike."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Compiled(NamedTuple):
    """A compiled call, and what making it cost: seconds, and XLA's own figure of temporary bytes."""

    call: Callable[[], object]
    trace: float
    compile: float
    temp_bytes: int


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = os.environ.get("XLA_FLAGS", "")
    return (
        f"{processor}, {cores} cores; {device.platform}: {device.device_kind}; Python {platform.python_version()}, "
        f"jax {jax.__version__}; XLA_FLAGS={flags!r}"
    )


def compile_call(function: Callable, *args) -> Compiled:
    """Traces and compiles `function(*args)`, timing each."""
    start = time.perf_counter()
    lowered = jax.jit(function).trace(*args).lower()
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory: Any = compiled.memory_analysis()
    return Compiled(lambda: compiled(*args), traced - start, done - traced, memory.temp_size_in_bytes)


def take_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Times each call `rounds` times, in turn, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    return {name: Times(min(times), statistics.median(times)) for name, times in seconds.items()}


def check_agreement(results: Mapping[str, object], tolerance: float) -> None:
    """Raises AssertionError unless all results are the first one's, each leaf to `tolerance` of its largest entry."""
    (reference_name, reference), *others = results.items()
    for name, result in others:
        for want, got in zip(jax.tree.leaves(reference), jax.tree.leaves(result), strict=True):
            error = float(jnp.max(jnp.abs(got - want), initial=0.0))
            bound = tolerance * float(jnp.max(jnp.abs(want), initial=0.0))
            if not error <= bound:
                raise AssertionError(f"{name} differs from {reference_name} by {error:.3g}, more than {bound:.3g}")
