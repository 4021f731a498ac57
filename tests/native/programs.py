"""Programs of a few lines for the tests: written by a function, compiled, and called on arrays."""

from typing import Any

import jax
import numpy as np

from jaxseq.kernels.native import _call
from jaxseq.kernels.native._ir import Code, Module, Type, Value, f32, f64, i32, i64, ptr
from jaxseq.kernels.native._machine import machine

SCALARS = {np.dtype("float32"): f32, np.dtype("float64"): f64, np.dtype("int32"): i32, np.dtype("int64"): i64}


def compiled(write, arguments, results, units=None):
    """Returns a function of arrays: `write(code, *buffers)`, or with `units` `write(code, unit, *buffers)` for each."""
    module, count = Module(), len(jax.tree.leaves((arguments, results)))
    body = Code(
        module,
        "work" if units else "run",
        [ptr, i64 if units else ptr],
        internal=bool(units),
        attributes=machine().attributes,
    )
    buffers, second = body.args
    addresses = [body.load(ptr, body.at(buffers, ptr, i)) for i in range(count)]
    write(body, *((second,) if units else ()), *addresses)
    body.ret()
    if units:
        run = Code(module, "run", [ptr, ptr], internal=False)
        buffers, pool = run.args
        run.call("jaxseq_parallel", None, pool, Value(run, ptr, "@work"), buffers, run.constant(i64, units))
        run.ret()
    return called(module, results)


def called(module, results) -> Any:
    """Returns a jitted function of arrays that runs a module; `program` of it is what is run."""
    program = _call.program(module)

    def call(*arrays):
        return jax.ffi.ffi_call(_call.TARGET, results)(*arrays, program=np.int64(program.number))

    jitted: Any = jax.jit(call)
    jitted.program = program
    return jitted


def mapped(function, dtype, n, lanes=None, unit=1024):
    """Returns a function of n numbers, each one's image under `function(code, vector)`; n is a multiple of `unit`."""
    scalar, shape = SCALARS[np.dtype(dtype)], jax.ShapeDtypeStruct((n,), dtype)
    vector = Type(scalar.scalar, lanes or machine().lanes(scalar))

    def write(code, at, source, target):
        with code.loop(unit, vector.lanes) as loop:
            index = at * unit + loop.index
            code.store(
                function(code, code.load(vector, code.at(source, scalar, index))), code.at(target, scalar, index)
            )

    return compiled(write, [shape], shape, units=n // unit)
