"""What `stack` and `residual` are beside the laws of test_contract: sizes, structure and errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import residual, stack
from tests import zoo
from tests.untyped import untyped

KEY = jax.random.key(0)


def test_params_and_carry_are_tuples_and_each_layer_has_its_own():
    cheap = lambda key, shape, dtype=None: jnp.zeros(shape, dtype)
    lstm, gru = jaxseq.lstm(4, recurrent_init=cheap), jaxseq.gru(3, recurrent_init=cheap)
    net = stack(lstm, lstm, gru)

    @jax.jit
    def start():
        params = net.init(KEY, 4)
        return params, net.carry(params, (2,))

    params, carry = start()
    assert [type(layer).__name__ for layer in params] == ["LstmParams", "LstmParams", "GruParams"]
    assert params[2].w_x.shape == (4, 9)
    assert np.any(np.asarray(params[0].w_x) != np.asarray(params[1].w_x))
    assert [leaf.shape for leaf in jax.tree.leaves(carry)] == [(2, 4)] * 4 + [(2, 3)]
    assert net.size == 3


def test_same_layers_same_object():
    assert stack(jaxseq.lstm(4), jaxseq.gru(3)) is stack(jaxseq.lstm(4), jaxseq.gru(3))
    assert residual(jaxseq.gru(3)) is residual(jaxseq.gru(3))


def test_one_layer_is_the_cell():
    cell = jaxseq.gru(4)
    params, xs = zoo.params_of(cell, 3), np.random.default_rng(1).normal(size=(5, 2, 3)).astype(np.float32)
    (carry,), ys = jaxseq.unroll(stack(cell), (params,), xs)
    zoo.assert_close((carry, ys), jaxseq.unroll(cell, params, xs), 0)


def test_every_layer_is_run_by_the_kernel_that_was_chosen():
    seen = []

    def kernel(cell, params, carry, xs, *, reverse=False):
        seen.append((cell.size, reverse))
        return jaxseq.kernels.scan(cell, params, carry, xs, reverse=reverse)

    net = stack(jaxseq.gru(4), jaxseq.bidirectional(jaxseq.rnn(3)), residual(jaxseq.lstm(6)))
    jaxseq.unroll(net, zoo.params_of(net, 2), jnp.ones((3, 2)), kernel=kernel)
    assert seen == [(4, False), (3, False), (3, True), (6, False)]


def test_residual_adds_x_on_real_steps_only():
    net = residual(jaxseq.gru(3))
    params = zoo.params_of(net, 3)
    xs = np.array([[1.0] * 3] * 2 + [[np.nan] * 3] * 2, np.float32)
    mask = np.array([True, True, False, False])
    ys, inner = (np.asarray(jaxseq.unroll(each, params, xs, mask=mask)[1]) for each in (net, jaxseq.gru(3)))
    np.testing.assert_array_equal(ys[:2], inner[:2] + 1)
    np.testing.assert_array_equal(ys[2:], 0)


def test_errors():
    with pytest.raises(ValueError, match=r"`cells` must be at least one cell; got none"):
        stack()
    with pytest.raises(TypeError, match=re.escape("Call it: lstm(256)")):
        stack(jaxseq.lstm(3), untyped(jaxseq.lstm))
    for cells in ([jaxseq.lstm(3)], (jaxseq.lstm(3), jaxseq.gru(3))):
        with pytest.raises(TypeError, match=r"Write stack\(\*cells\)"):
            stack(untyped(cells))
    with pytest.raises(TypeError, match=r"must be a jaxseq.Cell"):
        residual(untyped(3))
    with pytest.raises(ValueError, match=r"x must have the cell's 4 features; got 3"):
        residual(jaxseq.gru(4)).init(KEY, 3)
    net = residual(jaxseq.gru(4))
    with pytest.raises(ValueError, match=r"x must have the cell's 4 features; got 3"):
        jaxseq.unroll(net, zoo.params_of(net, 4), jnp.ones((5, 3)))


def test_a_stack_of_another_depth_is_not_accepted():
    net = stack(jaxseq.gru(4), jaxseq.gru(4))
    params = zoo.params_of(net, 3)
    with pytest.raises(ValueError, match=r"`params` must be what cell.init"):
        jaxseq.unroll(net, params[:1], jnp.ones((5, 3)))
    with pytest.raises(ValueError, match=r"`carry` must be like cell.carry"):
        jaxseq.unroll(net, params, jnp.ones((5, 3)), net.carry(params)[0])
