"""Linear cells where other cells go: nets, streams, files, 16 bits, training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxseq
from jaxseq import nn, train
from tests import zoo

T, B, D = 12, 3, 4
CELLS = {
    "lru": jaxseq.lru(4, state=6),
    "s5": jaxseq.s5(4, state=6),
    "min_gru": jaxseq.min_gru(4),
    "min_lstm": jaxseq.min_lstm(4),
    "rg_lru": jaxseq.rg_lru(4, heads=2),
    "mamba": jaxseq.mamba(4, state=3),
    "mamba2": jaxseq.mamba2(4, heads=2, state=3),
    "gla": jaxseq.gla(4, heads=2, key_size=3),
    "gated_delta_net": jaxseq.gated_delta_net(4, heads=2, key_size=3),
    "mlstm": jaxseq.mlstm(4, heads=2),
}
DELTA_NET = jaxseq.gated_delta_net(4, heads=1, key_size=2, gated=False)
DEEP = jaxseq.stack(*CELLS.values(), DELTA_NET, jaxseq.causal_conv(4))  # all of them, one on the other
run_deep = jax.jit(functools.partial(jaxseq.unroll, DEEP))


@functools.cache
def params_of(net, dtype=None):
    return zoo.params_of(net, D, dtype)


def inputs():
    return np.random.default_rng(0).normal(size=(T, B, D)).astype(np.float32)


@pytest.mark.learn
def test_a_stack_of_all_is_streamed_as_unrolled():
    params, xs = params_of(DEEP), inputs()
    carry, want = run_deep(params, xs, DEEP.carry(params, (B,)))
    *_, (last, _) = chunks = list(jaxseq.stream(DEEP, params, [xs[:5], xs[5:10], xs[10:]]))
    np.testing.assert_allclose(np.concatenate([ys for _, ys in chunks]), want, rtol=1e-4, atol=1e-5)
    zoo.assert_close(last, carry, 1e-4)


@pytest.mark.learn
def test_what_is_saved_comes_back_to_the_bit(tmp_path):
    """Params and carries, complex numbers and None among them, and a stream goes on from there."""
    params, xs = params_of(DEEP), inputs()
    carry, _ = run_deep(params, xs, DEEP.carry(params, (B,)))
    train.save(tmp_path / "model", {"params": params, "carry": carry})
    like = jax.eval_shape(lambda: {"params": DEEP.init(jax.random.key(0), D), "carry": DEEP.carry(params, (B,))})
    stored = train.load(tmp_path / "model", like).tree
    assert jax.tree.structure(stored) == jax.tree.structure({"params": params, "carry": carry})
    for got, want in zip(jax.tree.leaves(stored), jax.tree.leaves({"params": params, "carry": carry}), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(run_deep(stored["params"], xs, stored["carry"])[1], run_deep(params, xs, carry)[1])


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["lru", "rg_lru", "gated_delta_net", "mlstm"])
def test_in_16_bits_states_stay_wide(name):
    """Also as a carry that is learned, and by `step`; a thousand small writes add up where 16 bits would lose them."""
    for net in (CELLS[name], jaxseq.learned_carry(CELLS[name])):
        params, xs = params_of(net, jnp.bfloat16), inputs().astype(jnp.bfloat16)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
        carry, ys = jaxseq.unroll(net, params, xs)
        stepped, y = jaxseq.step(net, params, None, xs[0])
        assert ys.dtype == y.dtype == jnp.bfloat16
        wide = {jnp.dtype(jnp.complex64 if name == "lru" else jnp.float32)}
        assert {leaf.dtype for leaf in jax.tree.leaves((carry, stepped))} == wide


def test_small_writes_add_up_in_16_bits():
    cell = jaxseq.min_gru(1)
    params = jaxseq.MinGruParams(jnp.zeros((1, 2), jnp.bfloat16), jnp.array([-7.0, 1.0], jnp.bfloat16))
    carry, _ = jaxseq.unroll(cell, params, jnp.ones((1000, 1), jnp.bfloat16))
    z = 1 / (1 + np.exp(7))
    np.testing.assert_allclose(carry, 1 - (1 - z) ** 1000, rtol=1e-4)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["lru", "gated_delta_net"])
def test_a_model_of_nn_and_its_mirror(name):
    """In a model, in both directions, with params in float32 and bfloat16 where they are used."""
    from flax import nnx

    net = jaxseq.bidirectional(CELLS[name], merge="sum")
    model = nn.SequenceTagger(net, D, 5, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    tags = model(jnp.ones((B, T, D)), mask=jnp.ones((B, T), bool))
    assert tags.shape == (B, T, 5)
    assert np.all(np.isfinite(np.asarray(tags, np.float32)))


@pytest.mark.some(0, learn=4)
@pytest.mark.parametrize("name", CELLS)
def test_each_learns_to_remember(name):
    """The sign of the first input, asked for after 7 steps of noise; from what `init` draws."""
    net = jaxseq.stack(CELLS[name], jaxseq.min_gru(8))
    params = {"net": net.init(jax.random.key(1), D), "w": jnp.zeros(8)}
    adam = optax.adam(2e-2)

    def loss(params, key):
        xs = jax.random.normal(key, (8, 64, D))
        xs = xs.at[0, :, 0].set(jnp.sign(xs[0, :, 0]) * 2).at[1:].multiply(0.3)
        _, ys = jaxseq.unroll(net, params["net"], xs)
        logits = ys[-1] @ params["w"]
        labels = xs[0, :, 0] > 0
        return optax.sigmoid_binary_cross_entropy(logits, labels).mean(), jnp.mean((logits > 0) == labels)

    @jax.jit
    def fit(params):
        def step(state, key):
            params, opt_state = state
            gradients, right = jax.grad(loss, has_aux=True)(params, key)
            updates, opt_state = adam.update(gradients, opt_state)
            return (optax.apply_updates(params, updates), opt_state), right

        return jax.lax.scan(step, (params, adam.init(params)), jax.random.split(jax.random.key(2), 400))[1]

    assert np.mean(fit(params)[-20:]) > 0.97
