"""Quantisation and pruning against NumPy, and the error they may make against the bound that follows from s / 2."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxseq
from jaxseq.train import compression
from jaxseq.train.compression import Quantized, dequantize, keep_zeros, masks, prune, quantize, size, sparse_size
from jaxseq.train.groups import by_path
from tests import compiled
from tests.train.test_groups import trees
from tests.untyped import untyped

TINY = float(np.finfo(np.float32).tiny)
matrices = hnp.arrays(
    np.float32,
    (4, 3),
    elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1e-40, 1e-37, 1.0]),
)


@settings(max_examples=60)
@given(matrices, st.booleans())
def test_quantised_weights_are_within_half_a_scale(w, row):
    small = quantize({"w": jnp.asarray(w)}, rows="w" if row else None)["w"]
    largest = np.abs(w.astype(np.float64)).max(axis=1 if row else 0, keepdims=True)
    np.testing.assert_allclose(small.scale, np.where(largest / 127 < TINY, 0, largest / 127), rtol=1e-6, atol=TINY)
    assert small.values.dtype == jnp.int8
    assert np.abs(np.asarray(small.values, int)).max() <= 127
    error = np.abs(w - np.asarray(dequantize({"w": small})["w"], np.float64))
    # the product is rounded to float32, and what has no scale is below 127 of the smallest floats
    assert np.all(error <= np.asarray(small.scale, np.float64) / 2 + 1e-6 * largest + 128 * TINY)


def test_values_on_the_grid_come_back():
    w = jnp.array([[127.0, 0.0, -2.0], [-64.0, 0.0, 254.0], [1.0, -0.0, 12.0]])
    small = quantize({"w": w})["w"]
    np.testing.assert_array_equal(small.values, [[127, 0, -1], [-64, 0, 127], [1, 0, 6]])
    np.testing.assert_array_equal(small.scale, [[1, 0, 2]])
    np.testing.assert_array_equal(dequantize({"w": small})["w"], w)


def test_a_scale_a_row_keeps_rare_tokens():
    table = jnp.array([[100.0, 50.0], [0.01, 0.02]])
    by_row, by_column = (dequantize(quantize({"e": table}, rows=rows))["e"] for rows in ("e", None))
    np.testing.assert_allclose(by_row, table, rtol=1e-2)
    assert not np.any(np.asarray(by_column)[1])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_dtypes_come_back(dtype, x64):
    w = jnp.asarray(np.random.default_rng(0).normal(size=(64, 32)), dtype)
    small = quantize([w])
    again = dequantize(small)[0]
    assert small[0].scale.dtype == again.dtype == dtype
    scale = np.asarray(small[0].scale, np.float64)
    exact = np.asarray(small[0].values) * scale
    assert np.all(np.abs(np.asarray(w, np.float64) - exact) <= scale * (0.5 + 1e-12))
    np.testing.assert_allclose(np.asarray(again, np.float64), exact, rtol=float(jnp.finfo(dtype).eps))


def test_any_tree_and_where():
    for params in trees().values():
        small = quantize(params)
        again = dequantize(small)
        assert jax.tree.structure(again) == jax.tree.structure(params)
        for w, got in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
            w, got = np.asarray(w), np.asarray(got)
            bound = np.abs(w).max(axis=0) / 254 if w.ndim == 2 else 0
            assert np.all(np.abs(w - got) <= bound * 1.0001)
        bytes_ = sum(w.size + 4 * w.shape[1] if w.ndim == 2 else 4 * w.size for w in jax.tree.leaves(params))
        assert size(small) == bytes_ < size(params)
    some = quantize(trees()["tuple"], where="w_h")
    assert isinstance(some.w_h, Quantized)
    assert isinstance(some.w_x, jax.Array)


def test_a_quantised_cell_errs_within_the_bound():
    """|h − ĥ| ≤ e_t = |x| s_x / 2 + |h| s_h / 2 + e_{t−1} |Ŵ_h|, since tanh stretches nothing."""
    rng = np.random.default_rng(0)
    w_x, w_h = rng.normal(size=(8, 16)) / 8, rng.normal(size=(16, 16)) / 8
    xs = rng.normal(size=(5, 4, 8)).astype(np.float32)
    small = quantize(jaxseq.RnnParams(*(jnp.asarray(w, jnp.float32) for w in (w_x, w_h, np.zeros(16)))))
    run = jax.jit(lambda small, xs: jaxseq.unroll(jaxseq.rnn(16), dequantize(small), xs)[1]).lower(small, xs).compile()
    # what the program is handed, and so what lies in memory between calls, is int8
    assert compiled.memory(run).argument_size_in_bytes == size(small) + xs.nbytes

    s_x, s_h = (np.asarray(matrix.scale, np.float64) for matrix in small[:2])
    stretch = np.abs(np.asarray(small.w_h.values) * s_h)
    h, error = np.zeros((4, 16)), np.zeros((4, 16))
    for x, y in zip(np.asarray(xs, np.float64), np.asarray(run(small, xs)), strict=True):
        inputs, seen = (np.abs(a).sum(axis=-1, keepdims=True) for a in (x, h))
        error = inputs * s_x / 2 + seen * s_h / 2 + error @ stretch
        h = np.tanh(x @ w_x + h @ w_h)
        assert np.all(np.abs(y - h) <= error + 1e-6)
    assert error.max() < 0.2  # of outputs within ±1


def test_a_quantised_tree_is_saved_as_arrays(tmp_path):
    small = quantize(trees()["tuple"])
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "small", small)
        checkpointer.wait_until_finished()
        again = checkpointer.restore(tmp_path / "small", jax.tree.map(jnp.zeros_like, small))
    assert jax.tree.structure(again) == jax.tree.structure(small)
    for got, want in zip(jax.tree.leaves(again), jax.tree.leaves(small), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def without_smallest(w, count):
    """The plain, slow twin: one weight at a time, the first of the smallest."""
    w = np.array(w)
    for _ in range(count):
        left = [i for i in range(w.size) if w.flat[i] != 0]
        if left:
            w.flat[min(left, key=lambda i: abs(w.flat[i]))] = 0
    return w


@pytest.mark.learn
@settings(max_examples=25)
@given(
    hnp.arrays(np.int8, 12, elements=st.integers(-3, 3)),
    st.floats(0, 1, exclude_max=True),
)
def test_pruned_are_the_smallest_of_equal_ones_the_first(values, sparsity):
    w = values.astype(np.float32)
    count = max(0, round(sparsity * 12) - int(np.sum(w == 0)))
    flat = without_smallest(w, count)
    one = prune({"w": jnp.asarray(w.reshape(3, 4)), "b": jnp.ones(2)}, sparsity)
    np.testing.assert_array_equal(one["w"], flat.reshape(3, 4))
    np.testing.assert_array_equal(one["b"], [1, 1])
    both = prune(
        [jnp.asarray(w[:8].reshape(2, 4)), jnp.ones(3), jnp.asarray(w[8:].reshape(4, 1))], sparsity, scope="global"
    )
    np.testing.assert_array_equal(both[0], flat[:8].reshape(2, 4))
    np.testing.assert_array_equal(both[1], [1, 1, 1])
    np.testing.assert_array_equal(both[2], flat[8:].reshape(4, 1))


def test_prune_any_tree():
    for params in trees().values():
        for scope in ("leaf", "global"):
            pruned = prune(params, 0.75, scope=scope)
            assert jax.tree.structure(pruned) == jax.tree.structure(params)
            sizes = [w.size for w in jax.tree.leaves(params) if w.ndim == 2]
            zeros = [int(np.sum(np.asarray(w) == 0)) for w in jax.tree.leaves(pruned) if w.ndim == 2]
            assert sum(zeros) == round(0.75 * sum(sizes))
            assert scope == "global" or zeros == [0.75 * n for n in sizes]
    some = prune(trees()["tuple"], 0.5, where="w_h")
    assert np.sum(np.asarray(some.w_h) == 0) == 18
    assert np.all(np.asarray(some.w_x))


def test_zeros_stay_zero_in_fine_tuning():
    params = trees()["tuple"]._replace(b=jnp.asarray(np.zeros(12, np.float32)))
    pruned = prune(params, 0.8)
    free = masks(pruned)
    np.testing.assert_array_equal(free.w_h, np.asarray(pruned.w_h) != 0)
    assert np.asarray(free.b).all()
    optimizer = optax.chain(optax.adamw(0.1, weight_decay=0.1), keep_zeros())
    plain = optax.adamw(0.1, weight_decay=0.1)
    gradients = jax.tree.map(np.ones_like, jax.tree.map(np.asarray, params))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    start = jax.jit(optimizer.init)
    trained, state = pruned, start(pruned)
    for _ in range(3):
        trained, state = step(trained, state)
    for before, after in zip((pruned.w_x, pruned.w_h), (trained.w_x, trained.w_h), strict=True):
        np.testing.assert_array_equal(np.asarray(before) == 0, np.asarray(after) == 0)
    assert np.all(np.asarray(trained.b) < -0.2)
    updates, _ = jax.jit(optimizer.update)(gradients, start(pruned), pruned)
    expected, _ = jax.jit(plain.update)(gradients, jax.jit(plain.init)(pruned), pruned)
    for got, want, mask in zip(*map(jax.tree.leaves, (updates, expected, free)), strict=True):
        np.testing.assert_array_equal(got, np.where(mask, want, 0))
    updates, _ = untyped(keep_zeros(where="w_h").update)(gradients, optax.EmptyState(), pruned)
    assert np.all(np.asarray(updates.w_x) == 1)
    np.testing.assert_array_equal(updates.w_h, free.w_h)


def test_sizes():
    w = np.zeros((10, 10), np.float32)
    w[0, :3] = 1
    params = {"w": jnp.asarray(w), "b": jnp.ones(5), "n": jnp.zeros((), jnp.int8)}
    assert size(params) == 400 + 20 + 1
    assert sparse_size(params) == (3 * 4 + 13) + 20 + 1
    small = quantize(params)
    assert size(small) == (100 + 40) + 20 + 1
    assert sparse_size(small) == (3 + 13) + (3 * 4 + 2) + 20 + 1
    zeros = jax.tree.map(jnp.zeros_like, by_path(params, {"w": 0.0}, default=0.0))
    assert sparse_size(zeros) == 3


def test_errors():
    params = trees()["tuple"]
    for make in (quantize, lambda params, **k: prune(params, 0.5, **k)):
        with pytest.raises(ValueError, match="`params` must hold a floating matrix to compress; got none"):
            make({"b": jnp.zeros(3)})
        for bad in (jnp.nan, jnp.inf):
            with pytest.raises(ValueError, match=r"`params` must be finite; got NaN or inf in a matrix of \(3, 12\)"):
                make(params._replace(w_h=params.w_h.at[1, 2].set(bad)))
        with pytest.raises(ValueError, match=r"`where` must select floating matrices .*; b is float32 \(12,\)"):
            make(params, where="b")
    with pytest.raises(TypeError, match="`params` must not be float16, in which scales underflow"):
        quantize({"w": jnp.ones((2, 2), jnp.float16)})
    with pytest.raises(ValueError, match="`rows` must be among the matrices that `where` selects; got 'w_x' and 'w_h'"):
        quantize(params, where="w_h", rows="w_x")
    with pytest.raises(TypeError, match="`rows` must be a pattern"):
        quantize(params, rows=())
    with pytest.raises(ValueError, match=r"`sparsity` must be a rate in \[0, 1\); got 1"):
        prune(params, 1)
    with pytest.raises(ValueError, match="`scope` must be 'leaf' or 'global'; got 'layer'"):
        prune(params, 0.5, scope="layer")
    with pytest.raises(ValueError, match="keep_zeros needs `params`"):
        compression.keep_zeros().update(params, optax.EmptyState())
