"""What theory says of gradients through time, seen by the diagnostics (Bengio et al. 1994; Pascanu et al. 2013)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import diagnostics

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 100, 2, 3, 6
READOUT = np.random.default_rng(1).normal(size=H)
AWAY = T - np.arange(T)  # the steps from the carry that enters step t to the last output


def linear(x):
    return x


def inputs():
    return np.random.default_rng(0).normal(size=(T, B, D))


@functools.cache
def initial(cell):
    """Initial params, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(lambda key: cell.init(key, D))(jax.random.key(0)))


@functools.partial(jax.jit, static_argnums=0)
def norms_of(cell, params, xs):
    return diagnostics.gradient_norms(cell, params, xs, last)


@functools.partial(jax.jit, static_argnums=0)
def spectra(cell, params, xs):
    """Singular values of the products of Jacobians, and Lyapunov exponents."""
    jacobians = diagnostics.jacobians(cell, params, xs)
    return diagnostics.jacobian_singular_values(jacobians), diagnostics.lyapunov_exponents(jacobians)


@functools.partial(jax.jit, static_argnums=0)
def exponents_of(cell, params, xs, carry):
    return diagnostics.lyapunov_exponents(diagnostics.jacobians(cell, params, xs, carry))


def rnn(scale, activation=jnp.tanh):
    """An RNN whose recurrent weights are `scale` times the orthogonal initial ones: all singular values are `scale`."""
    cell = jaxseq.rnn(H, activation=activation)
    params = initial(cell)
    return cell, params._replace(w_h=scale * params.w_h)


def last(ys):
    return jnp.sum(ys[-1] @ READOUT)


def test_a_contracting_rnn_forgets_exponentially():
    """|tanh'| ≤ 1, so each step back shrinks the gradient to at most ‖W_h‖ = 0.5 of it."""
    cell, params = rnn(0.5)
    norms = np.asarray(norms_of(cell, params, inputs()))
    bound = np.linalg.norm(READOUT) * 0.5**AWAY
    assert np.all(norms > 0)
    assert np.all(norms <= bound[:, None])
    singular_values, exponents = map(np.asarray, spectra(cell, params, inputs()[:, 0]))
    assert np.all(singular_values[:, 0] <= 0.5 ** np.arange(1.0, T + 1))
    assert exponents[0] <= np.log(0.5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5], ids=["vanishes", "is kept", "explodes"])
def test_the_gradient_of_a_linear_rnn_with_scaled_orthogonal_weights(scale):
    """It vanishes, keeps its norm or explodes, by exactly the scale at each step, in every direction."""
    cell, params = rnn(scale, linear)
    norms = norms_of(cell, params, inputs())
    np.testing.assert_allclose(norms, np.linalg.norm(READOUT) * np.stack([scale**AWAY] * B, 1), rtol=1e-12)
    singular_values, exponents = spectra(cell, params, inputs()[:, 0])
    powers = np.stack([scale ** np.arange(1.0, T + 1)] * H, axis=1)
    np.testing.assert_allclose(singular_values, powers, rtol=1e-12)
    np.testing.assert_allclose(exponents, [np.log(scale)] * H, rtol=1e-12, atol=1e-14)


def test_a_tanh_rnn_with_the_default_orthogonal_weights_keeps_small_signals():
    """At small inputs tanh' ≈ 1 and the norm is nearly kept; a saturated tanh loses it in spite of the weights."""
    cell, params = rnn(1.0)
    small, large = (np.asarray(norms_of(cell, params, scale * inputs()))[0] for scale in (1e-3, 10))
    assert np.all(small > 0.99 * np.linalg.norm(READOUT))
    assert np.all(large < 1e-6 * np.linalg.norm(READOUT))


def test_a_tanh_rnn_with_large_weights_is_chaotic():
    """Without inputs it contracts for a scale below 1 and is chaotic for a large one (Sompolinsky et al. 1988)."""
    xs = np.zeros((1000, D))
    generator = np.random.default_rng(0)
    exponents = []
    for scale in (0.7, 4.0):
        w_h = scale * generator.normal(size=(40, 40)) / 40**0.5
        params = jaxseq.RnnParams(np.zeros((D, 40)), w_h, np.zeros(40))
        exponents.append(np.asarray(exponents_of(jaxseq.rnn(40), params, xs, generator.normal(size=40)))[0])
    assert exponents[0] < -0.1
    assert exponents[1] > 0.1


def lstm(forget_bias, scale):
    """An LSTM at its initial weights, those of the inputs times 0.1 and the recurrent ones times `scale`."""
    params = initial(jaxseq.lstm(H, forget_bias=forget_bias))
    return jaxseq.lstm(H), params._replace(w_x=0.1 * params.w_x, w_h=scale * params.w_h)


@functools.partial(jax.jit, static_argnums=0)
def gradients_and_traces(cell, params, xs):
    return diagnostics.carry_gradients(cell, params, xs, last).c, diagnostics.gate_traces(cell, params, xs)


def test_the_memory_of_an_lstm_carries_the_gradient_by_its_forget_gates():
    """Without recurrent weights ∂L/∂c_{t-1} is exactly ∂L/∂c_T Π f; with small ones nearly so."""
    for scale, tolerance in ((0.0, 1e-12), (1e-3, 0.2)):
        cell, params = lstm(3.0, scale)
        gradients, traces = jax.tree.map(np.asarray, gradients_and_traces(cell, params, inputs()))
        products = np.cumprod(traces["f"][::-1], axis=0)[::-1]
        at_last = READOUT * traces["o"][-1] * (1 - traces["tanh_c"][-1] ** 2)
        np.testing.assert_allclose(gradients / (at_last * products), np.ones((T, B, H)), rtol=tolerance)


def test_the_forget_bias_sets_how_far_an_lstm_remembers():
    """σ(3) = 0.95 and σ(0) = 0.5: after 100 steps the gradients are more than 20 orders of magnitude apart."""
    far, near = (np.asarray(norms_of(*lstm(forget_bias, 0.01), inputs()).c)[0] for forget_bias in (3.0, 0.0))
    assert np.all(far > 1e-4)
    assert np.all(near < 1e-24 * np.min(far))


def test_an_lstm_remembers_where_an_rnn_forgets():
    """Over the same 100 steps, with recurrent weights of spectral norm 0.5 in the RNN and in each gate of the LSTM."""
    of_lstm = np.asarray(norms_of(*lstm(3.0, 0.5), inputs()).c)[0]
    of_rnn = np.asarray(norms_of(*rnn(0.5), inputs()))[0]
    assert np.all(of_lstm > 1e20 * of_rnn)


def test_forget_gates_that_stay_open_are_right_saturated():
    cell, params = lstm(5.0, 0.01)
    f = gradients_and_traces(cell, params, inputs())[1]["f"]
    left, right = diagnostics.saturation(f)
    np.testing.assert_array_equal(left, np.zeros(H))
    np.testing.assert_array_equal(right, np.ones(H))
