"""The machine code of a program, and its call through XLA's FFI.

A program is a `Module` that defines `void @run(ptr buffers, ptr pool)`. `buffers` holds the addresses of arguments and
results. The program may call

    void @jaxseq_parallel(ptr pool, ptr work, ptr context, i64 units)      work(context, unit) for each, and wait
    ptr  @jaxseq_allocate(i64 bytes)       void @jaxseq_free(ptr)          memory for the duration of a call
    void @jaxseq_huge_pages(ptr memory, i64 bytes)                         before a large array is written

It is compiled when JAX lowers the call. XLA knows it by a number that is computed from its text and the processor. So
each text is compiled once, and a program in XLA's persistent cache is found again. It lives as long as JAX's lowering
or one of XLA's executables holds it.
"""

import atexit
import ctypes
import functools
import hashlib
import os
import re
import sys
import threading
import weakref
from pathlib import Path

import jax

from jaxseq.kernels.native._ir import Module, i64, ptr
from jaxseq.kernels.native._machine import Machine, host, llvm, machine
from jaxseq.kernels.native._runtime import ENTRY_BYTES, KNOWN_VERSIONS, RUN, USERS, runtime

TARGET = "jaxseq_native"
_known: "weakref.WeakValueDictionary[int, Program]" = weakref.WeakValueDictionary()
_held: "dict[int, Program]" = {}  # the programs that executables have requested
_lock = threading.RLock()


def why_not() -> str | None:
    """Returns why no program can be called here, or None if one can."""
    if os.environ.get("JAXSEQ_NATIVE") == "0":
        return "the environment has JAXSEQ_NATIVE=0"
    if llvm() is None:
        return "llvmlite is not installed"
    if sys.platform not in ("linux", "darwin"):
        return f"native loops are for Linux and macOS; this is {sys.platform}"
    if host() is None:
        return f"the processor {llvm().get_host_cpu_name()} has neither AVX2 nor NEON"
    if _version() not in KNOWN_VERSIONS:
        given, *known = ("{}.{}".format(*version) for version in (_version(), *sorted(KNOWN_VERSIONS)))
        return f"the version {given} of XLA's FFI is not known; known are {', '.join(known)}"
    return None


class Program:
    """The machine code of a module. XLA knows it by its `number`.

    It pickles as its text, because JAX pickles what an executable holds, and is compiled when it is loaded. JAX loads
    the executable first, so a number may exist before its code. Calling it then is an error that XLA raises.
    """

    def __init__(self, number: int):
        self.number, self.text = number, None
        self._entry = (ctypes.c_int64 * (ENTRY_BYTES // 8))()

    def compile(self, text: str):
        """Compiles the program, unless it is compiled already."""
        if self.text is None:
            self._engine = _compile(text, machine())
            self._entry[RUN // 8] = self._engine.get_function_address("run")
            self.text = text

    def __reduce__(self):
        return _program, (self.number, self.text)

    @property
    def address(self) -> int:
        """Returns the address of its entry."""
        return ctypes.addressof(self._entry)

    @property
    def users(self) -> int:
        """Returns how many of XLA's executables hold it."""
        return self._entry[USERS // 8]


def program(module: Module) -> Program:
    """Returns a module's program, compiled if needed. Keep it until XLA has made an executable with it."""
    module.declare("jaxseq_parallel", None, [ptr, ptr, ptr, i64])
    module.declare("jaxseq_allocate", ptr, [i64])
    module.declare("jaxseq_free", None, [ptr])
    module.declare("jaxseq_huge_pages", None, [ptr, i64])
    text = module.text()
    digest = hashlib.sha256(repr((text, machine())).encode()).digest()
    return _program(int.from_bytes(digest[:8], "little", signed=True), text)


def _program(number: int, text: str) -> Program:
    register()
    with _lock:
        for unused in [held for held, program in _held.items() if program.text and not program.users]:
            del _held[unused]
        found = _numbered(number)
        found.compile(text)
    return found


def _numbered(number: int) -> Program:
    found = _known.get(number)
    if found is None:
        found = _known[number] = Program(number)
    return found


def _compile(text: str, processor: Machine):
    """Returns an engine with the code of a module. The text is close to the final code: few LLVM passes improve it."""
    module = llvm().parse_assembly(text)
    module.verify()
    target = processor.target()
    module.triple, module.data_layout = target.triple, str(target.target_data)
    passes = llvm().create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    if processor.optimised:
        passes.add_instruction_combine_pass()
        passes.add_new_gvn_pass()
    passes.run(module, llvm().create_pass_builder(target, llvm().create_pipeline_tuning_options()))
    llvm().newpassmanagers.NewPassManager._dispose(passes)  # llvmlite does not: a method of another base comes first
    passes.detach()
    code = llvm().ObjectFileRef.from_data(target.emit_object(module))
    engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), processor.target())
    engine.add_object_file(code)
    engine.finalize_object()
    return engine


@functools.cache
def _version() -> tuple[int, int]:
    """Returns the FFI version of this jaxlib, read from its own header."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text()
    major, minor = (re.search(rf"#define XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR"))
    return (int(major[1]), int(minor[1])) if major and minor else (-1, -1)


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)
def _find(number):
    """Returns the entry of the program with this number. XLA calls it when it makes an executable."""
    with _lock:
        _held[number] = found = _numbered(number)
    return found.address


@functools.cache
def register():
    """Compiles the handlers and registers them with XLA, also before it loads an executable of another process."""
    libc = ctypes.CDLL(None)
    symbols = {
        "jaxseq_malloc": ctypes.pythonapi.PyMem_RawMalloc,
        "jaxseq_release": ctypes.pythonapi.PyMem_RawFree,
        "jaxseq_yield": libc.sched_yield,
        "jaxseq_find": _find,
        "jaxseq_advise": libc.madvise,
    }
    for name, function in symbols.items():
        llvm().add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    engine = _compile(runtime(_version()).text(), machine())
    for name in ("jaxseq_parallel", "jaxseq_allocate", "jaxseq_free", "jaxseq_huge_pages"):
        llvm().add_symbol(name, engine.get_function_address(name))
    info = (ctypes.c_int64 * 3)(24, 0, engine.get_function_address("forget"))
    type_id = engine.get_global_value_address("type_id")
    jax.ffi.register_ffi_type(
        TARGET, {"type_id": _capsule(type_id), "type_info": _capsule(ctypes.addressof(info))}, platform="cpu"
    )
    stages = {stage: _capsule(engine.get_function_address(stage)) for stage in ("instantiate", "execute")}
    jax.ffi.register_ffi_target(TARGET, stages, platform="cpu")
    # An executable may outlive Python: the code that it calls and the counters that it uses must still exist then.
    for kept in (_held, engine, info):
        atexit.register(ctypes.pythonapi.Py_IncRef, ctypes.py_object(kept))


def _capsule(address: int):
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return make(address, None, None)
