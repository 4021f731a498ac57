import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import initializers

KEY = jax.random.key(0)
SHAPE = (300, 200)


@pytest.mark.parametrize(
    ("initializer", "deviation", "bound"),
    [
        (initializers.glorot_uniform(), (2 / 500) ** 0.5, (6 / 500) ** 0.5),
        (initializers.glorot_normal(), (2 / 500) ** 0.5, np.inf),
        (initializers.he_uniform(), (2 / 300) ** 0.5, (6 / 300) ** 0.5),
        (initializers.he_normal(), (2 / 300) ** 0.5, np.inf),
        (initializers.fan_in_uniform(), (1 / 900) ** 0.5, 300**-0.5),
        (initializers.scaled_normal(0.3), 0.3, np.inf),
    ],
    ids=["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "fan_in_uniform", "scaled_normal"],
)
def test_mean_deviation_and_bound(initializer, deviation, bound):
    draw = np.asarray(initializer(KEY, SHAPE, jnp.float32))
    assert draw.shape == SHAPE
    assert abs(draw.mean()) < 5 * deviation / np.sqrt(draw.size)
    np.testing.assert_allclose(draw.std(), deviation, rtol=0.01)
    assert np.abs(draw).max() <= bound
    if np.isfinite(bound):
        assert np.abs(draw).max() > 0.99 * bound


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4)], ids=str)
def test_orthogonal(shape):
    q = np.asarray(initializers.orthogonal(3.0)(KEY, shape, jnp.float32)) / 3
    small = q @ q.T if shape[0] <= shape[1] else q.T @ q
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-6)


@pytest.mark.some(1)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtypes(dtype):
    for initializer in (
        initializers.orthogonal(),
        initializers.fan_in_uniform(),
        initializers.scaled_normal(1.0),
        initializers.chrono(10),
        initializers.glorot_uniform(),
    ):
        assert initializer(KEY, (8, 8), dtype).dtype == dtype
    for factory in (jaxseq.rnn, jaxseq.lstm, jaxseq.gru):
        assert {leaf.dtype for leaf in jax.tree.leaves(factory(4).init(KEY, 3, dtype))} == {jnp.dtype(dtype)}


def test_dtype_none_is_the_default_float():
    with jax.enable_x64(True):
        assert initializers.orthogonal()(KEY, (2, 2)).dtype == jnp.float64
        assert jaxseq.lstm(4).init(KEY, 3).w_x.dtype == jnp.float64
    assert initializers.fan_in_uniform()(KEY, (2, 2)).dtype == jnp.float32
    assert jaxseq.lstm(4).init(KEY, 3).w_x.dtype == jnp.float32


def test_chrono_spreads_memories_evenly_up_to_the_longest():
    lengths = np.exp(np.asarray(initializers.chrono(100)(KEY, (20_000,), jnp.float32)))
    assert lengths.min() >= 1
    assert lengths.max() <= 99
    np.testing.assert_allclose(lengths.mean(), 50, rtol=0.02)
    np.testing.assert_allclose(lengths.std(), 98 / np.sqrt(12), rtol=0.02)


def test_per_gate_has_the_fans_of_one_gate():
    w_x, w_h = jax.jit(lambda: (jaxseq.lstm(100).init(KEY, 50).w_x, jaxseq.gru(20).init(KEY, 5).w_h))()
    bound = (6 / 150) ** 0.5
    for gate in np.split(np.asarray(w_x), 4, axis=1):
        assert 0.99 * bound < np.abs(gate).max() <= bound
    gates = np.split(np.asarray(w_h), 3, axis=1)
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(20), atol=1e-5)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


@pytest.mark.learn
def test_orthogonal_matrices_of_many_keys_are_drawn_one_by_one():
    """A batched QR on the CPU waits for threads; two in one program waited for each other's for ever, on two cores."""
    keys = jax.random.split(jax.random.key(0), 3)
    net = jaxseq.stack(jaxseq.bidirectional(jaxseq.gru(4)), jaxseq.lstm(4))
    batch = jax.jit(jax.vmap(lambda key: net.init(key, 2)))
    factors = re.findall(r":(\S+) \S+ = qr\[", str(batch.trace(keys).jaxpr))
    assert set(factors) == {"f32[4,4]"}
    alone = list(map(jax.jit(lambda key: net.init(key, 2)), keys))
    for together, *apart in zip(jax.tree.leaves(batch(keys)), *map(jax.tree.leaves, alone), strict=True):
        np.testing.assert_allclose(together, np.stack(apart), atol=1e-6)
