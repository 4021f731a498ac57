"""The code that XLA calls, as LLVM IR: one FFI handler for all programs, and work sharing on XLA's threads.

XLA identifies a program by a number, the only attribute of the handler. When an executable is made, `instantiate` asks
Python for the program with that number and gives its entry to XLA. XLA passes the entry to `execute` at each call and
releases it with the executable. So programs can be freed. Only this file depends on XLA's call frame: it reads the
frame by offsets, which are those of `xla/ffi/api/c_api.h` for the versions in `KNOWN_VERSIONS`.

`parallel` runs `work(context, unit)` for many units. The caller and tasks on XLA's pool take units from one counter.
The caller waits only for units that are in progress, never for a task to start. So a pool with one thread cannot
deadlock, and neither can two programs at once.
"""

import sys

from jaxseq.kernels.native._ir import Code, Module, Type, Value, i32, i64, ptr

KNOWN_VERSIONS = {(0, 3), (0, 4), (0, 5)}
EXTENSION, API, CONTEXT = 8, 16, 24  # in XLA_FFI_CallFrame
ARGS, RETS, ATTRS = 40, 80, 120
SIZE, ITEMS, ATTR_ITEMS = 16, 32, 40  # in XLA_FFI_Args, XLA_FFI_Rets, XLA_FFI_Attrs
BUFFER_DATA, SCALAR_VALUE = 24, 8  # in XLA_FFI_Buffer, XLA_FFI_Scalar
ERROR_CREATE, ERROR_DESTROY, STATE_SET, STATE_GET, SCHEDULE, NUM_THREADS = 48, 64, 104, 112, 136, 144  # in XLA_FFI_Api
METADATA_EXTENSION, EXTENSION_TYPE, EXTENSION_METADATA = 1, 8, 24
MAJOR, MINOR, TRAITS, STATE_TYPE = 24, 28, 32, 40  # in XLA_FFI_Metadata
NOT_FOUND = 5

RUN, USERS, ENTRY_BYTES = 0, 8, 16  # in Entry: the function, and how many executables hold it
NEXT, DONE, HOLDERS, UNITS, WORK, WORK_CONTEXT, JOB_BYTES = 0, 8, 16, 24, 32, 40, 48  # in a job of `parallel`
LINE = 64  # bytes of a cache line
HUGE_PAGE, ADVISE_HUGE = 1 << 21, 14  # bytes, and Linux's number of MADV_HUGEPAGE


def runtime(version: tuple[int, int]) -> Module:
    """Returns the module of `instantiate`, `execute` and `jaxseq_parallel`, which reports `version` to XLA."""
    module = Module()
    module.globals["type_id"] = "@type_id = global i64 0"
    module.globals["unknown"] = '@unknown = constant [32 x i8] c"jaxseq: this program is unknown\\00"'
    module.declare("jaxseq_malloc", ptr, [i64])
    module.declare("jaxseq_release", None, [ptr])
    module.declare("jaxseq_yield", i32, [])
    module.declare("jaxseq_find", ptr, [i64])
    module.declare("jaxseq_advise", i32, [ptr, i64, i32])
    _allocate(module)
    _free(module)
    _huge_pages(module)
    _instantiate(module, version)
    _execute(module, version)
    _forget(module)
    _work(module)
    _task(module)
    _parallel(module)
    return module


def _field(code: Code, pointer: Value, offset: int, kind: Type = ptr) -> Value:
    return code.load(kind, code.at(pointer, Type("i8"), offset))


def _set(code: Code, pointer: Value, offset: int, value: Value):
    code.store(value, code.at(pointer, Type("i8"), offset))


def _add(code: Code, pointer: Value, offset: int, number: int) -> Value:
    """Adds to a shared counter atomically, and returns its previous value."""
    return code.op(i64, f"atomicrmw add {code.at(pointer, Type('i8'), offset)}, i64 {number} seq_cst")


def _name(code: Code, name: str) -> Value:
    return Value(code, ptr, f"@{name}")


def _ask_xla(code: Code, frame: Value, function: int, *fields: Value) -> tuple[Value, Value]:
    """Calls a function of XLA's table with a struct of size, extension and fields. Returns the error and the struct."""
    size = 8 * (2 + len(fields))
    struct = code.room(size)
    for k, field in enumerate([code.constant(i64, size), code.constant(ptr, None), *fields]):
        _set(code, struct, 8 * k, field)
    pointer = _field(code, _field(code, frame, API), function)
    return code.op(ptr, f"call ptr {pointer.name}({struct})"), struct


def _answer_metadata(code: Code, frame: Value, version: tuple[int, int]):
    """Answers XLA's metadata query, which every handler gets when it is registered, and returns."""
    null = code.constant(ptr, None)
    extension = _field(code, frame, EXTENSION)
    is_asked = extension.differs(null)
    kind = _field(code, code.select(is_asked, extension, frame), EXTENSION_TYPE, i32)
    with code.when(is_asked & kind.equals(METADATA_EXTENSION)):
        metadata = _field(code, extension, EXTENSION_METADATA)
        for offset, number in ((MAJOR, version[0]), (MINOR, version[1]), (TRAITS, 0)):
            _set(code, metadata, offset, code.constant(i32, number))
        _set(code, metadata, STATE_TYPE, code.load(i64, _name(code, "type_id")))
        code.leave(null)


def _allocate(module: Module):
    """Writes the allocation of memory that starts at a cache line. The original address is stored in front of it."""
    code = Code(module, "jaxseq_allocate", [i64], ptr, internal=False)
    given = code.call("jaxseq_malloc", ptr, code.args[0] + 2 * LINE)
    address = code.op(i64, f"ptrtoint {given} to i64") + 2 * LINE & -LINE
    memory = code.op(ptr, f"inttoptr {address} to ptr")
    _set(code, memory, -8, given)
    code.ret(memory)


def _free(module: Module):
    code = Code(module, "jaxseq_free", [ptr], internal=False)
    code.call("jaxseq_release", None, _field(code, code.args[0], -8))
    code.ret()


def _huge_pages(module: Module):
    """Requests huge pages for the part of some memory that consists of whole huge pages.

    XLA's large arrays are newly mapped at each call. Mapping them page by page, as they are written, took a third of
    the time of some loops.
    """
    code = Code(module, "jaxseq_huge_pages", [ptr, i64], internal=False)
    pointer, size = code.args
    start = code.op(i64, f"ptrtoint {pointer} to i64")
    end = start + size & -HUGE_PAGE
    start = start + (HUGE_PAGE - 1) & -HUGE_PAGE
    with code.when((start < end) & (sys.platform == "linux")):
        aligned = code.op(ptr, f"inttoptr {start} to ptr")
        code.call("jaxseq_advise", i32, aligned, end - start, code.constant(i32, ADVISE_HUGE))
    code.ret()


def _instantiate(module: Module, version: tuple[int, int]):
    code = Code(module, "instantiate", [ptr], ptr, internal=False)
    (frame,) = code.args
    _answer_metadata(code, frame, version)
    attribute = _field(code, _field(code, frame, ATTRS + ATTR_ITEMS), 0)
    number = code.load(i64, _field(code, attribute, SCALAR_VALUE))
    entry = code.call("jaxseq_find", ptr, number)
    _add(code, entry, USERS, 1)
    stage, context = code.constant(i64, 0), _field(code, frame, CONTEXT)
    error, _ = _ask_xla(code, frame, STATE_SET, context, stage, _name(code, "type_id"), entry)
    code.ret(error)


def _execute(module: Module, version: tuple[int, int]):
    """Collects the addresses of arguments and results, and runs the program on them."""
    code = Code(module, "execute", [ptr], ptr, internal=False)
    (frame,) = code.args
    _answer_metadata(code, frame, version)
    null, context = code.constant(ptr, None), _field(code, frame, CONTEXT)
    error, state = _ask_xla(code, frame, STATE_GET, context, code.constant(i64, 0), _name(code, "type_id"), null)
    with code.when(error.differs(null)):
        code.leave(error)
    arguments, results = _field(code, frame, ARGS + SIZE, i64), _field(code, frame, RETS + SIZE, i64)
    buffers = code.op(ptr, f"alloca ptr, {arguments + results}")
    for start, count, offset in ((0, arguments, ARGS), (arguments, results, RETS)):
        items = _field(code, frame, offset + ITEMS)
        with code.loop(count) as loop:
            buffer = code.load(ptr, code.at(items, ptr, loop.index))
            code.store(_field(code, buffer, BUFFER_DATA), code.at(buffers, ptr, loop.index + start))
    run = _field(code, _field(code, state, 40), RUN)
    with code.when(run.equals(null)):
        error, _ = _ask_xla(code, frame, ERROR_CREATE, _name(code, "unknown"), code.constant(i64, NOT_FOUND))
        code.leave(error)
    code.do(f"call void {run.name}({buffers}, {frame})")
    code.ret(null)


def _forget(module: Module):
    """Releases the entry when XLA has deleted the executable."""
    code = Code(module, "forget", [ptr], internal=False)
    _add(code, code.args[0], USERS, -1)
    code.ret()


def _work(module: Module):
    """Processes units of a job until none is left."""
    code = Code(module, "work", [ptr])
    (job,) = code.args
    units, work, context = _field(code, job, UNITS, i64), _field(code, job, WORK), _field(code, job, WORK_CONTEXT)
    with code.while_true() as done:
        unit = _add(code, job, NEXT, 1)
        done(unit >= units)
        code.do(f"call void {work.name}({context}, {unit})")
        _add(code, job, DONE, 1)
    _release(code, job)
    code.ret()


def _release(code: Code, job: Value):
    """Frees a job by its last holder. A task may start after all work is done and the caller has returned."""
    with code.when(_add(code, job, HOLDERS, -1).equals(1)):
        code.call("jaxseq_free", None, job)


def _task(module: Module):
    code = Code(module, "task", [ptr])
    code.call("work", None, *code.args)
    code.ret()


def _parallel(module: Module):
    code = Code(module, "jaxseq_parallel", [ptr, ptr, ptr, i64], internal=False)
    frame, work, context, units = code.args
    null, xla_context = code.constant(ptr, None), _field(code, frame, CONTEXT)
    job = code.call("jaxseq_allocate", ptr, code.constant(i64, JOB_BYTES))
    threads = code.room(8)
    code.store(code.constant(i64, 1), threads)
    error, _ = _ask_xla(code, frame, NUM_THREADS, xla_context, threads)
    _destroy(code, frame, error)
    at_most = code.call("llvm.smin.i64", i64, code.load(i64, threads), units)
    helpers = code.call("llvm.smax.i64", i64, at_most, code.constant(i64, 1)) - 1
    numbers = [code.constant(i64, 0), code.constant(i64, 0), helpers + 2, units]
    for k, value in enumerate([*numbers, work, context]):
        _set(code, job, 8 * k, value)
    with code.loop(helpers):
        error, _ = _ask_xla(code, frame, SCHEDULE, xla_context, _name(code, "task"), job)
        with code.when(error.differs(null)):
            _add(code, job, HOLDERS, -1)
        _destroy(code, frame, error)
    code.call("work", None, job)
    with code.while_true() as done:
        finished = code.op(i64, f"load atomic i64, {code.at(job, Type('i8'), DONE)} seq_cst, align 8")
        done(finished >= units)
        code.call("jaxseq_yield", i32)
    _release(code, job)
    code.ret()


def _destroy(code: Code, frame: Value, error: Value):
    with code.when(error.differs(code.constant(ptr, None))):
        pointer = _field(code, _field(code, frame, API), ERROR_DESTROY)
        struct = code.room(24)
        for k, field in enumerate([code.constant(i64, 24), code.constant(ptr, None), error]):
            _set(code, struct, 8 * k, field)
        code.do(f"call void {pointer.name}({struct})")
