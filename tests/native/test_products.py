"""Products and gradients of weights in tiles, at every width, with nothing written beside them."""

import re

import jax
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.kernels.native import _call
from jaxseq.kernels.native._ir import Type
from jaxseq.kernels.native._machine import forced, llvm, machine, widths
from jaxseq.kernels.native._products import Factor, Rows, Tile, accumulate, packed_size, product, tile, write_packed
from tests.native.programs import SCALARS, compiled

SIZES = [(1, 1, 1), (1, 33, 5), (3, 4, 40), (5, 13, 33), (17, 32, 100)]
TOLERANCE = {"float32": 1e-6, "float64": 2e-15}


def draw(seed, shape, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.some(15)
@pytest.mark.parametrize("lanes", widths())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_two_products_are_added_up(size, dtype, lanes):
    rows, K, G = size
    scalar = SCALARS[np.dtype(dtype)]
    with jax.enable_x64(True), forced(lanes) as machine:
        vector = Type(scalar.scalar, machine.lanes(scalar))
        tiles = tile(machine, vector.lanes, rows, G)
        x, h, w, v = (draw(i, shape, dtype) for i, shape in enumerate([(rows, K), (rows, 3), (K, G), (3, G)]))
        stride = packed_size(1, G, vector.lanes)

        def write(code, x, h, w, v, out):
            factors = []
            for rows_of, weight, depth in ((x, w, K), (h, v, 3)):
                packed = code.room(packed_size(depth, G, vector.lanes) * scalar.bytes)
                write_packed(code, vector, tiles, (1, depth, G), weight, packed)
                factors.append(Factor(rows_of, depth, packed, depth))
            product(code, vector, tiles, rows, G, factors, out, stride)

        arrays = (x, h, w, v)
        out = np.asarray(compiled(write, arrays, jax.ShapeDtypeStruct((rows, stride), dtype))(*arrays))
    wide = np.longdouble
    want = x.astype(wide) @ w.astype(wide) + h.astype(wide) @ v.astype(wide)
    scale = np.abs(x).astype(wide) @ np.abs(w) + np.abs(h) @ np.abs(v)
    assert np.max(np.abs(out[:, :G] - want) / scale) < TOLERANCE[dtype]
    np.testing.assert_array_equal(out[:, G:], 0)


@pytest.mark.parametrize("lanes", widths())
@pytest.mark.parametrize("size", [(1, 33, 16), (3, 4, 48), (17, 5, 160)], ids=str)
def test_weights_as_they_are_give_what_packed_ones_give(size, lanes):
    rows, K, G = size
    scalar = SCALARS[np.dtype("float32")]
    with forced(lanes) as machine:
        vector, tiles = Type(scalar.scalar, lanes), tile(machine, lanes, rows, G)
        x, w = draw(0, (rows, K), "float32"), draw(1, (K, G), "float32")

        def write(code, x, w, out):
            packed = code.room(packed_size(K, G, lanes) * scalar.bytes)
            write_packed(code, vector, tiles, (1, K, G), w, packed)
            for place, factor in enumerate((Factor(x, K, packed, K), Factor(x, K, w, K, packed=False))):
                product(code, vector, tiles, rows, G, [factor], code.at(out, scalar, place * rows * G), G)

        out = np.asarray(compiled(write, [x, w], jax.ShapeDtypeStruct((2, rows, G), np.float32))(x, w))
    np.testing.assert_array_equal(out[0], out[1])


@pytest.mark.parametrize("lanes", widths())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_of_weights_are_added_to(size, dtype, lanes):
    """Over three steps, backwards in time, to what was there."""
    rows, K, G = size
    scalar = SCALARS[np.dtype(dtype)]
    with jax.enable_x64(True), forced(lanes) as machine:
        vector = Type(scalar.scalar, machine.lanes(scalar))
        stride = packed_size(1, G, vector.lanes)
        tiles = tile(machine, vector.lanes, K, G)
        x, d, before = (draw(i, shape, dtype) for i, shape in enumerate([(3, rows, K), (3, rows, G), (K, G)]))

        def write(code, x, d, before, out):
            with code.loop(K * stride, vector.lanes) as loop:
                value = code.load(vector, code.at(before, scalar, loop.index))
                code.store(value, code.at(out, scalar, loop.index))
            last = code.at(x, scalar, 2 * rows * K)
            steps, deltas = Rows(last, -rows * K, K), Rows(d, rows * stride, stride)
            accumulate(code, vector, tiles, 3, rows, K, G, steps, deltas, out)

        arrays = (x, *(np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, stride - G)]) for a in (d[::-1], before)))
        out = np.asarray(compiled(write, arrays, jax.ShapeDtypeStruct((K, stride), dtype))(*arrays))
    want = before + np.einsum("tbk,tbg->kg", x.astype(np.longdouble), d.astype(np.longdouble))
    scale = np.abs(before) + np.einsum("tbk,tbg->kg", np.abs(x), np.abs(d))
    assert np.max(np.abs(out[:, :G] - want) / scale) < TOLERANCE[dtype]


def test_tiles_fit_the_registers():
    for lanes in widths():
        with forced(lanes) as machine:
            for rows in range(1, 40):
                for G in (1, 5, 16, 33, 100, 512, 1024):
                    chosen = tile(machine, lanes, rows, G)
                    sums = chosen.rows * chosen.vectors
                    assert 1 <= chosen.rows <= rows
                    assert chosen.vectors <= -(-G // lanes)
                    assert sums + chosen.vectors + 1 <= machine.registers


@pytest.mark.parametrize(
    ("G", "expected"),
    [
        (5, [0, 1, 2, 3, 5, 6, 7, 8, 4, 0, 9, 0]),
        (4, [0, 1, 2, 3, 4, 5, 6, 7]),
        (3, [0, 1, 2, 0, 3, 4, 5, 0]),
        (1, [0, 0, 1, 0]),
    ],
)
def test_weights_are_packed_in_panels_of_columns(G, expected):
    """Two weights, of K = 2 rows, in panels of two vectors of two numbers each."""
    kind = Type("float", 2)
    weights = np.arange(2 * 2 * G, dtype=np.float32).reshape(2, 2, G)
    size = packed_size(2, G, 2)

    def write(code, weight, packed):
        write_packed(code, kind, Tile(1, 2), weights.shape, weight, packed)

    packed = np.asarray(compiled(write, [weights], jax.ShapeDtypeStruct((2, size), np.float32))(weights))
    np.testing.assert_array_equal(packed[0], expected)
    np.testing.assert_array_equal(
        packed[1], [number + 2 * G if number or not k else 0 for k, number in enumerate(expected)]
    )


@pytest.mark.parametrize(
    ("make", "B", "D", "H"), [(jaxseq.gru, 8, 16, 32), (jaxseq.rnn, 8, 64, 96)], ids=["gru", "rnn"]
)
def test_sums_stay_in_registers(make, B, D, H, monkeypatch):
    """No vector of a product is kept on the stack, as some were where LLVM had constants of the step to keep too."""
    texts, program = [], _call.program
    monkeypatch.setattr(_call, "program", lambda module: (found := program(module), texts.append(found.text))[0])
    cell = make(H)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D))
    xs = jax.ShapeDtypeStruct((20, B, D), np.float32)
    jax.clear_caches()
    jax.jit(lambda params, xs: jaxseq.unroll(cell, params, xs, kernel=kernels.native)).lower(params, xs)
    (text,) = texts
    assembly = machine().target().emit_assembly(llvm().parse_assembly(text))
    products = re.findall(r"^product\d+:.*?ret", assembly, re.MULTILINE | re.DOTALL)
    assert products
    stored = {64: r"%zmm\d+, [-0-9]*\(%rsp\)", 32: r"%ymm\d+, [-0-9]*\(%rsp\)", 16: r"(str|stp)\s+q\d+, .*\[sp"}
    assert not re.findall(stored[machine().vector_bytes], "".join(products))
