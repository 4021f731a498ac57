"""The processor that loops are compiled for: the width and number of its vectors, and what LLVM knows about it."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from jaxseq.kernels.native._values import Type

AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")
AVX2 = ("avx2", "fma")


@functools.cache
def llvm() -> Any:
    """Returns `llvmlite.binding`, imported on first use, or None if it is not installed."""
    try:
        from llvmlite import binding
    except ImportError:
        return None
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


class Machine(NamedTuple):
    """A processor: LLVM's name and features of it, the bytes of a vector register, and the number of registers.

    `optimised` is whether LLVM takes the time to improve code for it.
    """

    cpu: str
    features: str
    vector_bytes: int
    registers: int
    optimised: bool = True

    def lanes(self, scalar: Type) -> int:
        """Returns the number of scalars in a vector register."""
        return self.vector_bytes // scalar.bytes

    @property
    def attributes(self) -> str:
        """Returns the function attributes that keep LLVM from halving the vectors of some processors."""
        bits = 8 * self.vector_bytes
        return f'nounwind "prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'

    def target(self):
        """Returns LLVM's target machine, which can own only one engine.

        "jitdefault" allows code that is far from its constants. With any other model, LLVM aborts the process then.
        """
        triple = llvm().Target.from_default_triple()
        level = 2 if self.optimised else 0
        return triple.create_target_machine(self.cpu, self.features, opt=level, reloc="static", codemodel="jitdefault")


def threads() -> int:
    """Returns the number of threads that share the rows of a batch."""
    return os.cpu_count() or 1


@functools.cache
def host() -> Machine | None:
    """Returns this machine's processor, or None if its vectors are not known."""
    has = llvm().get_host_cpu_features()
    name, features = llvm().get_host_cpu_name(), has.flatten()
    if all(has.get(feature) for feature in AVX512):
        return Machine(name, features, 64, 32)
    if all(has.get(feature) for feature in AVX2):
        return Machine(name, features, 32, 16)
    if has.get("neon"):
        return Machine(name, features, 16, 32)
    return None


def machine() -> Machine:
    """Returns the processor to compile for: this machine's, unless another is `forced`."""
    processor = _forced[-1] if _forced else host()
    if processor is None:
        raise ValueError(f"the processor {llvm().get_host_cpu_name()} has neither AVX2 nor NEON")
    return processor._replace(optimised=is_optimised())


def is_optimised() -> bool:
    """Returns whether code is optimised. With `jax_disable_most_optimizations`, JAX asks for a fast compilation."""
    return not jax.config.read("jax_disable_most_optimizations")


def widths() -> list[int]:
    """Returns how many floats a vector may have on this processor: 4, 8 and 16 with AVX-512. For tests."""
    return [lanes for lanes in (4, 8, 16) if 4 * lanes <= machine().vector_bytes]


@contextlib.contextmanager
def forced(lanes: int) -> Iterator[Machine]:
    """Compiles for vectors of this many floats inside this context. Earlier code is kept. For tests.

    Raises:
        ValueError: If `lanes` is not in `widths()`.
    """
    if lanes not in widths():
        raise ValueError(f"lanes must be one of {widths()} on this processor, and is {lanes}")
    is_own = lanes == machine().vector_bytes // 4
    _forced.append(machine() if is_own else Machine("haswell", "", 4 * lanes, 16))
    try:
        yield machine()
    finally:
        _forced.pop()


_forced: list[Machine] = []
