"""Programs behind XLA's FFI: shared among threads, freed with their executables, refused where XLA is not known."""

import gc
import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from jaxseq.kernels.native import _call, _machine
from jaxseq.kernels.native._ir import f32, i64
from jaxseq.kernels.native._machine import forced, host, is_optimised, llvm, machine
from tests.full import FULL
from tests.native.programs import compiled

UNITS = 13
SHAPE = jax.ShapeDtypeStruct((UNITS,), np.float32)


def times(factor, rounds=1):
    """A program that multiplies each number by a factor, a unit of work each, in so many rounds of adding."""

    def write(code, unit, x, out):
        value = code.load(f32, code.at(x, f32, unit))
        with code.loop(rounds, 1, [code.constant(f32, 0)]) as loop:
            loop.next.append(loop.values[0] + value * float(factor))
        code.store(loop.next[0], code.at(out, f32, unit))

    return compiled(write, [SHAPE], SHAPE, units=UNITS)


def numbers():
    return np.arange(UNITS, dtype=np.float32)


def run(code, *arguments, **environment):
    """Runs code in a process of its own, which must end by itself in time."""
    environment = {**os.environ, **environment}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_units_are_worked_at_once_each():
    np.testing.assert_array_equal(times(3)(numbers()), 3 * numbers())
    assert times(3, rounds=5)(numbers())[2] == 30


def test_calls_from_many_threads():
    """Four threads, each with a program of its own, and one that all share."""
    shared, x, wrong = times(2, rounds=2000), numbers(), []

    def work(factor):
        own = times(factor, rounds=2000)
        for _ in range(50):
            if own(x)[1] != 2000 * factor or shared(x)[1] != 4000:
                wrong.append(factor)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (3, 4, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


ONE_THREAD = """
import os, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.native.test_call import numbers, times
two = times(2, rounds=3000), times(3, rounds=3000)
threads = [threading.Thread(target=lambda f=f: [f(numbers()).block_until_ready() for _ in range(100)]) for f in two]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(two[0](numbers())[1], two[1](numbers())[1])
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity of processes")
def test_two_programs_on_a_pool_of_one_thread():
    assert run(ONE_THREAD) == ["6000.0", "9000.0"]


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, PartitionSpec as P
from tests.native.test_call import numbers, times
mesh = Mesh(np.array(jax.devices()), ("rows",))
two = times(2, rounds=3000)
def local(x):
    return jax.lax.psum(two(two(x[0])), "rows")
f = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P("rows"), out_specs=P(), check_vma=False))
x = jnp.stack([numbers()] * 4)
for _ in range(20):
    y = f(x).block_until_ready()
print(float(y[1]))
"""


def test_several_devices_that_wait_for_each_other():
    assert run(DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=4") == [str(4 * 6000.0**2)]


def test_one_text_is_compiled_once_for_a_processor():
    a, b = times(7), times(7)
    assert len({id(f.program) for f in (a, b)}) == 1
    with forced(4):
        assert times(7).program is not a.program


@pytest.mark.parametrize("fast", [False, True])
def test_code_is_optimised_unless_jax_is_told_not_to(fast, monkeypatch):
    monkeypatch.setattr(_machine, "is_optimised", is_optimised)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", fast)
    try:
        assert machine().optimised is not fast
        np.testing.assert_array_equal(times(3)(numbers()), 3 * numbers())
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def test_programs_go_with_their_executables():
    f = times(11)
    x = numbers()
    f(x).block_until_ready()
    program = f.program
    number = program.number
    assert program.users == 1
    jax.clear_caches()
    gc.collect()
    f(x).block_until_ready()
    assert program.users == 1
    del f, program
    jax.clear_caches()
    for factor in range(30, 80):  # XLA's threads may hold an executable for a moment more
        gc.collect()
        times(factor)
        if number not in _call._known:
            break
    assert number not in _call._known


def test_an_executable_keeps_its_program():
    """Though nothing in Python holds it."""
    f = times(13)
    call = f.lower(SHAPE).compile()
    number = f.program.number
    del f
    for factor in range(20, 24):
        times(factor)
    gc.collect()
    assert number in _call._known
    np.testing.assert_array_equal(call(numbers()), 13 * numbers())


def test_programs_are_not_gathered():
    for factor in range(100, 110):
        times(factor)(numbers())
        jax.clear_caches()
        gc.collect()
    assert len(_call._known) < 5


MEMORY = """
import gc, os, sys
from pathlib import Path
from tests.native.test_call import times

def memory(factors):
    for factor in factors:
        times(factor)
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before = memory(range(1000, 1500))
print(memory(range(2000, 2000 + int(sys.argv[1]))) - before)
"""


@pytest.mark.learn
def test_thousands_of_programs_take_no_memory():
    more = 3000 if FULL else 500
    (bytes_more,) = map(int, run(MEMORY, str(more)))
    assert bytes_more < 20e6 * more / 3000


def test_a_number_that_is_no_programs():
    _call.register()
    call = jax.jit(lambda x: jax.ffi.ffi_call(_call.TARGET, SHAPE)(x, program=np.int64(12345)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="this program is unknown"):
        call(numbers())


SAVED = """
import pickle, sys
import jax, numpy as np
from jax.experimental import serialize_executable
import jaxseq
from jaxseq import kernels
cell = jaxseq.rnn(4)
arguments = cell.init(jax.random.key(0), 3), jax.random.normal(jax.random.key(1), (5, 2, 3))
unroll = jax.jit(lambda params, xs: jaxseq.unroll(cell, params, xs, kernel=kernels.native)[1])
compiled = unroll.lower(*arguments).compile()
serialised, want = serialize_executable.serialize(compiled), compiled(*arguments)
with open(sys.argv[1], "wb") as file:
    pickle.dump((serialised, arguments, want), file)
again = serialize_executable.deserialize_and_load(*serialised, execution_devices=jax.devices()[:1])
print(np.array_equal(again(*arguments), want))
"""
LOADED = """
import pickle, sys
import jax, numpy as np
from jax.experimental import serialize_executable
from jaxseq.kernels.native import _call
_call.register()
with open(sys.argv[1], "rb") as file:
    serialised, arguments, want = pickle.load(file)
call = serialize_executable.deserialize_and_load(*serialised, execution_devices=jax.devices()[:1])
print(np.array_equal(call(*arguments), want), len(_call._known))
"""


@pytest.mark.learn
def test_an_executable_is_loaded_in_another_process(tmp_path):
    """With its program, whose text is compiled there; and in the same one, where it is known."""
    assert run(SAVED, tmp_path / "executable") == ["True"]
    assert run(LOADED, tmp_path / "executable") == ["True", "1"]


CACHED = """
import jax
seen = []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event.split("/")[-1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
from tests.native.test_call import numbers, times
y = times(5)(numbers()).tolist()
print(y[2], "cache_hits" in seen, "cache_misses" in seen)
"""


@pytest.mark.learn
def test_a_new_process_finds_what_xla_compiled(tmp_path):
    assert run(CACHED, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == ["10.0", "False", "True"]
    assert run(CACHED, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == ["10.0", "True", "False"]


def test_why_not(monkeypatch):
    assert _call.why_not() is None
    monkeypatch.setattr(_call, "_version", lambda: (0, 99))
    assert _call.why_not() == "the version 0.99 of XLA's FFI is not known; known are 0.3, 0.4, 0.5"
    monkeypatch.setattr(_call, "host", lambda: None)
    reason = _call.why_not()
    assert reason is not None
    assert "neither AVX2 nor NEON" in reason
    monkeypatch.setattr(_call, "llvm", lambda: None)
    assert _call.why_not() == "llvmlite is not installed"
    monkeypatch.setenv("JAXSEQ_NATIVE", "0")
    assert _call.why_not() == "the environment has JAXSEQ_NATIVE=0"


def test_the_processor(monkeypatch):
    assert machine() == host()
    assert machine().lanes(f32) == 2 * machine().lanes(i64)
    with forced(4) as narrow:
        assert machine() == narrow
        assert narrow.lanes(f32) == 4
    monkeypatch.setattr(_machine, "host", lambda: None)
    with pytest.raises(ValueError, match="neither AVX2 nor NEON"):
        machine()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx2": True, "fma": True}, (32, 16)),
        (dict.fromkeys(("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "avx2"), True), (64, 32)),
        ({"neon": True}, (16, 32)),
        ({"sse2": True, "avx2": True}, None),
    ],
)
def test_processors_by_what_llvm_knows_of_them(monkeypatch, features, expected):
    known = type(llvm().get_host_cpu_features())(features)
    monkeypatch.setattr(llvm(), "get_host_cpu_features", lambda: known)
    found = host.__wrapped__()
    assert (found and (found.vector_bytes, found.registers)) == expected


CROWDED = """
import ctypes
import mmap

from jaxseq.kernels.native import _call, _machine

STORES = "".join(f"store volatile i64 {k}, ptr %out " for k in range(2000))
TEXT = f"@numbers = constant [2 x i64] [i64 7, i64 7] define ptr @run(ptr %out) {{ {STORES} ret ptr @numbers }}"

def mapped(size):
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE

def address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))

kept = [_call._compile(TEXT, _machine.machine())]
pages = [mapped(mmap.PAGESIZE) for _ in range(4000)]
far = [mapped(1 << 30) for _ in range(5)]
size = 1 << 28
while size > mmap.PAGESIZE:
    kept.append(mapped(size))
    size //= 1 if address(kept[-1]) > address(far[-1]) else 2
del pages[::2]
for _ in range(20):
    kept.append(_call._compile(TEXT, _machine.machine()))
    run = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(kept[-1].get_function_address("run"))
    numbers = run(ctypes.addressof(ctypes.c_int64()))
    print(ctypes.c_int64.from_address(numbers).value, abs(numbers - kept[-1].get_function_address("run")) >> 31)
"""


@pytest.mark.learn
@pytest.mark.skipif(sys.platform != "linux", reason="five empty gigabytes are mapped as Linux does")
def test_constants_may_lie_far_from_their_code():
    """Above five gigabytes are holes of one page: room for constants, not for code."""
    numbers = run(CROWDED)
    assert set(numbers[::2]) == {"7"}
    assert any(int(gigabytes) for gigabytes in numbers[1::2])
