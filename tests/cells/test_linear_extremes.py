"""The linear cells where gates are shut or open, decays exactly 0 or 1, sequences long and numbers narrow."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import kernels
from jaxseq.cells._decays import held_input, root_of_rest
from tests import test_contract, zoo
from tests.forms.entry import cell_entry
from tests.forms.gated_diagonal import min_gru, rg_lru

LINEAR = [name for name, entry in zoo.CELLS.items() if getattr(entry.cell, "linear", None) is not None]
GATES = {  # the biases that open and shut them; of the delta rule's β, which has none, the weights of an x that is 1
    "min_gru": ("b",),
    "min_lstm": ("b",),
    "rg_lru": ("b_r", "b_i", "lam"),
    "mamba": ("b_dt",),
    "mamba2": ("b_dt",),
    "gla": ("b",),
    "gated_delta_net": ("b_a", "w_b"),
    "delta_net_negative": ("w_b",),
    "mlstm": ("b_i", "b_f"),
}


def settings(name, size):
    """Params with each gate at ±size: of `min_gru` and `min_lstm`, whose gates share a bias, of some of its entries."""
    problem = test_contract.make_problem(zoo.CELLS[name].cell)
    for signs in itertools.product((-1, 1), repeat=2 if name == "min_lstm" else len(GATES[name])):
        params = problem.params
        for gate, sign in zip(GATES[name], signs, strict=False):
            value = np.array(getattr(params, gate))
            if gate == "w_b":
                value[0] = sign * size
            elif gate == "b":  # what is no gate stays
                parts = {"min_gru": 2, "min_lstm": 3}.get(name, 1)
                for part, sign in zip(np.split(value, parts), signs, strict=False):
                    part[:] = sign * size
            else:
                value[:] = sign * size
            params = params._replace(**{gate: value})
        xs = np.array(problem.xs)
        xs[..., 0] = 1
        yield problem._replace(params=params, xs=xs)


@pytest.mark.some(4)
@pytest.mark.parametrize("name", GATES)
def test_saturated_gates_match_the_oracle(name, x64):
    entry = zoo.CELLS[name]
    for problem in settings(name, 40.0):
        got = test_contract.runner(entry.cell, kernels.bptt)(problem, test_contract.MASK, test_contract.RESET)
        test_contract.assert_matches_oracle(
            entry.net, problem, got, test_contract.MASK, test_contract.RESET, reverse=False
        )


@pytest.mark.some(4)
@pytest.mark.parametrize("name", GATES)
def test_decays_of_exactly_0_and_1_have_finite_gradients(name):
    """In float32 σ(±200) is 0 and 1, and so are decays."""
    cell = zoo.CELLS[name].cell
    for problem in settings(name, 200.0):
        problem = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), problem)
        results = test_contract.runner(cell, kernels.bptt)(problem, test_contract.MASK)
        for path, leaf in jax.tree_util.tree_leaves_with_path(results):
            assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def test_what_is_kept_and_what_is_lost():
    """Minimal gates of exactly 0 and 1: the first h for ever, or the last candidate; RG-LRU: h for ever, or x."""
    xs, h = np.ones((5, 2, 3), np.float32), np.full((2, 3), 0.25, np.float32)

    def last(cell, **replaced):
        params = jax.eval_shape(lambda: cell.init(jax.random.key(0), 3))
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
        params = params._replace(**{name: np.asarray(value, np.float32) for name, value in replaced.items()})
        return np.asarray(jaxseq.unroll(cell, params, xs, h)[0])

    for sign, want in ((-200, 0.25), (200, 0.5)):
        np.testing.assert_array_equal(last(jaxseq.min_gru(3), b=[sign] * 3 + [0.5] * 3), want)
        np.testing.assert_array_equal(last(jaxseq.min_lstm(3), b=[-sign] * 3 + [sign] * 3 + [0.5] * 3), want)
        want = 0.25 if sign < 0 else 0.5  # i is 1/2, and x is 1
        np.testing.assert_array_equal(last(jaxseq.rg_lru(3), b_r=[sign] * 3, lam=[200] * 3), want)
    both_shut = last(jaxseq.min_lstm(3), b=[-200] * 6 + [0.5] * 3)
    np.testing.assert_allclose(both_shut, 0.5 - 0.25 / 2**5, rtol=1e-6)


@pytest.mark.parametrize(
    "entry",
    [
        cell_entry(jaxseq.rg_lru(3, heads=3), rg_lru(3, 3)),
        cell_entry(jaxseq.min_gru(4, candidate=jnp.tanh), min_gru(4, np.tanh)),
    ],
    ids=["heads", "candidate"],
)
def test_options_have_gradients_of_their_own(entry, x64):
    problem = test_contract.make_problem(entry.cell)
    got = test_contract.runner(entry.cell, kernels.bptt)(problem)
    test_contract.assert_matches_oracle(entry.net, problem, got, None, None, reverse=False)


def test_the_root_of_the_rest_is_exact_and_its_slope_finite(x64):
    log_a = -np.logspace(-300, 0, 200)
    got, slope = jax.vmap(jax.value_and_grad(root_of_rest))(jnp.asarray(log_a))
    np.testing.assert_allclose(got, np.sqrt(-np.expm1(2 * log_a)), rtol=1e-14)
    np.testing.assert_allclose(slope, -np.exp(2 * log_a) / np.sqrt(-np.expm1(2 * log_a)), rtol=1e-14)
    for dtype in (jnp.float32, jnp.float64):
        assert jax.value_and_grad(root_of_rest)(jnp.zeros((), dtype)) == (0, 0)
        assert jax.value_and_grad(root_of_rest)(jnp.asarray(-np.inf, dtype))[0] == 1


def test_an_input_that_is_held_is_exact_near_zero(x64):
    """(eᶻ - 1) / z and its derivative, in float32 too, around 0 and on both sides of where the form changes."""
    z = np.concatenate([[0], np.logspace(-12, 0.5, 60)])[:, None] * np.exp(
        1j * np.linspace(np.pi / 2, 3 * np.pi / 2, 7)
    )
    terms = np.cumprod([np.ones_like(z), *(z / k for k in range(2, 60))], axis=0)  # Σ zᵏ / (k + 1)!
    want = terms.sum(0)
    powers = np.cumprod([np.ones_like(z), *(z / k for k in range(1, 59))], axis=0)  # zᵏ / k!
    want_slope = sum((power / (k + 2) for k, power in enumerate(powers)), start=np.zeros_like(z))  # ∫ s e^{zs} ds
    slope_of = jax.vmap(jax.grad(held_input, holomorphic=True))
    np.testing.assert_allclose(held_input(jnp.asarray(z)), want, rtol=1e-14)
    np.testing.assert_allclose(slope_of(jnp.asarray(z.ravel())), want_slope.ravel(), rtol=2e-14)
    narrow = jnp.asarray(z, jnp.complex64)
    np.testing.assert_allclose(held_input(narrow), want, rtol=1e-6)
    np.testing.assert_allclose(slope_of(narrow.ravel()), want_slope.ravel(), rtol=2e-6)


def test_an_s5_without_decay_adds_up_its_inputs():
    """Λ = 0, for which (e^{ΛΔ} - 1) / Λ is Δ; with finite gradients."""
    cell = jaxseq.s5(2, state=3)
    params = cell.init(jax.random.key(0), 2)
    params = params._replace(log_re=jnp.full(3, -jnp.inf), im=jnp.zeros(3))
    xs = jnp.ones((7, 2))

    def loss(params):
        carry, ys = jaxseq.unroll(cell, params, xs)
        return jnp.sum(ys), carry

    (_, carry), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    want = 7 * np.exp(params.log_dt) * np.sum(np.asarray(params.b_re) + 1j * np.asarray(params.b_im), axis=0)
    np.testing.assert_allclose(carry, want, rtol=1e-5)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient._replace(log_re=None)))


@functools.cache
def trained(name, dtype, steps):
    """The outputs, the last carry and all gradients of the params that `init` draws, in a dtype."""
    cell = zoo.CELLS[name].cell

    @jax.jit
    def run(params, xs):
        def forward(params, xs):
            return jaxseq.unroll(cell, params, xs)

        results, pull = jax.vjp(forward, params, xs)
        return results, pull(jax.tree.map(jnp.ones_like, results))

    xs = np.random.default_rng(0).normal(size=(steps, 2, 3)).astype(np.float32)
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), cell.init(jax.random.key(0), 3, jnp.float32))
        return jax.tree.map(np.asarray, run(params, xs.astype(dtype)))


@pytest.mark.some(0, learn=5)
@pytest.mark.parametrize("name", LINEAR)
def test_float32_is_float64_within_its_error(name):
    for (path, got), want in zip(
        jax.tree_util.tree_leaves_with_path(trained(name, "float32", 50)),
        jax.tree.leaves(trained(name, "float64", 50)),
        strict=True,
    ):
        bound = float(50 * np.finfo(np.float32).eps * max(1, np.abs(want).max()))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=jax.tree_util.keystr(path))


@pytest.mark.learn
@pytest.mark.parametrize("name", LINEAR)
def test_ten_thousand_steps_are_finite(name):
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained(name, "float32", 10_000)):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
