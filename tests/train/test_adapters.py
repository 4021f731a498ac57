"""Low-rank adapters against NumPy, and their gradients through BPTT against those of the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxseq
from jaxseq.train import adapters
from jaxseq.train.compression import quantize
from tests import zoo
from tests.train.test_groups import trees
from tests.untyped import untyped

T, B, D, H = 6, 3, 4, 5


def is_adapter(node):
    return isinstance(node, adapters.Adapter)


def filled(low_rank, seed=0):
    """The adapters with b drawn too, as after training."""
    return zoo.random_like(low_rank, seed, 1.0)


def test_the_start_is_the_identity():
    for kind, params in trees().items():
        low_rank = adapters.init(jax.random.key(0), params, 2)
        found = [leaf for leaf in jax.tree.leaves(low_rank, is_leaf=is_adapter) if is_adapter(leaf)]
        shapes = [w.shape for w in jax.tree.leaves(params) if w.ndim == 2]
        assert [(a.shape, b.shape) for a, b in found] == [((m, 2), (2, n)) for m, n in shapes], kind
        assert sum(leaf.size for leaf in jax.tree.leaves(low_rank)) == sum(2 * (m + n) for m, n in shapes)
        assert not np.array_equal(np.asarray(found[0].a)[:2], np.asarray(found[1].a)[:2])
        same = jax.tree.map(np.array_equal, adapters.apply(params, low_rank, scale=7.0), params)
        assert all(jax.tree.leaves(same))
        assert jax.tree.structure(same) == jax.tree.structure(params)


def test_apply_is_the_sum_with_the_product():
    for params in trees().values():
        low_rank = filled(adapters.init(jax.random.key(0), params, 2))
        parts = iter(x for x in jax.tree.leaves(low_rank, is_leaf=is_adapter) if is_adapter(x))
        merged = jax.jit(adapters.apply, static_argnames="scale")(params, low_rank, scale=0.5)
        for w, got in zip(jax.tree.leaves(params), jax.tree.leaves(merged), strict=True):
            expected = np.asarray(w, np.float64)
            if w.ndim == 2:
                a, b = (np.asarray(x, np.float64) for x in next(parts))
                expected = expected + 0.5 * a @ b
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_where_and_none_elsewhere():
    params = trees()["tuple"]
    low_rank = adapters.init(jax.random.key(0), params, 1, where="w_h")
    assert low_rank == jaxseq.LstmParams(untyped(None), low_rank.w_h, untyped(None))
    assert adapters.init(jax.random.key(0), params, 3, where=["w_x", "w_h"]).b is None
    merged = adapters.apply(params, filled(low_rank))
    assert merged.w_x is params.w_x
    assert np.linalg.matrix_rank(np.asarray(merged.w_h) - np.asarray(params.w_h), tol=1e-4) == 1


def test_deviation_and_dtype():
    params = {"w": jnp.asarray(np.zeros((400, 50)), jnp.bfloat16)}
    low_rank = adapters.init(jax.random.key(0), params, 40)["w"]
    assert low_rank.a.dtype == low_rank.b.dtype == jnp.bfloat16
    a = np.asarray(low_rank.a, np.float64)
    deviation = 400**-0.5
    assert abs(a.mean()) < 5 * deviation / np.sqrt(a.size)
    assert abs(a.std() - deviation) < 5 * deviation / np.sqrt(2 * a.size)
    wide = {"w": adapters.Adapter(*(leaf.astype(jnp.float32) for leaf in low_rank))}
    assert adapters.apply(params, wide)["w"].dtype == jnp.bfloat16


@pytest.mark.usefixtures("x64")
def test_gradients_through_bptt():
    """By the chain rule d_a = scale · d_W bᵀ and d_b = scale · aᵀ d_W, and as finite differences say."""
    draw = np.random.default_rng(0).normal
    params = jaxseq.LstmParams(*(jnp.asarray(draw(size=shape)) for shape in ((D, 4 * H), (H, 4 * H), (4 * H,))))
    low_rank = filled(adapters.init(jax.random.key(1), params, 2))
    xs = jnp.asarray(draw(size=(T, B, D)))

    def loss(params, kernel=None):
        _, ys = jaxseq.unroll(jaxseq.lstm(H), params, xs, kernel=kernel)
        return jnp.sum(jnp.sin(ys))

    def adapted(low_rank):
        return loss(adapters.apply(params, low_rank, scale=0.5))

    by_hand = jax.jit(jax.grad(adapted))(low_rank)
    assert jax.tree.structure(by_hand) == jax.tree.structure(low_rank)
    by_jax = jax.jit(jax.grad(lambda params: loss(params, jaxseq.kernels.scan)))
    whole = by_jax(jax.jit(lambda *given: adapters.apply(*given, scale=0.5))(params, low_rank))
    by_hand, low_rank = jax.tree.map(np.asarray, (by_hand, low_rank))
    for name in ("w_x", "w_h"):
        (a, b), got = getattr(low_rank, name), getattr(by_hand, name)
        d_w = np.asarray(getattr(whole, name))
        np.testing.assert_allclose(got.a, 0.5 * d_w @ b.T, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got.b, 0.5 * a.T @ d_w, rtol=1e-10, atol=1e-12)

    direction, h = jax.tree.map(np.asarray, filled(low_rank, seed=1)), 1e-5
    value = jax.jit(adapted)
    ahead, behind = (jax.tree.map(lambda x, d, s=s: x + s * h * d, low_rank, direction) for s in (1, -1))
    slope = sum(np.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (by_hand, direction)), strict=True))
    np.testing.assert_allclose((value(ahead) - value(behind)) / (2 * h), slope, rtol=1e-7)


def test_training_moves_the_adapters_alone():
    """A change of rank 2 is learnt by adapters of rank 2, and merged it is the sum of the two paths."""
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(6, 5)), jnp.float32), "b": jnp.ones(5)}
    xs = rng.normal(size=(40, 6)).astype(np.float32)
    change = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5))
    targets = xs @ (np.asarray(params["w"]) + change.astype(np.float32)) + np.asarray(params["b"])
    low_rank = adapters.init(jax.random.key(3), params, 2)
    optimizer = optax.adam(0.03)

    @jax.jit
    def step(low_rank, state):
        def loss(low_rank):
            merged = adapters.apply(params, low_rank)
            return jnp.mean((xs @ merged["w"] + merged["b"] - targets) ** 2)

        updates, state = optimizer.update(jax.grad(loss)(low_rank), state)
        return optax.apply_updates(low_rank, updates), state

    state = optimizer.init(low_rank)
    assert len(jax.tree.leaves(state)) == 1 + 2 * 2
    for _ in range(1000):
        low_rank, state = step(low_rank, state)
    (a, b), merged = low_rank["w"], adapters.apply(params, low_rank)
    a, b, whole, start = map(np.asarray, (a, b, merged["w"], params["w"]))
    np.testing.assert_allclose(whole - start, change, atol=1e-2)
    np.testing.assert_allclose(xs @ whole, xs @ start + (xs @ a) @ b, rtol=1e-4, atol=1e-4)
    assert merged["b"] is params["b"]


def test_errors():
    key, params = jax.random.key(0), trees()["tuple"]
    with pytest.raises(TypeError, match=r"`rank` must be a positive int; got 1.5"):
        adapters.init(key, params, untyped(1.5))
    with pytest.raises(ValueError, match=r"`rank` must be a positive int; got 0"):
        adapters.init(key, params, 0)
    with pytest.raises(ValueError, match=r"`rank` must be at most the shorter side .* got 4 for one of \(3, 12\)"):
        adapters.init(key, params, 4)
    with pytest.raises(ValueError, match=r"`where` must select floating matrices .*; b is float32 \(12,\)"):
        adapters.init(key, params, 2, where=["w_h", "b"])
    with pytest.raises(ValueError, match="the pattern 'w' selects no leaf"):
        adapters.init(key, params, 2, where="w")
    with pytest.raises(ValueError, match="`params` must hold a floating matrix to adapt; got none"):
        adapters.init(key, {"b": jnp.zeros(3)}, 2)
    low_rank = adapters.init(key, params, 2)
    with pytest.raises(ValueError, match=r"must have a matrix \(4, 12\) for each adapter .* got Quantized"):
        adapters.apply(quantize(params), low_rank)
    with pytest.raises(ValueError, match=r"must have a matrix \(4, 12\) for each adapter .* got \(1, 12\)"):
        adapters.apply(params._replace(w_x=params.w_x[:1]), low_rank)
