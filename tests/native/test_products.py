"""Products and gradients of weights in tiles, at every width, with nothing written beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.kernels.native._ir import Type
from jaxseq.kernels.native._machine import forced
from jaxseq.kernels.native._products import Factor, Rows, Tile, accumulate, pack, packed_size, product, tile
from tests.native.programs import SCALARS, compiled

SIZES = [(1, 1, 1), (1, 33, 5), (3, 4, 40), (5, 13, 33), (17, 32, 100)]
WIDTHS = [4, 8, 16]
TOLERANCE = {"float32": 1e-6, "float64": 2e-15}


def draw(seed, shape, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("lanes", WIDTHS)
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
            product(code, vector, tiles, rows, G, [Factor(x, K, w, K), Factor(h, 3, v, 3)], out, stride)

        packed = jax.jit(lambda *weights: [pack(weight, tiles, vector.lanes) for weight in weights])(w, v)
        assert packed[0].shape == (packed_size(K, G, vector.lanes),)
        arrays = (x, h, *packed)
        out = np.asarray(compiled(write, arrays, jax.ShapeDtypeStruct((rows, stride), dtype))(*arrays))
    wide = np.longdouble
    want = x.astype(wide) @ w.astype(wide) + h.astype(wide) @ v.astype(wide)
    scale = np.abs(x).astype(wide) @ np.abs(w) + np.abs(h) @ np.abs(v)
    assert np.max(np.abs(out[:, :G] - want) / scale) < TOLERANCE[dtype]
    np.testing.assert_array_equal(out[:, G:], 0)


@pytest.mark.parametrize("lanes", WIDTHS)
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
    for lanes in WIDTHS:
        with forced(lanes) as machine:
            for rows in range(1, 40):
                for G in (1, 5, 16, 33, 100, 512, 1024):
                    chosen = tile(machine, lanes, rows, G)
                    sums = chosen.rows * chosen.vectors
                    assert 1 <= chosen.rows <= rows
                    assert chosen.vectors <= -(-G // lanes)
                    assert sums + chosen.vectors + 1 <= machine.registers


def test_weights_are_packed_in_panels_of_columns():
    w = jnp.arange(2 * 5).reshape(2, 5)
    np.testing.assert_array_equal(pack(w, Tile(1, 2), 2), [0, 1, 2, 3, 5, 6, 7, 8, 4, 0, 9, 0])
    np.testing.assert_array_equal(pack(jnp.stack([w, w]), Tile(1, 2), 2)[1], pack(w, Tile(1, 2), 2))
