"""Pooling against NumPy, one row at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from tests.nn.drawn import drawn

T, H = 5, 3
YS = np.random.default_rng(0).normal(0, 1, (5, T, H)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
LAYER = drawn(nn.AttentionPool, H)


def attention_by_hand(ys):
    hidden, bias, query = map(np.asarray, jax.tree.leaves((LAYER.hidden.kernel, LAYER.hidden.bias, LAYER.query.kernel)))
    weights = np.exp(np.tanh(ys @ hidden + bias) @ query)
    return (weights / weights.sum() * ys).sum(0)


POOLS = {
    "last": (nn.last_pool, lambda ys: ys[-1]),
    "ends": (nn.ends_pool, lambda ys: np.concatenate([ys[-1], ys[0]])),
    "mean": (nn.mean_pool, lambda ys: ys.mean(0)),
    "max": (nn.max_pool, lambda ys: ys.max(0)),
    "mean_max": (nn.mean_max_pool, lambda ys: np.concatenate([ys.mean(0), ys.max(0)])),
    "attention": (LAYER, attention_by_hand),
}


@pytest.mark.parametrize("name", POOLS)
def test_it_pools_the_real_steps_and_nothing_else(name):
    pool, by_hand = POOLS[name]
    pool = jax.jit(pool)
    want = [by_hand(ys[mask]) if mask.any() else 0 * by_hand(ys) for ys, mask in zip(YS, MASK, strict=True)]
    for padding in (0.0, 9.0, np.nan, np.inf):
        got = pool(np.where(MASK[..., None], YS, np.float32(padding)), MASK)
        np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(pool(YS), [by_hand(ys) for ys in YS], atol=1e-6)
    np.testing.assert_allclose(pool(YS[1], MASK[1]), want[1], atol=1e-6)  # without batch axes
    for empty in (jax.eval_shape(pool, YS[:, :0]), jax.eval_shape(pool, YS[:, :0], MASK[:, :0])):
        assert empty.shape == np.shape(want)


@pytest.mark.parametrize("name", POOLS)
def test_padding_takes_no_gradient_and_sends_none(name):
    pool = POOLS[name][0]
    graph, state = nnx.split(pool) if name == "attention" else (None, ())

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(ys, state):
        run = pool if graph is None else nnx.merge(graph, state)
        return jnp.sum(run(ys, MASK) ** 2)

    want_ys, want_state = gradients(YS, state)
    got_ys, got_state = gradients(np.where(MASK[..., None], YS, np.nan), state)
    np.testing.assert_allclose(got_ys, want_ys, atol=1e-6)
    assert (np.asarray(got_ys)[~MASK] == 0).all()
    assert np.abs(got_ys).sum() > 1
    for got, want in zip(jax.tree.leaves(got_state), jax.tree.leaves(want_state), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_no_steps_pool_to_zeros():
    for pool, _ in POOLS.values():
        without_mask, with_mask = jax.jit(lambda ys, mask, pool=pool: (pool(ys), pool(ys, mask)))(
            YS[:, :0], MASK[:, :0]
        )
        assert not np.any(without_mask)
        assert not np.any(with_mask)


def test_errors():
    for pool, _ in POOLS.values():
        with pytest.raises(ValueError, match=r"`mask` must be bool \[B, T\] = \(5, 5\); got bool \(5, 4\)"):
            jax.eval_shape(pool, YS, MASK[:, :4])
