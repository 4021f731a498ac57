"""Simulation, counting and EM against enumerated paths, plain loops and gradient ascent."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxseq.structured import hmm
from tests.structured.reference import Exact, all_masks
from tests.untyped import untyped

K = 2
FIRST = hmm.Params(  # NumPy's, so that they are of either precision
    np.log([0.7, 0.3]),
    np.log([[0.9, 0.1], [0.3, 0.7]]),
    hmm.GaussianParams(mean=np.array([[-1.0], [2.0]]), variance=np.array([[1.0], [0.5]])),
)
T, B = 30, 3


def model(emission, generator=None):
    generator = generator or np.random.default_rng(0)
    chain = np.log(generator.dirichlet(np.ones(K))), np.log(generator.dirichlet(np.ones(K), K))
    return hmm.Params(*chain, emission)


likelihoods = jax.jit(hmm.log_likelihood)


@functools.partial(jax.jit, static_argnums=0)
def total(emission, params, xs, **flags):
    log_obs = hmm.observe(emission, params.emission, xs, **flags)
    flags.pop("missing", None)
    return hmm.log_likelihood(params.log_initial, params.log_transition, log_obs, **flags).sum()


def test_an_iteration_is_that_of_all_paths(x64):
    """Baum-Welch by its definition: over every mask of five steps, one of which was not observed."""
    masks = all_masks(5)
    generator = np.random.default_rng(0)
    xs = np.where(masks, generator.integers(3, size=masks.shape), -1)
    missing = np.zeros(masks.shape, bool)
    missing[2] = True
    emission = hmm.categorical(3)
    start = model(hmm.CategoricalParams(np.log(generator.dirichlet(np.ones(3), K))), generator)
    got = hmm.fit(emission, K, xs, mask=masks, missing=missing, params=start, max_iterations=1)

    log_obs = np.where((missing | ~masks)[..., None], 0, np.asarray(start.emission.log_probs).T[xs])
    starts, moves, symbols, likelihood = np.zeros(K), np.zeros((K, K)), np.zeros((K, 3)), 0.0
    for b in range(masks.shape[1]):
        chain = np.asarray(start.log_initial), np.asarray(start.log_transition), log_obs[:, b], np.zeros(K)
        row = Exact(*chain, masks[:, b])
        likelihood += row.log_partition
        marginals = row.marginals()
        moves += row.pairs().sum(0)
        if masks[:, b].any():
            starts += marginals[np.flatnonzero(masks[:, b])[0]]
        for t in np.flatnonzero(masks[:, b] & ~missing[:, b]):
            symbols[:, xs[t, b]] += marginals[t]
    after = total(emission, got.params, xs, mask=masks, missing=missing)
    got = jax.tree.map(np.asarray, got)
    np.testing.assert_allclose(got.log_likelihoods[0, 0], likelihood, rtol=1e-12)
    np.testing.assert_allclose(np.exp(got.params.log_initial), starts / starts.sum(), rtol=1e-10)
    np.testing.assert_allclose(np.exp(got.params.log_transition), moves / moves.sum(1, keepdims=True), rtol=1e-10)
    want = symbols / symbols.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(got.params.emission.log_probs), want, rtol=1e-10)
    assert got.iterations.tolist() == [1]
    assert not got.converged[0]
    np.testing.assert_allclose(got.log_likelihoods[0, 1], after, rtol=1e-12)


TRUTHS = {
    "categorical": (hmm.categorical(3), hmm.CategoricalParams(np.log([[0.9, 0.05, 0.05], [0.05, 0.15, 0.8]]))),
    "gaussian": (hmm.gaussian(), hmm.GaussianParams(np.array([[-1.0, 0], [2, 1]]), np.array([[1.0, 2], [0.5, 1]]))),
    "full_gaussian": (
        hmm.full_gaussian(),
        hmm.FullGaussianParams(
            np.array([[-1.0, 0], [2, 1]]), np.array([[[1.0, 0.5], [0.5, 1]], [[1.0, -0.6], [-0.6, 2.0]]])
        ),
    ),
    "gaussian_mixture": (
        hmm.gaussian_mixture(2),
        hmm.GaussianMixtureParams(
            np.log([[0.5, 0.5], [0.3, 0.7]]),
            np.array([[[-4.0], [0.0]], [[4.0], [8.0]]]),
            np.array([[[1.0], [0.5]], [[1.0], [0.5]]]),
        ),
    ),
    "poisson": (hmm.poisson(), hmm.PoissonParams(np.array([[1.0, 6.0], [5.0, 0.5]]))),
}


@functools.cache
def fitted(name):
    """A fit in float64 to ragged draws of a known model, some of them missing.

    The truth, the flags, the fit, and the log-likelihoods of what was fitted and of the truth.
    """
    emission, of_states = TRUTHS[name]
    truth = FIRST._replace(emission=of_states)
    mask = np.arange(150)[:, None] < [150, 80, 150, 1, 0, 149, 150, 120]
    missing = np.random.default_rng(0).random(mask.shape) < 0.05
    flags: dict[str, Any] = {"mask": mask, "missing": missing}

    @jax.jit
    def run(key_xs, key):
        _, xs = hmm.simulate(key_xs, emission, truth, 150, batch_shape=(8,))
        seen = (mask & ~missing).reshape(*mask.shape, *[1] * (xs.ndim - 2))
        xs = jnp.where(seen, xs, -1 if name == "categorical" else jnp.nan)
        fit = hmm.fit(emission, K, xs, **flags, key=key, restarts=4, max_iterations=60, tolerance=1e-5)
        return fit, [hmm.observe(emission, params.emission, xs, **flags) for params in (fit.params, truth)]

    with jax.enable_x64(True):
        fit, both = jax.tree.map(np.asarray, run(jax.random.key(0), jax.random.key(1)))
        found, of_truth = (
            np.sum(likelihoods(params.log_initial, params.log_transition, log_obs, mask=mask))
            for params, log_obs in zip((fit.params, truth), both, strict=True)
        )
    return truth, flags, fit, found, of_truth


@pytest.mark.learn
@pytest.mark.parametrize("name", TRUTHS)
def test_the_likelihood_never_falls_and_is_that_of_the_params(name, x64):
    _, flags, fit, found, _ = fitted(name)
    assert fit.log_likelihoods.shape == (4, 61)
    for history, iterations, converged in zip(fit.log_likelihoods, fit.iterations, fit.converged, strict=True):
        assert np.isfinite(history[: iterations + 1]).all()
        assert np.isnan(history[iterations + 1 :]).all()
        gains = np.diff(history[: iterations + 1])
        assert gains.min() > -1e-8
        small = np.abs(gains) <= 1e-5 * flags["mask"].sum()
        assert not small[:-1].any()
        assert small[-1] == converged
        assert converged or iterations == 60
    last = [history[n] for history, n in zip(fit.log_likelihoods, fit.iterations, strict=True)]
    assert fit.best == np.argmax(last)
    np.testing.assert_allclose(found, max(last), rtol=1e-12)


@pytest.mark.learn
@pytest.mark.parametrize("name", TRUTHS)
def test_the_truth_is_found(name, x64):
    truth, _, fit, _, of_truth = fitted(name)
    assert fit.log_likelihoods[fit.best, fit.iterations[fit.best]] > of_truth
    got, want = (params.emission[name == "gaussian_mixture"] for params in (fit.params, truth))
    if name == "categorical":
        got, want = np.exp(got), np.exp(want)
    if name == "gaussian_mixture":
        got = np.sort(got, 1)
    order = list(min(itertools.permutations(range(K)), key=lambda order: np.abs(got[list(order)] - want).sum()))
    np.testing.assert_allclose(got[order], want, atol=0.3)
    transition = np.exp(fit.params.log_transition)
    np.testing.assert_allclose(transition[order][:, order], np.exp(truth.log_transition), atol=0.12)
    np.testing.assert_allclose(transition.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(fit.params.log_initial).sum(), 1, rtol=1e-12)


@jax.jit
def simulated(key, params):
    return hmm.simulate(key, hmm.gaussian(), params, T, batch_shape=(B,))


def fit_first(xs, mask, params=FIRST, tolerance=1e-9):
    """A fit of T steps of B rows, whatever is real of them: compiled once."""
    fit = hmm.fit(hmm.gaussian(), K, xs, mask=mask, params=params, max_iterations=3000, tolerance=tolerance)
    return jax.tree.map(np.asarray, fit)


@pytest.mark.learn
def test_padding_gaps_and_empty_rows_are_as_if_they_were_not_there(x64):
    generator = np.random.default_rng(0)
    rows = [generator.normal(size=n) + 3 * (np.arange(n) % 7 > 3) for n in (17, 9)]
    fits = []
    for start, gaps in ((0, False), (4, True)):
        xs, mask = np.full((T, B, 1), np.nan), np.zeros((T, B), bool)
        for b, row in enumerate(rows):
            at = np.arange(len(row)) + start
            mask[at + (at > 8) * 2 * gaps, b + gaps] = True
            xs[mask[:, b + gaps], b + gaps, 0] = row
        fits.append(fit_first(xs, mask))
    for a, b in zip(jax.tree.leaves(fits[0]), jax.tree.leaves(fits[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.learn
def test_restarts_begin_at_the_params_then_at_draws(count_compilations, x64):
    xs, mask = np.random.default_rng(0).normal(size=(T, B, 1)), np.ones((T, B), bool)
    emission = hmm.gaussian()

    def run(seed, tolerance):
        options = {"params": FIRST, "restarts": 3, "max_iterations": 40, "tolerance": tolerance}
        return hmm.fit(emission, K, xs, key=jax.random.key(seed), **options)

    alone = fit_first(xs, mask, tolerance=1e-4)
    fit = jax.tree.map(np.asarray, run(0, 1e-4))
    assert alone.iterations[0] < 40
    np.testing.assert_allclose(fit.log_likelihoods[0], alone.log_likelihoods[0, :41], rtol=1e-12)

    @jax.jit
    def drawn(key):
        equal = np.log(np.full((K, K), 1 / K))
        return total(emission, hmm.Params(equal[0], equal, emission.init(key, K, jnp.asarray(xs), mask)), xs)

    want = [np.asarray(drawn(each)) for each in jax.random.split(jax.random.key(0), 2)]
    np.testing.assert_allclose(fit.log_likelihoods[1:, 0], want, rtol=1e-12)
    assert want[0] != want[1]
    assert count_compilations(lambda: run(1, 1e-3)) == 0  # an eager fit is compiled once


def test_what_is_impossible_stays_so_and_pseudocounts_are_added(x64):
    emission = hmm.categorical(2)
    xs = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 0, 1]])
    with np.errstate(divide="ignore"):
        start = hmm.Params(
            np.log([1.0, 0.0]),
            np.log([[0.5, 0.5], [0.0, 1.0]]),
            hmm.CategoricalParams(np.log([[0.8, 0.2], [0.3, 0.7]])),
        )
    options: dict[str, Any] = {"params": start, "max_iterations": 1}
    pseudocounts: dict[str, Any] = {"transition_pseudocount": 2.0, "initial_pseudocount": 1.0}
    plain, smooth = (
        jax.tree.map(np.asarray, hmm.fit(emission, K, xs, **options, **some).params) for some in ({}, pseudocounts)
    )
    assert np.isneginf(smooth.log_transition[1, 0])
    np.testing.assert_array_equal(smooth.log_initial, start.log_initial)

    @jax.jit
    def pairs(start):
        return hmm.pairs(start.log_initial, start.log_transition, hmm.observe(emission, start.emission, xs))

    counts = np.exp(pairs(start)).sum((0, 1))
    np.testing.assert_allclose(np.exp(plain.log_transition), counts / counts.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(np.exp(smooth.log_transition[0]), (counts[0] + 2) / (counts[0].sum() + 4), rtol=1e-12)


def test_a_state_without_weight_stays_what_it_was(x64):
    with np.errstate(divide="ignore"):
        start = FIRST._replace(log_initial=np.log([1.0, 0]), log_transition=np.log([[1.0, 0], [0.4, 0.6]]))
    fit = fit_first(np.random.default_rng(0).normal(size=(T, B, 1)), np.ones((T, B), bool), start)
    np.testing.assert_array_equal(fit.params.log_transition[1], start.log_transition[1])
    np.testing.assert_array_equal(fit.params.emission.mean[1], start.emission.mean[1])
    assert fit.converged
    assert np.isfinite(fit.params.emission.mean).all()


def test_single_steps_have_no_transitions(x64):
    xs = np.random.default_rng(0).normal(size=(T, B, 1)) * 3
    fit = fit_first(xs, np.arange(T)[:, None] == np.array([0, 7, T - 1]))
    np.testing.assert_array_equal(fit.params.log_transition, FIRST.log_transition)
    assert np.isfinite(fit.log_likelihoods[0, : fit.iterations[0] + 1]).all()


@pytest.mark.learn
def test_a_start_that_cannot_be_ends_there_and_another_is_the_best():
    with np.errstate(divide="ignore"):
        start = FIRST._replace(emission=hmm.CategoricalParams(np.log([[1.0, 0], [1, 0]])))
    options = {"params": start, "key": jax.random.key(0), "restarts": 2, "max_iterations": 3}
    fit = jax.tree.map(np.asarray, hmm.fit(hmm.categorical(2), K, np.array([0, 1, 0]), **options))
    assert fit.log_likelihoods[0, 0] == -np.inf
    assert np.isnan(fit.log_likelihoods[0, 1:]).all()
    assert fit.iterations[0] == 0
    assert not fit.converged[0]
    assert fit.best == 1
    assert np.isfinite(fit.params.log_transition).all()
    unknown = hmm.fit(hmm.categorical(2), K, np.array([0, 2, 0]), **options)
    assert np.isnan(unknown.log_likelihoods).all()
    np.testing.assert_array_equal(unknown.params.emission.log_probs, start.emission.log_probs)


@pytest.mark.learn
def test_gradient_ascent_climbs_the_same_likelihood_to_the_same_top(x64):
    xs = np.asarray(simulated(jax.random.key(3), FIRST)[1])
    mask = np.arange(T)[:, None] < [T, 20, 25]
    em = fit_first(xs, mask, tolerance=1e-15)

    def constrained(free):
        initial, transition, mean, log_variance = jnp.split(free, [2, 6, 8])
        return hmm.Params(
            jax.nn.log_softmax(initial),
            jax.nn.log_softmax(transition.reshape(K, K)),
            hmm.GaussianParams(mean[:, None], jnp.exp(log_variance)[:, None]),
        )

    @jax.jit
    def loss(free):
        def negative(free):
            params = constrained(free)
            return -total(hmm.gaussian(), params, xs, mask=mask), params

        (value, params), slope = jax.value_and_grad(negative, has_aux=True)(free)
        return value, slope, params

    start = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(FIRST)])
    start[8:] = 0
    free, losses = start, []
    for _ in range(20):
        value, slope, _ = loss(free)
        losses.append(float(value))
        free = free - 1e-3 * np.asarray(slope)
    assert (np.diff(losses) < 0).all()
    climbed = {"jac": True, "method": "L-BFGS-B", "options": {"ftol": 1e-15, "gtol": 1e-9}}
    top = scipy.optimize.minimize(lambda free: loss(free)[:2], start, **climbed)
    np.testing.assert_allclose(-top.fun, em.log_likelihoods[0, em.iterations[0]], rtol=1e-9)
    at_top = loss(top.x)[2]
    for a, b in zip(jax.tree.leaves(at_top)[1:], jax.tree.leaves(em.params)[1:], strict=True):
        np.testing.assert_allclose(np.exp(a), np.exp(b), rtol=1e-3)


@pytest.mark.learn
def test_long_sequences_in_float32_and_under_jit():
    emission, steps = hmm.gaussian(), 10_000

    @jax.jit
    def run(key, mask):
        _, xs = hmm.simulate(key, emission, FIRST, steps)
        xs = jnp.where(mask[:, None], xs, jnp.nan)
        return hmm.fit(emission, K, xs, mask=mask, params=FIRST, max_iterations=5, tolerance=0)

    fit = jax.tree.map(np.asarray, run(jax.random.key(0), np.arange(steps) % 7 > 0))
    assert fit.params.emission.mean.dtype == fit.log_likelihoods.dtype == jnp.float32
    assert np.diff(fit.log_likelihoods[0]).min() > -1e-2  # of 15 000 nats
    np.testing.assert_allclose(np.exp(fit.params.log_transition), np.exp(FIRST.log_transition), atol=0.15)
    np.testing.assert_allclose(fit.params.emission.mean, FIRST.emission.mean, atol=0.1)


@pytest.mark.learn
def test_draws_of_a_chain_have_its_frequencies(x64):
    steps, draws = 4, 20000
    initial = np.array([0.5, 0.3, 0.2])
    transition = np.array([[0.1, 0.9, 0.0], [0.4, 0.2, 0.4], [0.0, 0.0, 1.0]])
    with np.errstate(divide="ignore"):
        logs = np.log(initial), np.log(transition)
    states = np.asarray(hmm.sample(jax.random.key(0), *logs, steps, batch_shape=(draws,)))
    assert states.shape == (steps, draws)
    for path in itertools.product(range(3), repeat=steps):
        p = initial[path[0]] * np.prod([transition[i, j] for i, j in itertools.pairwise(path)])
        share = (states == np.array(path)[:, None]).all(0).mean()
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / draws), path


@pytest.mark.learn
def test_draws_have_the_shape_asked_for():
    chain = FIRST.log_initial, FIRST.log_transition
    key = jax.random.key(0)
    none, one = jax.jit(lambda key: (hmm.sample(key, *chain, 0, batch_shape=(2,)), hmm.sample(key, *chain, 1)))(key)
    assert (none.shape, one.shape) == ((0, 2), (1,))
    with jax.debug_nans(True):  # nothing is NaN on the way either
        states, xs = hmm.simulate(key, hmm.gaussian(), FIRST, 5, batch_shape=(2, 3))
    assert states.shape == (5, 2, 3)
    assert xs.shape == (5, 2, 3, 1)
    jitted = jax.jit(hmm.simulate, static_argnames=("T", "batch_shape"))
    np.testing.assert_allclose(jitted(key, hmm.gaussian(), FIRST, T=5, batch_shape=(2, 3))[1], xs, rtol=1e-6)


def test_observations_are_of_their_states():
    far = FIRST._replace(emission=hmm.GaussianParams(np.array([[-100.0], [100.0]]), np.ones((2, 1))))
    states, xs = map(np.asarray, simulated(jax.random.key(0), jax.tree.map(np.float32, far)))
    np.testing.assert_array_equal(xs[..., 0] > 0, states == 1)


@pytest.mark.parametrize("pseudocount", [0, 1.0, 0.25])
def test_counts_of_all_masks_by_a_loop(pseudocount, x64):
    masks = all_masks(5)
    states = np.where(masks, np.random.default_rng(0).integers(3, size=masks.shape), -1)
    starts, moves = np.zeros(4), np.zeros((4, 4))
    for row, mask in zip(states.T, masks.T, strict=True):
        kept = row[mask].tolist()
        starts[kept[:1]] += 1
        for i, j in itertools.pairwise(kept):
            moves[i, j] += 1
    starts, moves = starts + pseudocount, moves + pseudocount
    if pseudocount == 0:
        moves[3] = 1  # never seen: all are equal
    log_initial, log_transition = jax.jit(functools.partial(hmm.count, K=4, pseudocount=pseudocount))(
        states, mask=masks
    )
    np.testing.assert_allclose(np.exp(log_initial), starts / starts.sum(), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_transition), moves / moves.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize(("shape", "eager"), [((0, 2), True), ((0,), False), ((3, 0), False)])
def test_counts_of_nothing_are_equal(shape, eager):
    count = functools.partial(hmm.count, K=4, pseudocount=0)
    log_initial, log_transition = (count if eager else jax.jit(count))(np.zeros(shape, int))
    np.testing.assert_allclose(log_initial, np.log(np.full(4, 0.25)), rtol=1e-6)
    np.testing.assert_allclose(log_transition, np.log(np.full((4, 4), 0.25)), rtol=1e-6)


def test_count_without_a_mask_and_without_a_batch():
    log_initial, log_transition = hmm.count(np.array([1, 1, 0, 1]), 2)
    np.testing.assert_allclose(np.exp(log_initial), [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_transition), [[1 / 3, 2 / 3], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.learn
def test_a_supervised_fit_is_the_estimate_of_each_states_own_observations(x64):
    generator = np.random.default_rng(0)
    states, mask = generator.integers(3, size=(40, 3)), generator.random((40, 3)) < 0.8
    missing = generator.random((40, 3)) < 0.2
    xs = generator.normal(size=(40, 3, 2)) + 5 * states[..., None]
    dirty = np.where((mask & ~missing)[..., None], xs, np.nan)
    labels = np.where(mask, states, -1)
    options = {"key": jax.random.key(0), "mask": mask, "missing": missing}
    params = hmm.fit_supervised(hmm.gaussian(), labels, 4, dirty, pseudocount=0.5, **options)
    params = jax.tree.map(np.asarray, params)
    chain = hmm.count(labels, 4, mask=mask, pseudocount=0.5)
    np.testing.assert_array_equal(params.log_initial, chain[0])
    np.testing.assert_array_equal(params.log_transition, chain[1])
    for k in range(3):
        own = xs[(states == k) & mask & ~missing]
        np.testing.assert_allclose(params.emission.mean[k], own.mean(0), rtol=1e-12)
        np.testing.assert_allclose(params.emission.variance[k], own.var(0), rtol=1e-10)
    assert (xs == params.emission.mean[3]).all(-1).any()  # has none: starts from all, and stays there
    np.testing.assert_allclose(params.emission.variance[3], xs[mask & ~missing].var(0), rtol=1e-10)


@pytest.mark.learn
def test_a_supervised_mixture_finds_its_components(x64):
    generator = np.random.default_rng(0)
    states, component = generator.integers(2, size=400), generator.integers(2, size=400)
    xs = (np.array([[0.0, 4], [10, 14]])[states, component] + generator.normal(size=400))[:, None]
    fit = lambda key: hmm.fit_supervised(hmm.gaussian_mixture(2), states, 2, xs, key=key, iterations=100)
    params = jax.jit(fit)(jax.random.key(0))
    np.testing.assert_allclose(np.sort(params.emission.mean[..., 0]), [[0, 4], [10, 14]], atol=0.3)
    assert type(params) is hmm.Params


@pytest.mark.learn
def test_an_emission_of_ones_own_of_two_observations(x64):
    """A pytree of observations: a symbol and a number, independent in each state."""
    symbol, number = hmm.categorical(3), hmm.gaussian()

    def init(key, states, xs, mask):
        return symbol.init(key, states, xs[0], mask), number.init(key, states, xs[1], mask)

    def log_prob(params, xs):
        return symbol.log_prob(params[0], xs[0]) + number.log_prob(params[1], xs[1])

    def maximise(params, xs, weights):
        return symbol.maximise(params[0], xs[0], weights), number.maximise(params[1], xs[1], weights)

    def sample(key, params, states):
        raise NotImplementedError

    both = hmm.Emission(init, log_prob, maximise, sample)
    generator = np.random.default_rng(0)
    xs = generator.integers(3, size=(T, B)), generator.normal(size=(T, B, 1))
    mask = np.arange(T)[:, None] < [T, 0, 20]

    @jax.jit
    def run(key):
        fit = hmm.fit(both, K, xs, key=key, mask=mask, max_iterations=10)
        return fit, hmm.observe(both, fit.params.emission, xs, mask=mask)

    fit, log_obs = jax.tree.map(np.asarray, run(jax.random.key(0)))
    last = likelihoods(fit.params.log_initial, fit.params.log_transition, log_obs, mask=mask)
    history = fit.log_likelihoods[0, : fit.iterations[0] + 1]
    assert np.diff(history).min() > -1e-9
    np.testing.assert_allclose(np.sum(last), history[-1], rtol=1e-12)


GAUSSIAN, XS, KEY = hmm.gaussian(), np.zeros((4, 3, 1), np.float32), jax.random.key(0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: hmm.fit(untyped(hmm.gaussian), K, XS, key=KEY),
            TypeError,
            "`emission` must be an hmm.Emission; got function",
        ),
        (lambda: hmm.fit(GAUSSIAN, 0, XS, key=KEY), ValueError, "`states` must be a positive int; got 0"),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=untyped(0)),
            TypeError,
            "`key` must be a jax.random.key or None; got int",
        ),
        (lambda: hmm.fit(GAUSSIAN, K, XS), ValueError, "`key` must be a jax.random.key, to draw a start from"),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, params=FIRST, restarts=3),
            ValueError,
            "to draw 2 further starts; got None",
        ),
        (lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, restarts=0), ValueError, "`restarts` must be a positive int; got 0"),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, max_iterations=0),
            ValueError,
            "`max_iterations` must be a positive int",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, tolerance=-1),
            ValueError,
            "`tolerance` must be a number of at least 0",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, tolerance=untyped(None)),
            TypeError,
            "`tolerance` must be a number of at least 0",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, transition_pseudocount=-1),
            ValueError,
            "`transition_pseudocount` must be a number of at least 0",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, initial_pseudocount=float("nan")),
            ValueError,
            "`initial_pseudocount` must be a number of at least 0",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, params=untyped(tuple(FIRST))),
            TypeError,
            r"`params` must be hmm.Params\(log_initial, log_transition, emission\); got tuple",
        ),
        (lambda: hmm.fit(GAUSSIAN, 3, XS, params=FIRST), ValueError, r"`params.log_initial` must be \[K\] = \(3,\)"),
        (
            lambda: hmm.fit(
                GAUSSIAN, 3, XS, params=FIRST._replace(log_initial=np.zeros(3), log_transition=np.zeros((3, 3)))
            ),
            ValueError,
            "`params.emission` must be of `states` = 3 states; got 2",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, params=FIRST._replace(log_initial=np.zeros(3))),
            ValueError,
            r"`params.log_initial` must be \[K\] = \(2,\); got float32 \(3,\)",
        ),
        (lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, mask=np.ones((3, 4), bool)), ValueError, "Did you pass batch-major"),
        (lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, missing=np.ones(4, bool)), ValueError, "`missing` must be bool"),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, mask=np.zeros((4, 3), bool)),
            ValueError,
            r"`xs` hold no observation to fit to: no step of \[T, B\] = \(4, 3\) is real and observed",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, key=KEY, missing=np.ones((4, 3), bool)),
            ValueError,
            "no observation to fit to",
        ),
        (lambda: hmm.fit(GAUSSIAN, K, XS[:0], params=FIRST), ValueError, "no observation to fit to"),
        (lambda: hmm.fit(GAUSSIAN, K, XS[:0], key=KEY), ValueError, "`xs` must hold at least one step"),
        (lambda: hmm.sample(KEY, np.zeros(2), np.zeros((3, 3)), 4), ValueError, r"`log_transition` must be \[K, K\]"),
        (
            lambda: hmm.sample(KEY, np.zeros(2), np.zeros((2, 2)), -1),
            ValueError,
            "`T` must be an int, 0 or more; got -1",
        ),
        (lambda: hmm.sample(untyped(0), np.zeros(2), np.zeros((2, 2)), 1), TypeError, "`key` must be a jax.random.key"),
        (
            lambda: hmm.sample(KEY, np.zeros(2), np.zeros((2, 2)), 1, batch_shape=(untyped(1.5),)),
            TypeError,
            "`batch_shape` must be an int, 0 or more; got 1.5",
        ),
        (lambda: hmm.simulate(KEY, GAUSSIAN, untyped(3), 3), TypeError, r"`params` must be hmm.Params\(.*\); got int"),
        (
            lambda: hmm.simulate(KEY, GAUSSIAN, FIRST._replace(log_initial=np.zeros(0, np.float32)), 3),
            ValueError,
            r"`params.log_initial` must be \[K\], with at least one state",
        ),
        (
            lambda: hmm.simulate(
                KEY, GAUSSIAN, FIRST._replace(emission=jax.tree.map(lambda x: x[:1], FIRST.emission)), 3
            ),
            ValueError,
            f"`params.emission` must have the K = {K} states of `params.log_initial` first",
        ),
        (
            lambda: hmm.fit(GAUSSIAN, K, XS, params=FIRST._replace(log_transition=np.zeros((K, K), complex))),
            TypeError,
            r"`params.log_transition` must be real numbers \[K, K\]; got complex",
        ),
        (lambda: hmm.simulate(KEY, untyped(hmm.gaussian), FIRST, 3), TypeError, "`emission` must be an hmm.Emission"),
        (
            lambda: hmm.count(np.array([0, -1, 1]), 2),
            ValueError,
            "`states` must be ids in 0 … 1; got some from -1 to 1. If padding such as -1 is among them, pass a mask",
        ),
        (lambda: hmm.count(np.array([0, 2, 1]), 2), ValueError, "`states` must be ids in 0 … 1; got some from 0 to 2"),
        (
            lambda: hmm.count(np.array([0.0]), 2),
            TypeError,
            r"`states` must be int \[T, B\]; got float32 \(1,\)",
        ),
        (lambda: hmm.count(np.array([0]), 0), ValueError, "`K` must be a positive int; got 0"),
        (
            lambda: hmm.count(np.array([0]), 2, pseudocount=-1),
            ValueError,
            "`pseudocount` must be a number of at least 0",
        ),
        (lambda: hmm.count(np.array([0]), 2, mask=np.ones((2,), bool)), ValueError, "`mask` must be bool"),
        (
            lambda: hmm.fit_supervised(untyped(hmm.gaussian), np.zeros((4, 3), int), 2, XS, key=KEY),
            TypeError,
            "`emission` must be an hmm.Emission",
        ),
        (
            lambda: hmm.fit_supervised(GAUSSIAN, np.zeros((4, 3), int), 2, XS, key=KEY, iterations=0),
            ValueError,
            "`iterations` must be a positive int; got 0",
        ),
        (
            lambda: hmm.fit_supervised(GAUSSIAN, np.zeros((4, 3), int), 2, XS, key=KEY, missing=np.ones(4, bool)),
            ValueError,
            "`missing` must be bool",
        ),
        (
            lambda: hmm.fit_supervised(GAUSSIAN, np.zeros((3, 4), int), 2, XS, key=KEY),
            ValueError,
            r"`xs` must have the steps of `states`, \[T, B\] = \(3, 4\); got those of \(4, 3\)",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_is_not_a_number_has_to_be_said_to_be_missing():
    xs = jnp.array([[0.0], [jnp.nan], [1.0], [5.0]])
    with pytest.raises(ValueError, match=r"`xs` hold NaN on steps that are real and observed; .*missing="):
        hmm.fit(hmm.gaussian(), 2, xs, key=KEY)
    fitted = hmm.fit(hmm.gaussian(), 2, xs, key=KEY, missing=jnp.isnan(xs[:, 0]))
    assert np.all(np.isfinite(fitted.params.emission.mean))
    with pytest.raises(TypeError, match=r"those of a whole model: pass `params.emission`"):
        hmm.observe(hmm.gaussian(), fitted.params, xs)
