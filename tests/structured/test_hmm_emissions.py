"""Emissions against SciPy's distributions, their M-steps against plain loops and the gradient of what they maximise."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads

from jaxseq.structured import hmm

K, D, M, V = 3, 2, 2, 4
FLOOR = 1e-3
EMISSIONS = {
    "categorical": hmm.categorical(V),
    "gaussian": hmm.gaussian(),
    "full_gaussian": hmm.full_gaussian(),
    "gaussian_mixture": hmm.gaussian_mixture(M),
    "poisson": hmm.poisson(),
}
each = pytest.mark.parametrize("name", EMISSIONS)


def spd(generator, *lead):
    root = generator.normal(size=(*lead, D, D))
    return root @ np.swapaxes(root, -1, -2) + 0.3 * np.eye(D)


def params_of(name, seed=0):
    generator = np.random.default_rng(seed)
    if name == "categorical":
        return hmm.CategoricalParams(jnp.log(generator.dirichlet(np.ones(V), K)))
    if name == "gaussian":
        return hmm.GaussianParams(jnp.array(generator.normal(size=(K, D))), jnp.array(generator.gamma(2, size=(K, D))))
    if name == "full_gaussian":
        return hmm.FullGaussianParams(jnp.array(generator.normal(size=(K, D))), jnp.array(spd(generator, K)))
    if name == "gaussian_mixture":
        weights = jnp.log(generator.dirichlet(np.ones(M), K))
        mean, variance = generator.normal(size=(K, M, D)), generator.gamma(2, size=(K, M, D))
        return hmm.GaussianMixtureParams(weights, jnp.array(mean), jnp.array(variance))
    return hmm.PoissonParams(jnp.array(generator.gamma(2, size=(K, D))))


def data(name, *steps, seed=1):
    generator = np.random.default_rng(seed)
    if name == "categorical":
        return jnp.array(generator.integers(V, size=steps))
    if name == "poisson":
        return jnp.array(generator.poisson(2.0, size=(*steps, D)))
    return jnp.array(generator.normal(0, 2, size=(*steps, D)))


def density(name, params, k, x):
    """log p(x | k) by SciPy."""
    if name == "categorical":
        return params.log_probs[k, x]
    if name == "poisson":
        return scipy.stats.poisson.logpmf(x, params.rate[k]).sum()
    if name == "full_gaussian":
        return scipy.stats.multivariate_normal.logpdf(x, params.mean[k], params.covariance[k])
    if name == "gaussian":
        return scipy.stats.norm.logpdf(x, params.mean[k], np.sqrt(params.variance[k])).sum()
    of_component = scipy.stats.norm.logpdf(x, params.mean[k], np.sqrt(params.variance[k])).sum(-1)
    return np.logaddexp.reduce(params.log_weights[k] + of_component)


@each
@pytest.mark.parametrize("steps", [(6,), (3, 2, 2), (0, 2)])
def test_log_probabilities_are_scipys(name, steps, x64):
    params, xs = params_of(name), data(name, *steps)
    plain = jax.tree.map(np.asarray, params)
    want = [[density(name, plain, k, np.asarray(xs)[at]) for k in range(K)] for at in np.ndindex(*steps)]
    got = jax.jit(EMISSIONS[name].log_prob)(params, xs)
    np.testing.assert_allclose(got, np.reshape(want, (*steps, K)), rtol=1e-12, atol=1e-12)


@each
def test_gradients_are_those_of_finite_differences(name, x64):
    params, xs = params_of(name), data(name, 4, 2)
    check_grads(
        lambda params: EMISSIONS[name].log_prob(params, xs), (params,), order=1, modes=("fwd", "rev"), rtol=1e-6
    )


def weighted(name, weights, xs, params):
    """The M-step, one state, component and row at a time."""
    weights, xs = np.asarray(weights).reshape(-1, K), np.asarray(xs)
    if name == "categorical":
        xs = xs.reshape(-1)
        counts = np.array([[weights[xs == v, k].sum() for v in range(V)] for k in range(K)])
        return (np.log(counts / counts.sum(-1, keepdims=True)),)
    xs = xs.reshape(-1, D)

    def moments(w, full):
        mean = sum(w[n] * xs[n] for n in range(len(xs))) / w.sum()
        away = xs - mean
        covariance = sum(w[n] * np.outer(away[n], away[n]) for n in range(len(xs))) / w.sum()
        return mean, covariance if full else np.diag(covariance)

    if name == "gaussian_mixture":
        responsible = np.zeros((len(xs), K, M))
        for n, k, m in np.ndindex(len(xs), K, M):
            log_joint = (
                params.log_weights[k, m]
                + scipy.stats.norm.logpdf(xs[n], params.mean[k, m], np.sqrt(params.variance[k, m])).sum()
            )
            responsible[n, k, m] = weights[n, k] * np.exp(log_joint - density(name, params, k, xs[n]))
        of_each = [[moments(responsible[:, k, m], False) for m in range(M)] for k in range(K)]
        mean, variance = (np.array([[part[i] for part in row] for row in of_each]) for i in range(2))
        return np.log(responsible.sum(0) / weights.sum(0)[:, None]), mean, variance
    of_each = [moments(weights[:, k], name == "full_gaussian") for k in range(K)]
    parts = tuple(np.array([part[i] for part in of_each]) for i in range(2))
    return parts[:1] if name == "poisson" else parts


@each
@pytest.mark.parametrize("steps", [(30,), (8, 2, 2)])
def test_the_m_step_is_the_weighted_estimate(name, steps, x64):
    params, xs = params_of(name), data(name, *steps)
    weights = np.random.default_rng(2).dirichlet(np.ones(K), steps)
    got = jax.jit(EMISSIONS[name].maximise)(params, xs, weights)
    assert type(got) is type(params)
    want = weighted(name, weights, xs, jax.tree.map(np.asarray, params))
    for field, a, b in zip(params._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=field)


@each
def test_the_m_step_leaves_nothing_to_climb(name, x64):
    xs, weights = data(name, 40), np.random.default_rng(2).dirichlet(np.ones(K), 40)
    steps = 400 if name == "gaussian_mixture" else 1
    maximise = EMISSIONS[name].maximise
    repeated = jax.jit(
        lambda params: jax.lax.fori_loop(0, steps, lambda _, params: maximise(params, xs, weights), params)
    )
    params = repeated(params_of(name))

    def expected(free):
        if name in ("categorical", "gaussian_mixture"):
            free = free._replace(**{free._fields[0]: jax.nn.log_softmax(free[0])})  # along the simplex
        return jnp.vdot(weights, EMISSIONS[name].log_prob(free, xs))

    for field, slope in zip(params._fields, jax.jit(jax.grad(expected))(params), strict=True):
        np.testing.assert_allclose(slope, 0, atol=1e-6 if name == "gaussian_mixture" else 1e-10, err_msg=field)


@each
def test_what_has_no_weight_reaches_nothing_and_a_state_without_weight_keeps_its_params(name, x64):
    maximise, params, xs = jax.jit(EMISSIONS[name].maximise), params_of(name), data(name, 20)
    weights = np.random.default_rng(2).dirichlet(np.ones(K), 20)
    weights[:, 1] = 0
    weights[12:] = 0
    dirty = xs.at[12:].set(-7 if jnp.issubdtype(xs.dtype, jnp.integer) else jnp.nan)
    got = maximise(params, dirty, weights)
    clean = maximise(params, xs[:12], weights[:12])
    for a, b, before in zip(got, clean, params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
        np.testing.assert_array_equal(a[1], before[1])
        assert not np.array_equal(a[0], before[0])
    nothing = maximise(params, xs, np.zeros((20, K)))
    jax.tree.map(np.testing.assert_array_equal, nothing, params)


def test_variances_and_rates_stay_above_the_floor(x64):
    flat = np.random.default_rng(0).normal(size=(50, 1, 2)) * [1.0, 1e-3]  # next to a line
    turned = flat @ np.array([[0.6, 0.8], [-0.8, 0.6]])
    weights = np.ones((50, 1, 1))
    full = hmm.full_gaussian(floor=0.01)
    params = full.maximise(hmm.FullGaussianParams(jnp.zeros((1, 2)), jnp.eye(2)[None]), turned, weights)
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    free = np.cov(turned[:, 0].T, bias=True)
    got = params.covariance[0]
    np.testing.assert_allclose(across @ got @ across, 0.01, rtol=1e-4)
    np.testing.assert_allclose(along @ got @ along, along @ free @ along, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.eigvalsh(got), [0.01, np.linalg.eigvalsh(free)[1]], rtol=1e-12)

    start = hmm.GaussianParams(jnp.zeros((1, 2)), jnp.ones((1, 2)))
    variance = hmm.gaussian(floor=0.01).maximise(start, flat, weights).variance[0]
    np.testing.assert_allclose(variance, [flat[..., 0].var(), 0.01], rtol=1e-12)
    start = hmm.GaussianMixtureParams(jnp.zeros((1, 1)), jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2)))
    mixture = hmm.gaussian_mixture(1, floor=0.01).maximise(start, flat, weights)
    np.testing.assert_allclose(mixture.variance[0, 0], variance, rtol=1e-12)
    rate = hmm.poisson(floor=0.25).maximise(hmm.PoissonParams(jnp.ones((1, 2))), np.array([[[0, 3]]]), weights[:1]).rate
    np.testing.assert_array_equal(rate, [[0.25, 3.0]])
    assert np.isfinite(hmm.poisson().log_prob(hmm.PoissonParams(jnp.full((1, 1), 1e-6)), np.array([[5]]))).all()


def test_floored_steps_still_raise_the_expectation(x64):
    """The floor's is the constrained maximum: no other params above it do better."""
    xs = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 1e-2]
    weights = np.ones((30, 1))
    for emission, start in (
        (hmm.gaussian(floor=0.1), hmm.GaussianParams(jnp.ones((1, 2)), jnp.ones((1, 2)))),
        (hmm.full_gaussian(floor=0.1), hmm.FullGaussianParams(jnp.ones((1, 2)), jnp.eye(2)[None])),
    ):
        best = emission.maximise(start, xs, weights)
        top = emission.log_prob(best, xs).sum()
        for stretch in (1.01, 1.3):
            assert emission.log_prob(best._replace(**{best._fields[1]: best[1] * stretch}), xs).sum() < top


@pytest.mark.parametrize("pseudocount", [0.0, 0.5])
def test_pseudocounts_smooth_symbols(pseudocount, x64):
    emission = hmm.categorical(3, pseudocount=pseudocount)
    start = emission.init(jax.random.key(0), 2, jnp.array([0, 1]), None)
    params = emission.maximise(start, jnp.array([0, 0, 1]), jnp.array([[1.0, 0], [1, 0], [0.5, 0]]))
    want = np.array([2, 0.5, 0]) + pseudocount
    np.testing.assert_allclose(jnp.exp(params.log_probs[0]), want / want.sum(), rtol=1e-14)
    np.testing.assert_array_equal(params.log_probs[1], start.log_probs[1])


def test_an_unknown_symbol_is_not_a_number():
    params = hmm.CategoricalParams(jnp.log(jnp.full((2, 3), 1 / 3)))
    assert jnp.isnan(hmm.categorical(3).log_prob(params, jnp.array([0, -1, 3]))).all(-1).tolist() == [False, True, True]


@each
def test_draws_have_the_distribution(name, x64):
    params, n = params_of(name), 20000
    states = jnp.tile(jnp.arange(K), (n, 1))
    xs = np.asarray(jax.jit(EMISSIONS[name].sample)(jax.random.key(0), params, states))
    if name == "categorical":
        for k in range(K):
            np.testing.assert_allclose(np.bincount(xs[:, k], minlength=V) / n, np.exp(params.log_probs[k]), atol=0.015)
        return
    assert xs.shape == (n, K, D)
    if name == "poisson":
        assert np.issubdtype(xs.dtype, np.integer)
        mean = variance = params.rate
    elif name == "gaussian_mixture":
        share = np.exp(params.log_weights)[..., None]
        mean = (share * params.mean).sum(1)
        variance = (share * (params.variance + params.mean**2)).sum(1) - mean**2
    else:
        mean = params.mean
        variance = params.variance if name == "gaussian" else jnp.diagonal(params.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(xs.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(xs.var(0), variance, rtol=0.06)
    if name == "full_gaussian":
        for k in range(K):
            np.testing.assert_allclose(np.cov(xs[:, k].T), params.covariance[k], atol=0.1)


@each
def test_a_draw_has_the_axes_of_the_states(name):
    params, states = params_of(name), jnp.array([[0, 2, 1], [1, 1, 0]])
    xs = EMISSIONS[name].sample(jax.random.key(0), params, states)
    assert xs.shape == data(name, 2, 3).shape
    assert EMISSIONS[name].log_prob(params, xs).shape == (2, 3, K)
    np.testing.assert_array_equal(xs, EMISSIONS[name].sample(jax.random.key(0), params, states))


@each
def test_a_start_is_of_the_real_observations_alone(name, x64):
    xs, mask = data(name, 12, 2), np.random.default_rng(3).random((12, 2)) < 0.6
    dirty = jnp.where(mask.reshape(mask.shape + (1,) * (xs.ndim - 2)), xs, 10**6)
    if name != "categorical" and name != "poisson":
        dirty = jnp.where(dirty == 10**6, jnp.nan, dirty)
    init = jax.jit(EMISSIONS[name].init, static_argnums=1)
    params = init(jax.random.key(0), K, dirty, mask)
    assert jax.tree.structure(params) == jax.tree.structure(params_of(name))
    for leaf, like in zip(params, params_of(name), strict=True):
        assert leaf.shape == like.shape
        assert np.isfinite(leaf).all()
    whole = init(jax.random.key(0), K, xs[mask], None)
    for field, a, b in zip(params._fields, params, whole, strict=True):  # but for which rows the key draws
        if field in ("variance", "covariance"):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    if name in ("gaussian", "full_gaussian"):
        rows = np.asarray(xs[mask])
        drawn = [np.flatnonzero((rows == mean).all(-1)).tolist() for mean in np.asarray(params.mean)]
        assert all(len(found) == 1 for found in drawn)
        assert len({found[0] for found in drawn}) == K
        spread = np.cov(rows.T, bias=True)
        for k in range(K):
            got = params.variance[k] if name == "gaussian" else params.covariance[k]
            np.testing.assert_allclose(got, np.diag(spread) if name == "gaussian" else spread, rtol=1e-10)
    if name == "gaussian_mixture":
        rows = np.asarray(xs[mask])
        for k in range(K):
            drawn = {np.flatnonzero((rows == mean).all(-1)).item() for mean in np.asarray(params.mean[k])}
            assert len(drawn) == M
        np.testing.assert_allclose(jnp.exp(params.log_weights), 1 / M, rtol=1e-12)
    if name == "categorical":
        np.testing.assert_allclose(jnp.exp(params.log_probs).sum(-1), 1, rtol=1e-12)
    again = init(jax.random.key(1), K, dirty, mask)
    assert not all(np.array_equal(a, b) for a, b in zip(params, again, strict=True))


@each
def test_a_start_is_finite_where_there_are_fewer_observations_than_states(name):
    xs = data(name, 2, 1)

    @jax.jit
    def log_prob(mask):
        return EMISSIONS[name].log_prob(EMISSIONS[name].init(jax.random.key(0), K, xs, mask), xs)

    for mask in ([[True], [True]], [[True], [False]], [[False], [False]]):
        assert np.isfinite(log_prob(np.array(mask))).all()


def test_starts_are_far_from_each_other():
    """Three tight groups: by k-means++ all but always one mean in each."""
    groups = np.repeat([[0.0, 0.0], [1000.0, 0.0], [0.0, 1.0]], [90, 5, 5], axis=0)
    xs = jnp.asarray(groups + np.random.default_rng(0).normal(0, 1e-3, groups.shape), jnp.float32)
    init = jax.jit(jax.vmap(hmm.gaussian().init, in_axes=(0, None, None, None)), static_argnums=1)
    means = np.asarray(init(jax.random.split(jax.random.key(0), 50), 3, xs, None).mean)
    found = [{(round(x / 1000), round(y)) for x, y in of_draw.tolist()} for of_draw in means]
    assert sum(of_draw == {(0, 0), (1, 0), (0, 1)} for of_draw in found) >= 49


@each
def test_float32_stays_and_vmap_is_one_at_a_time(name):
    emission, xs = EMISSIONS[name], data(name, 6)

    def em(key):
        params = emission.init(key, K, xs, None)
        return emission.maximise(params, xs, jax.nn.softmax(emission.log_prob(params, xs)))

    keys = jax.random.split(jax.random.key(0), 2)
    together, one = jax.jit(jax.vmap(em))(keys), jax.jit(em)
    for i, key in enumerate(keys):
        for leaf, apart in zip(together, one(key), strict=True):
            assert leaf.dtype == jnp.float32
            np.testing.assert_allclose(leaf[i], apart, rtol=2e-5, atol=1e-5)


@each
@pytest.mark.parametrize("flags", [(False, True), (True, False), (True, True)])
def test_observe_is_zero_where_nothing_was_observed(name, flags, x64):
    emission, params, xs = EMISSIONS[name], params_of(name), data(name, 6, 2)
    mask, missing = (np.random.default_rng(seed).random((6, 2)) < 0.5 for seed in (0, 1))
    mask, missing = mask if flags[0] else None, missing if flags[1] else None
    seen = np.ones((6, 2), bool) & (True if mask is None else mask) & (True if missing is None else ~missing)
    dirty = jnp.where(seen.reshape(seen.shape + (1,) * (xs.ndim - 2)), xs, 99 if name == "categorical" else jnp.nan)
    dirty = dirty.astype(xs.dtype) if name == "categorical" else dirty

    def observe(params):
        return hmm.observe(emission, params, dirty, mask=mask, missing=missing)

    want = np.where(seen[..., None], emission.log_prob(params, xs), 0)
    np.testing.assert_allclose(jax.jit(observe)(params), want, rtol=1e-13)
    slopes = jax.jit(jax.grad(lambda params: observe(params).sum()))(params)
    plain = jax.jit(jax.grad(lambda params: jnp.sum(emission.log_prob(params, xs) * seen[..., None])))(params)
    for a, b in zip(slopes, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_missing_observation_is_summed_out(x64):
    """Σ_x p(x_1, x, x_3) over what the missing one may be."""
    generator = np.random.default_rng(0)
    emission, params = hmm.categorical(V), params_of("categorical")
    chain = jnp.log(generator.dirichlet(np.ones(K))), jnp.log(generator.dirichlet(np.ones(K), K))

    def total(xs, missing=None):
        return hmm.log_likelihood(*chain, hmm.observe(emission, params, xs, missing=missing))

    each_symbol = [total(jnp.array([1, v, 2])) for v in range(V)]
    got = total(jnp.array([1, -1, 2]), jnp.array([False, True, False]))
    np.testing.assert_allclose(got, np.logaddexp.reduce(each_symbol), rtol=1e-13)


def test_numpy_params_are_taken_by_observe():
    params, xs = params_of("gaussian"), data("gaussian", 3)
    got = hmm.observe(hmm.gaussian(), jax.tree.map(np.asarray, params), np.asarray(xs))
    np.testing.assert_array_equal(got, hmm.observe(hmm.gaussian(), params, xs))


def test_same_options_are_the_same_object():
    assert hmm.gaussian() is hmm.gaussian(floor=1e-3)
    assert hmm.full_gaussian() is hmm.full_gaussian(floor=1e-3)
    assert hmm.gaussian_mixture(2) is hmm.gaussian_mixture(np.int64(2), floor=1e-3)
    assert hmm.poisson() is hmm.poisson(floor=1e-6)
    assert hmm.categorical(3) is hmm.categorical(symbols=3, pseudocount=0)
    assert hmm.gaussian() is not hmm.gaussian(floor=1e-2)
    assert jax.tree.leaves(hmm.gaussian()) == []  # static under jit
    assert math.isclose(
        float(jax.jit(lambda e, p, x: e.log_prob(p, x).sum())(hmm.poisson(), params_of("poisson"), data("poisson", 3))),
        float(hmm.poisson().log_prob(params_of("poisson"), data("poisson", 3)).sum()),
        rel_tol=1e-5,
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hmm.categorical(0), ValueError, "`symbols` must be a positive int; got 0"),
        (
            lambda: hmm.categorical(2, pseudocount=-1),
            ValueError,
            "`pseudocount` must be a number of at least 0; got -1",
        ),
        (
            lambda: hmm.categorical(2, pseudocount="1"),
            TypeError,
            "`pseudocount` must be a number of at least 0; got '1'",
        ),
        (lambda: hmm.gaussian(floor=0), ValueError, "`floor` must be a positive number; got 0"),
        (lambda: hmm.full_gaussian(floor=None), TypeError, "`floor` must be a positive number; got None"),
        (lambda: hmm.gaussian_mixture(1.5), TypeError, "`components` must be a positive int; got 1.5"),
        (lambda: hmm.poisson(floor=-1), ValueError, "`floor` must be a positive number; got -1"),
        (
            lambda: hmm.observe(hmm.gaussian, params_of("gaussian"), data("gaussian", 3)),
            TypeError,
            r"`emission` must be an hmm.Emission; got function. Did you pass the factory itself\?",
        ),
        (
            lambda: hmm.observe(None, params_of("gaussian"), data("gaussian", 3)),
            TypeError,
            "`emission` must be an hmm.Emission; got NoneType.$",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), jnp.ones((3, 2), int)),
            TypeError,
            r"`xs` must be floating \[T, B, D\]; got int32 \(3, 2\). Cast it",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), jnp.ones(3)),
            ValueError,
            r"`xs` must be \[T, B, D\], with at least one feature; got float32 \(3,\)",
        ),
        (
            lambda: hmm.observe(hmm.poisson(), params_of("poisson"), jnp.ones((4, 3))),
            ValueError,
            r"of the D = 2 features that the params are for; got \(4, 3\)",
        ),
        (
            lambda: hmm.observe(hmm.poisson(), params_of("poisson"), jnp.ones((4, 2), bool)),
            TypeError,
            r"`xs` must be counts \[T, B, D\], integers or floating; got bool \(4, 2\)",
        ),
        (
            lambda: hmm.observe(hmm.categorical(V), params_of("categorical"), jnp.ones(4)),
            TypeError,
            r"`xs` must be int \[T, B\]; got float32 \(4,\)",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), [1.0]),
            TypeError,
            r"`xs` must be an array \[T, B, D\]; got list",
        ),
        (
            lambda: hmm.observe(
                hmm.gaussian(), params_of("gaussian"), jnp.ones((4, 3, 2)), mask=jnp.ones((3, 4), bool)
            ),
            ValueError,
            r"`mask` must be bool \[T, B\] = \(4, 3\); got bool \(3, 4\). Did you pass batch-major\?",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), jnp.ones((4, 2)), missing=jnp.ones(4)),
            TypeError,
            r"`missing` must be bool \[T, B\] = \(4,\); got float32 \(4,\)",
        ),
        (
            lambda: hmm.gaussian().init(jax.random.key(0), 2, jnp.ones((0, 3, 2)), None),
            ValueError,
            r"`xs` must hold a step to start from; got float32 \(0, 3, 2\)",
        ),
        (
            lambda: hmm.gaussian().init(jax.random.key(0), 2, jnp.ones((4, 3, 2)), jnp.ones((3, 4), bool)),
            ValueError,
            "Did you pass batch-major",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_narrow_ids_of_many_symbols(dtype):
    params = hmm.CategoricalParams(jnp.log(jnp.full((2, 300), 1 / 300)))
    largest = np.iinfo(dtype).max
    got = hmm.categorical(300).log_prob(params, np.array([largest, 3], dtype))
    np.testing.assert_allclose(got, -np.log(300), rtol=1e-6)
    _, log_transition = hmm.count(np.array([largest, 3, largest, 3], dtype), 300, pseudocount=0)
    np.testing.assert_allclose(np.exp(log_transition[largest, 3]), 1)


def test_counts_are_whole_numbers():
    """Ones added in float32 would stop at 2**24."""
    program = jax.make_jaxpr(lambda states: hmm.count(states, 2))(np.zeros((4, 3), np.int8))
    added = [equation.outvars[0].aval.dtype for equation in program.eqns if equation.primitive.name == "scatter-add"]
    assert added
    assert all(jnp.issubdtype(dtype, jnp.integer) for dtype in added)


def test_a_rate_of_zero_gives_zero_for_sure():
    log_p = hmm.poisson().log_prob(hmm.PoissonParams(jnp.array([[0.0], [1.0]])), jnp.array([[0], [2]]))
    np.testing.assert_allclose(log_p, [[0, -1], [-np.inf, -1 - np.log(2)]], rtol=0, atol=1e-6)
