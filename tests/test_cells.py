"""Layouts, defaults and identity of the stock cells; their numbers are in test_contract and test_equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq

KEY = jax.random.key(0)


def test_same_options_same_object():
    assert jaxseq.lstm(7) is jaxseq.lstm(size=7, peephole=None)
    assert jaxseq.lstm(7, forget_bias=1) is jaxseq.lstm(np.int64(7), candidate=jnp.tanh)
    assert jaxseq.gru(7) is jaxseq.gru(7, reset_after=True, update_writes=np.False_)
    assert jaxseq.rnn(7) is jaxseq.rnn(7, activation=jnp.tanh)
    assert jaxseq.kernels.remat(5) is jaxseq.kernels.remat(segment=5)
    assert jaxseq.lstm(7) is not jaxseq.lstm(8)
    assert jaxseq.lstm(7) != jaxseq.lstm(7, peephole="new")


@pytest.mark.parametrize(
    ("cell", "shapes"),
    [
        (jaxseq.rnn(4), {"w_x": (3, 4), "w_h": (4, 4), "b": (4,)}),
        (jaxseq.lstm(4), {"w_x": (3, 16), "w_h": (4, 16), "b": (16,), "w_c": None, "w_p": None}),
        (jaxseq.lstm(4, peephole="new"), {"w_x": (3, 16), "w_h": (4, 16), "b": (16,), "w_c": (3, 4), "w_p": None}),
        (jaxseq.gru(4), {"w_x": (3, 12), "w_h": (4, 12), "b": (12,), "b_hn": (4,)}),
        (jaxseq.gru(4, reset_after=False), {"w_x": (3, 12), "w_h": (4, 12), "b": (12,), "b_hn": None}),
    ],
    ids=["rnn", "lstm", "lstm_new", "gru", "gru_before"],
)
def test_params_layout(cell, shapes):
    params = cell.init(KEY, 3)
    assert {name: None if value is None else value.shape for name, value in params._asdict().items()} == shapes


def test_the_forget_bias_is_written_by_init_and_added_by_nothing():
    params = jaxseq.lstm(2, forget_bias=3).init(KEY, 3)
    np.testing.assert_array_equal(params.b, [0, 0, 3, 3, 0, 0, 0, 0])
    xs = jnp.ones((4, 1, 3))
    with_bias = jaxseq.unroll(jaxseq.lstm(2, forget_bias=3), params, xs)
    without = jaxseq.unroll(jaxseq.lstm(2, forget_bias=0), params, xs)
    jax.tree.map(np.testing.assert_array_equal, with_bias, without)


def test_the_initial_carry_is_zero_in_the_dtype_of_the_params():
    params = jaxseq.lstm(2).init(KEY, 3, jnp.bfloat16)
    carry = jaxseq.lstm(2).carry(params, (5, 6))
    assert isinstance(carry, jaxseq.LstmCarry)
    assert carry.h.shape == carry.c.shape == (5, 6, 2)
    assert carry.c.dtype == jnp.bfloat16
    assert not np.any(carry.h)


def test_a_cell_is_static_under_jit():
    assert jax.tree.leaves(jaxseq.lstm(4)) == []
    cell = jaxseq.gru(4)
    params = cell.init(KEY, 3)
    _, ys = jax.jit(jaxseq.unroll)(cell, params, jnp.ones((5, 2, 3)))
    _, want = jaxseq.unroll(cell, params, jnp.ones((5, 2, 3)))
    np.testing.assert_allclose(ys, want, rtol=1e-6)


@pytest.mark.parametrize("factory", [jaxseq.rnn, jaxseq.lstm, jaxseq.gru])
def test_the_initial_carry_can_be_donated(factory):
    cell = factory(4)
    params = cell.init(KEY, 3)
    step = jax.jit(lambda carry, x: jaxseq.step(cell, params, carry, x), donate_argnums=0)
    _, y = step(cell.carry(params, (2,)), jnp.ones((2, 3)))
    assert np.all(np.isfinite(y))
