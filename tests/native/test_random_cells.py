"""Random cells of random sizes: native loops give what XLA's do, and touch no memory but their own."""

import ctypes
import itertools
import os

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import jaxseq
from jaxseq import kernels
from jaxseq.kernels.native import _call, _scan
from jaxseq.kernels.native._ir import Code, i64, ptr
from jaxseq.kernels.native._machine import forced, widths
from jaxseq.kernels.native._runtime import RUN
from tests import zoo
from tests.full import FULL
from tests.native.random_cells import random_cell

GUARD = 256  # bytes of 0xff, NaN as floats, before and behind each buffer


def drawn(cell, T, B, D, dtype):
    params = zoo.params_of(cell, D, dtype)
    generator = np.random.default_rng(2)
    return params, jnp.asarray(generator.normal(size=(T, B, D)).astype(dtype))


DRAWS = hypothesis.given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 33),
    B=st.integers(1, 13),
    T=st.integers(1, 5),
    lanes=st.sampled_from(widths()),
    reverse=st.booleans(),
    has_flags=st.booleans(),
)


@hypothesis.settings(max_examples=2)
@DRAWS
def test_values_and_gradients_are_xlas(**drawn):
    of_random_cell(**drawn)


@pytest.mark.learn
@hypothesis.settings(max_examples=100 if FULL else 8)
@DRAWS
def test_those_of_many_cells_are(**drawn):
    of_random_cell(**drawn)


def of_random_cell(seed, size, B, T, lanes, reverse, has_flags):
    cell = random_cell(seed, size, has_flags)
    with jax.enable_x64(True):
        hold_against_xla(cell, *drawn(cell, T, B, 3, np.float64), lanes, reverse)


def hold_against_xla(cell, params, xs, lanes, reverse):
    """To 1e-9, or ten times what XLA's own results change by where params change in their last digit."""

    def run(kernel):
        def total(params, xs):
            (leaves, _), ys = jaxseq.unroll(cell, params, xs, kernel=kernel, reverse=reverse)
            weights = jnp.cos(jnp.arange(ys.size).reshape(ys.shape))
            return jnp.sum(ys * weights) + sum(map(jnp.sum, leaves)), (leaves, ys)

        return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))

    with forced(lanes):
        got = run(kernels.native)(params, xs)
    by_xla = run(kernels.scan)
    want, near = by_xla(params, xs), by_xla(jax.tree.map(lambda leaf: leaf * (1 + 2e-16), params), xs)
    paths = jax.tree_util.tree_leaves_with_path(got)
    for (path, leaf), exact, other in zip(paths, jax.tree.leaves(want), jax.tree.leaves(near), strict=True):
        allowed = 1e-9 * (1 + np.abs(exact)) + 10 * np.max(np.abs(exact - other), initial=0)
        assert np.all(np.abs(leaf - exact) <= allowed), jax.tree_util.keystr(path)


def guarded_call(target, shapes):
    """`jax.ffi.ffi_call`, but on memory with guards around each buffer, without XLA and its threads."""

    def call(*operands, program):
        arrays = [np.asarray(operand) for operand in operands]
        arrays += [np.zeros(shape.shape, shape.dtype) for shape in shapes]
        memory = [np.full(array.nbytes + 2 * GUARD, 0xFF, np.uint8) for array in arrays]
        for room, array in zip(memory[: len(operands)], arrays, strict=False):
            room[GUARD:-GUARD] = np.ascontiguousarray(array).view(np.uint8).ravel()
        before = [room.copy() for room in memory]
        buffers = (ctypes.c_void_p * len(memory))(*[room.ctypes.data + GUARD for room in memory])
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(_call._known[int(program)]._entry[RUN // 8])
        run(ctypes.addressof(buffers), None)
        for room, old in zip(memory, before, strict=True):
            np.testing.assert_array_equal(room[:GUARD], old[:GUARD])
            np.testing.assert_array_equal(room[-GUARD:], old[-GUARD:])
        for room, old in zip(memory[: len(operands)], before, strict=False):
            np.testing.assert_array_equal(room, old)
        results = zip(memory[len(operands) :], shapes, strict=True)
        return [room[GUARD:-GUARD].view(shape.dtype).reshape(shape.shape) for room, shape in results]

    return call


def one_after_the_other(module, units):
    """Puts a `run` in place of a module's that does its units itself."""
    code = Code(module, "run", [ptr, ptr], internal=False)
    packed = code.call("packed", ptr, *code.args)
    with code.loop(units) as unit:
        code.call("unit", None, code.args[0], code.constant(i64, unit.index))
    code.call("jaxseq_free", None, packed)
    code.ret()
    return module


NAMES, DTYPES = ["lstm", "gru", "layer_norm_lstm", "slstm", "own"], [np.float32, np.float64, jnp.bfloat16, np.float16]
SOME = [
    ("lstm", np.float32, widths()[-1]),
    ("layer_norm_lstm", jnp.bfloat16, min(8, widths()[-1])),
    ("own", np.float64, 4),
    ("slstm", np.float32, min(8, widths()[-1])),
]
OTHERS = [row for row in itertools.product(NAMES, DTYPES, widths()) if row not in SOME]


@pytest.mark.parametrize(
    ("name", "dtype", "lanes"), [*SOME, *(pytest.param(*row, marks=pytest.mark.learn) for row in OTHERS)]
)
def test_no_memory_but_its_own_is_touched(name, dtype, lanes, x64, monkeypatch):
    cell, (T, B, D) = zoo.find(name).cell, (3, 5, 3)
    params, xs = drawn(cell, T, B, D, dtype)
    carry = zoo.random_like(cell.carry(params, (B,)), 3)

    def step(params, carry, x):
        after, y = cell.step(params, carry, cell.project(params, x))
        return after, (y, carry)

    forms, units = [], -(-B // -(-B // (os.cpu_count() or 1)))

    def note(plain, native, shapes, *arguments):
        forms.append((plain, native, arguments))
        return plain(*arguments)

    program, held = _call.program, []
    monkeypatch.setattr(_scan, "in_two_forms", note)
    _scan.scan(step, lambda params, inputs: inputs, params, carry, xs, False)
    monkeypatch.setattr(_call, "program", lambda module: program(one_after_the_other(module, units)))
    monkeypatch.setattr(jax.ffi, "ffi_call", guarded_call)
    plain, native, arguments = forms[0]
    with forced(lanes):
        got = native(held.append, *arguments)
    want = plain(*arguments)
    tolerance = 1e-12 if dtype == np.float64 else 16 * float(jnp.finfo(dtype).eps)
    zoo.assert_close(got, want, tolerance)
