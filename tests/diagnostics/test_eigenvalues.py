"""What diagnostics know of linear cells: eigenvalues, memory lengths, gates, and complex carries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import diagnostics
from tests import zoo
from tests.reference import sigma

pytestmark = pytest.mark.usefixtures("x64")

T, B, D = 5, 2, 3
COPIES = {"mamba2": 6, "gla": 2}  # of each eigenvalue, in a Jacobian
CELLS = ("lru", "s5", "min_gru", "min_lstm", "rg_lru", "mamba", *COPIES, "gated_delta_net", "delta_net_negative")


def made(net, seed=0):
    params = zoo.params_of(net, D, seed=seed)
    return params, np.random.default_rng(seed + 1).normal(size=(T, B, D))


@pytest.mark.some(4)
@pytest.mark.parametrize("name", CELLS)
def test_they_are_those_of_the_jacobians(name):
    cell = zoo.CELLS[name].cell
    params, xs = made(cell)
    got = np.asarray(diagnostics.eigenvalues(cell, params, xs))[:, 0]
    jacobians = diagnostics.jacobians(cell, params, xs[:, 0])
    for values, jacobian in zip(got, jacobians, strict=True):
        of_each = COPIES.get(name, 1)
        if "delta" in name:  # K - 1 and 1 of the K features of a key, in two columns
            of_each = np.tile([4, 2], len(values))
        values = np.repeat(values.ravel(), of_each)
        if np.iscomplexobj(values):  # in real numbers a matrix has the conjugates too
            values = np.concatenate([values, values.conj()])
        found = np.linalg.eigvals(jacobian)
        assert found.shape == values.shape
        assert all(np.abs(found - value).min() < 1e-7 for value in values)
        np.testing.assert_allclose(np.sum(found), np.sum(values), atol=1e-10)


def test_of_the_mlstm_they_are_its_forget_gates():
    cell = zoo.CELLS["mlstm"].cell
    params, xs = made(cell)
    want = sigma(xs @ np.asarray(params.w_f) + np.asarray(params.b_f))
    np.testing.assert_allclose(diagnostics.eigenvalues(cell, params, xs), want, rtol=1e-12)


@pytest.mark.parametrize("name", ["min_gru", "gla", "gated_delta_net", "mlstm"])
def test_padding_keeps_all_and_a_reset_nothing(name):
    cell = zoo.CELLS[name].cell
    params, xs = made(cell)
    mask, reset = np.ones((T, B), bool), np.zeros((T, B), bool)
    mask[3, 0], reset[2, 1] = False, True
    plain = np.array(diagnostics.eigenvalues(cell, params, xs))
    plain[3, 0], plain[2, 1] = 1, 0
    got = diagnostics.eigenvalues(cell, params, np.where(mask[..., None], xs, np.nan), mask=mask, reset=reset)
    np.testing.assert_allclose(got, plain, rtol=1e-12)


def test_a_net_has_those_of_its_cells_in_their_places():
    net = jaxseq.stack(jaxseq.min_gru(4), jaxseq.bidirectional(jaxseq.lru(2)))
    params, xs = made(net)
    first, both = diagnostics.eigenvalues(net, params, xs)
    (_, ys) = jaxseq.unroll(jaxseq.min_gru(4), params[0], xs)
    np.testing.assert_array_equal(first, diagnostics.eigenvalues(jaxseq.min_gru(4), params[0], xs))
    np.testing.assert_array_equal(both.backward, diagnostics.eigenvalues(jaxseq.lru(2), params[1].backward, ys))


def test_memory_lengths_are_what_is_left_after_them():
    values = np.random.default_rng(0).uniform(0.2, 0.9, (T, B, 3)) * np.exp(1j)
    mask = np.ones((T, B), bool)
    mask[2:, 1] = False
    lengths = np.asarray(diagnostics.memory_lengths(values, mask=mask))
    left = np.prod(np.abs(values[mask]), axis=0)
    np.testing.assert_allclose(np.exp(-mask.sum() / lengths), left, rtol=1e-12)
    ends = np.stack([np.full((T, B), 1.0), np.full((T, B), 0.5)], axis=-1)
    ends[0, 0, 1] = 0
    np.testing.assert_array_equal(diagnostics.memory_lengths(ends), [np.inf, 0])
    np.testing.assert_array_equal(diagnostics.memory_lengths(ends, mask=np.zeros((T, B), bool)), np.inf)
    np.testing.assert_allclose(diagnostics.memory_lengths(np.full((T, B, 1), np.exp(0.1))), [-10])


def test_gate_traces_are_the_elements():
    cell = jaxseq.min_gru(4)
    params, xs = made(cell)
    mask, reset = np.ones((T, B), bool), np.zeros((T, B), bool)
    mask[3, 0], reset[2, 1] = False, True
    u_z, u_n = np.split(xs @ np.asarray(params.w_x) + np.asarray(params.b), 2, axis=-1)
    keep, write = 1 - sigma(u_z), sigma(u_z) * u_n
    keep[2, 1], keep[3, 0], write[3, 0] = 0, 0, 0
    traces = diagnostics.gate_traces(cell, params, xs, mask=mask, reset=reset)
    assert traces.keys() == {"a", "b"}
    np.testing.assert_allclose(traces["a"], keep, rtol=1e-12)
    np.testing.assert_allclose(traces["b"], write, rtol=1e-12)
    net = jaxseq.stack(jaxseq.lru(2), jaxseq.gla(4, heads=2, key_size=3), jaxseq.gru(3))
    params, xs = made(net)
    lru, gla, gru = diagnostics.gate_traces(net, params, xs, reset=reset)
    assert lru["a"].shape == (T, B, 2)
    assert {name: leaf.shape[2:] for name, leaf in gla.items()} == {"log_decay": (6,), "k": (6,), "v": (4,), "q": (6,)}
    assert gru["z"].shape == (T, B, 3)


def test_the_gradient_by_a_complex_carry():
    """By finite differences along both axes, at the first step; and its norm is of both."""
    cell = zoo.CELLS["lru"].cell
    params, xs = made(cell)
    start = zoo.random_like(cell.carry(params, (B,)), 3)
    gradients = np.asarray(diagnostics.carry_gradients(cell, params, xs, lambda ys: jnp.sum(ys**2), start))
    loss = jax.jit(lambda start: jnp.sum(jaxseq.unroll(cell, params, xs, start)[1] ** 2))
    for direction in (1e-6, 1e-6j):
        nudge = np.zeros(start.shape, complex)
        nudge[1, 2] = direction
        slope = (loss(start + nudge) - loss(start - nudge)) / 2
        np.testing.assert_allclose(slope, (gradients[0] * nudge).sum().real, rtol=1e-7)
    norms = diagnostics.gradient_norms(cell, params, xs, lambda ys: jnp.sum(ys**2), start)
    np.testing.assert_allclose(norms, np.linalg.norm(gradients, axis=-1), rtol=1e-12)


def test_plot(plt):
    cell = jaxseq.lru(4)
    params, xs = made(cell)
    ax = diagnostics.plot_eigenvalues(diagnostics.eigenvalues(cell, params, xs)[0, 0])
    assert diagnostics.plot_eigenvalues(jnp.array([0.5, 0.9]), ax=ax) is ax
    (circle, _), (points, others) = ax.lines, ax.collections
    np.testing.assert_allclose(np.hypot(*circle.get_data()), 1)
    assert len(np.asarray(points.get_offsets())) == 4
    np.testing.assert_allclose(np.asarray(others.get_offsets()), [[0.5, 0], [0.9, 0]])


def test_errors():
    cell = jaxseq.gru(4)
    params, xs = made(cell)
    with pytest.raises(ValueError, match=r"`cell` must be linear; for other cells, .* `diagnostics.jacobians`"):
        diagnostics.eigenvalues(cell, params, xs)
    with pytest.raises(TypeError, match=r"`eigenvalues` must be floating or complex \[T, B, ...\]; got float64 \(3,\)"):
        diagnostics.memory_lengths(np.ones(3))
    with pytest.raises(ValueError, match=r"`mask` must be bool"):
        diagnostics.memory_lengths(np.ones((T, B, 2)), mask=np.ones((B, T), bool))
