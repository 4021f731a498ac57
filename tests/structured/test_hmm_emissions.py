"""Emissions against SciPy's distributions, their M-steps against plain loops and the gradient of what they maximise."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxseq.structured import hmm
from tests.untyped import untyped

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


@functools.cache
def _params_of(name, seed, dtype):
    generator = np.random.default_rng(seed)
    if name == "categorical":
        params = hmm.CategoricalParams(np.log(generator.dirichlet(np.ones(V), K)))
    elif name == "gaussian":
        params = hmm.GaussianParams(generator.normal(size=(K, D)), generator.gamma(2, size=(K, D)))
    elif name == "full_gaussian":
        params = hmm.FullGaussianParams(generator.normal(size=(K, D)), spd(generator, K))
    elif name == "gaussian_mixture":
        weights = np.log(generator.dirichlet(np.ones(M), K))
        mean, variance = generator.normal(size=(K, M, D)), generator.gamma(2, size=(K, M, D))
        params = hmm.GaussianMixtureParams(weights, mean, variance)
    else:
        params = hmm.PoissonParams(generator.gamma(2, size=(K, D)))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def params_of(name, seed=0):
    """NumPy's, in the precision that is on."""
    return _params_of(name, seed, jnp.result_type(float))


def data(name, *steps, seed=1):
    generator = np.random.default_rng(seed)
    if name == "categorical":
        return generator.integers(V, size=steps).astype(jnp.result_type(int))
    if name == "poisson":
        return generator.poisson(2.0, size=(*steps, D)).astype(jnp.result_type(int))
    return generator.normal(0, 2, size=(*steps, D)).astype(jnp.result_type(float))


@functools.cache
def compiled(name, function):
    """One of an emission's functions, or `hmm.observe` of it."""
    emission = EMISSIONS[name]
    if function == "observe":
        return jax.jit(functools.partial(hmm.observe, emission))
    return jax.jit(getattr(emission, function), static_argnums=1 if function == "init" else ())


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
    want = [[density(name, params, k, xs[at]) for k in range(K)] for at in np.ndindex(*steps)]
    got = compiled(name, "log_prob")(params, xs)
    np.testing.assert_allclose(got, np.reshape(want, (*steps, K)), rtol=1e-12, atol=1e-12)


@each
def test_gradients_are_those_of_finite_differences(name, x64):
    """In both modes, of everything that comes out."""
    params, xs = params_of(name), data(name, 4, 2)
    generator = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), params)
    weights = generator.normal(size=(4, 2, K))
    ahead, back = (
        compiled(name, "log_prob")(jax.tree.map(lambda x, d, h=h: x + h * d, params, direction), xs)
        for h in (1e-6, -1e-6)
    )
    numeric = (np.asarray(ahead) - np.asarray(back)) / 2e-6

    @jax.jit
    def run(params):
        log_prob = lambda params: EMISSIONS[name].log_prob(params, xs)
        return jax.jvp(log_prob, (params,), (direction,))[1], jax.vjp(log_prob, params)[1](weights)[0]

    forward, reverse = run(params)
    np.testing.assert_allclose(forward, numeric, rtol=1e-6, atol=1e-6)
    along = sum(map(np.vdot, reverse, direction))
    np.testing.assert_allclose(along, np.vdot(weights, numeric), rtol=1e-6, atol=1e-6)


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
    got = compiled(name, "maximise")(params, xs, weights)
    assert type(got) is type(params)
    want = weighted(name, weights, xs, params)
    for field, a, b in zip(params._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=field)


@each
def test_the_m_step_leaves_nothing_to_climb(name, x64):
    xs, weights = data(name, 40), np.random.default_rng(2).dirichlet(np.ones(K), 40)
    steps = 400 if name == "gaussian_mixture" else 1
    maximise = EMISSIONS[name].maximise

    def expected(free):
        if name in ("categorical", "gaussian_mixture"):
            free = free._replace(**{free._fields[0]: jax.nn.log_softmax(free[0])})  # along the simplex
        return jnp.vdot(weights, EMISSIONS[name].log_prob(free, xs))

    @jax.jit
    def slopes_at_the_end(params):
        params = jax.lax.fori_loop(0, steps, lambda _, params: maximise(params, xs, weights), params)
        return jax.grad(expected)(params)

    slopes = slopes_at_the_end(params_of(name))
    for field, slope in zip(slopes._fields, slopes, strict=True):
        np.testing.assert_allclose(slope, 0, atol=1e-6 if name == "gaussian_mixture" else 1e-10, err_msg=field)


@each
def test_what_has_no_weight_reaches_nothing_and_a_state_without_weight_keeps_its_params(name, x64):
    maximise, params, xs = compiled(name, "maximise"), params_of(name), data(name, 20)
    weights = np.random.default_rng(2).dirichlet(np.ones(K), 20)
    weights[:, 1] = 0
    weights[12:] = 0
    dirty = xs.copy()
    dirty[12:] = -7 if np.issubdtype(xs.dtype, np.integer) else np.nan
    got = jax.tree.map(np.asarray, maximise(params, dirty, weights))
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
    params = jax.jit(full.maximise)(hmm.FullGaussianParams(np.zeros((1, 2)), np.eye(2)[None]), turned, weights)
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    free = np.cov(turned[:, 0].T, bias=True)
    got = np.asarray(params.covariance)[0]
    np.testing.assert_allclose(across @ got @ across, 0.01, rtol=1e-4)
    np.testing.assert_allclose(along @ got @ along, along @ free @ along, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.eigvalsh(got), [0.01, np.linalg.eigvalsh(free)[1]], rtol=1e-12)

    start = hmm.GaussianParams(np.zeros((1, 2)), np.ones((1, 2)))
    variance = np.asarray(jax.jit(hmm.gaussian(floor=0.01).maximise)(start, flat, weights).variance)[0]
    np.testing.assert_allclose(variance, [flat[..., 0].var(), 0.01], rtol=1e-12)
    start = hmm.GaussianMixtureParams(np.zeros((1, 1)), np.zeros((1, 1, 2)), np.ones((1, 1, 2)))
    mixture = jax.jit(hmm.gaussian_mixture(1, floor=0.01).maximise)(start, flat, weights)
    np.testing.assert_allclose(np.asarray(mixture.variance)[0, 0], variance, rtol=1e-12)
    maximise = jax.jit(hmm.poisson(floor=0.25).maximise)
    rate = maximise(hmm.PoissonParams(np.ones((1, 2))), np.array([[[0, 3]]]), weights[:1]).rate
    np.testing.assert_array_equal(rate, [[0.25, 3.0]])
    assert np.isfinite(compiled("poisson", "log_prob")(hmm.PoissonParams(np.full((1, 1), 1e-6)), np.array([[5]]))).all()


def test_floored_steps_still_raise_the_expectation(x64):
    """The floor's is the constrained maximum: no other params above it do better."""
    xs = np.random.default_rng(0).normal(size=(30, 2)) * [1.0, 1e-2]
    weights = np.ones((30, 1))
    for emission, start in (
        (hmm.gaussian(floor=0.1), hmm.GaussianParams(np.ones((1, 2)), np.ones((1, 2)))),
        (hmm.full_gaussian(floor=0.1), hmm.FullGaussianParams(np.ones((1, 2)), np.eye(2)[None])),
    ):

        @jax.jit
        def run(start, stretches, emission=emission):
            best = emission.maximise(start, xs, weights)
            stretched = jax.vmap(lambda by: best._replace(**{best._fields[1]: best[1] * by}))(stretches)
            return jax.vmap(lambda params: emission.log_prob(params, xs).sum())(stretched)

        top, *others = run(start, np.array([1, 1.01, 1.3]))
        assert np.all(np.array(others) < top)


@pytest.mark.parametrize("pseudocount", [0.0, 0.5])
def test_pseudocounts_smooth_symbols(pseudocount, x64):
    emission = hmm.categorical(3, pseudocount=pseudocount)

    @jax.jit
    def run(key, xs, weights):
        start = emission.init(key, 2, np.array([0, 1]), None)
        return start.log_probs, emission.maximise(start, xs, weights).log_probs

    arguments = jax.random.key(0), np.array([0, 0, 1]), np.array([[1.0, 0], [1, 0], [0.5, 0]])
    before, after = map(np.asarray, run(*arguments))
    want = np.array([2, 0.5, 0]) + pseudocount
    np.testing.assert_allclose(np.exp(after[0]), want / want.sum(), rtol=1e-14)
    np.testing.assert_array_equal(after[1], before[1])


def test_an_unknown_symbol_is_not_a_number():
    params = hmm.CategoricalParams(np.log(np.full((2, 3), 1 / 3, np.float32)))
    log_probs = np.asarray(jax.jit(hmm.categorical(3).log_prob)(params, np.array([0, -1, 3], np.int32)))
    assert np.isnan(log_probs).all(-1).tolist() == [False, True, True]


@pytest.mark.some(2)
@each
def test_draws_have_the_distribution(name, x64):
    params, n = params_of(name), 20000
    states = np.tile(np.arange(K), (n, 1))
    xs = np.asarray(compiled(name, "sample")(jax.random.key(0), params, states))
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
        variance = params.variance if name == "gaussian" else np.diagonal(params.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(xs.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(xs.var(0), variance, rtol=0.06)
    if name == "full_gaussian":
        for k in range(K):
            np.testing.assert_allclose(np.cov(xs[:, k].T), params.covariance[k], atol=0.1)


@each
def test_a_draw_has_the_axes_of_the_states(name):
    params, states = params_of(name), np.array([[0, 2, 1], [1, 1, 0]], np.int32)
    xs = compiled(name, "sample")(jax.random.key(0), params, states)
    assert xs.shape == data(name, 2, 3).shape
    assert jax.eval_shape(EMISSIONS[name].log_prob, params, xs).shape == (2, 3, K)
    np.testing.assert_array_equal(xs, compiled(name, "sample")(jax.random.key(0), params, states))


@pytest.mark.some(2)
@each
def test_a_start_is_of_the_real_observations_alone(name, x64):
    xs, mask = data(name, 12, 2), np.random.default_rng(3).random((12, 2)) < 0.6
    anything = 10**6 if np.issubdtype(xs.dtype, np.integer) else np.nan
    dirty = np.where(mask.reshape(mask.shape + (1,) * (xs.ndim - 2)), xs, anything)
    init = lambda *arguments: jax.tree.map(np.asarray, compiled(name, "init")(*arguments))
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
        rows = xs[mask]
        drawn = [np.flatnonzero((rows == mean).all(-1)).tolist() for mean in params.mean]
        assert all(len(found) == 1 for found in drawn)
        assert len({found[0] for found in drawn}) == K
        spread = np.cov(rows.T, bias=True)
        for k in range(K):
            got = params.variance[k] if name == "gaussian" else params.covariance[k]
            np.testing.assert_allclose(got, np.diag(spread) if name == "gaussian" else spread, rtol=1e-10)
    if name == "gaussian_mixture":
        rows = xs[mask]
        for k in range(K):
            drawn = {np.flatnonzero((rows == mean).all(-1)).item() for mean in params.mean[k]}
            assert len(drawn) == M
        np.testing.assert_allclose(np.exp(params.log_weights), 1 / M, rtol=1e-12)
    if name == "categorical":
        np.testing.assert_allclose(np.exp(params.log_probs).sum(-1), 1, rtol=1e-12)
    again = init(jax.random.key(1), K, dirty, mask)
    assert not all(np.array_equal(a, b) for a, b in zip(params, again, strict=True))


@pytest.mark.some(2)
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
    xs = np.float32(groups + np.random.default_rng(0).normal(0, 1e-3, groups.shape))

    @jax.jit
    def means_of(key):
        return jax.vmap(lambda key: hmm.gaussian().init(key, 3, xs, None).mean)(jax.random.split(key, 50))

    means = np.asarray(means_of(jax.random.key(0)))
    found = [{(round(x / 1000), round(y)) for x, y in of_draw.tolist()} for of_draw in means]
    assert sum(of_draw == {(0, 0), (1, 0), (0, 1)} for of_draw in found) >= 49


@pytest.mark.some(1)
@each
def test_float32_stays_and_vmap_is_one_at_a_time(name):
    emission, xs = EMISSIONS[name], data(name, 6)

    def em(key):
        params = emission.init(key, K, xs, None)
        return emission.maximise(params, xs, jax.nn.softmax(emission.log_prob(params, xs)))

    @jax.jit
    def run(key):
        keys = jax.random.split(key, 2)
        return jax.vmap(em)(keys), jax.lax.map(em, keys)

    together, one_by_one = run(jax.random.key(0))
    for leaf, apart in zip(together, one_by_one, strict=True):
        assert leaf.dtype == jnp.float32
        np.testing.assert_allclose(leaf, apart, rtol=2e-5, atol=1e-5)


@pytest.mark.some(6)
@each
@pytest.mark.parametrize("flags", [(False, True), (True, False), (True, True)])
def test_observe_is_zero_where_nothing_was_observed(name, flags, x64):
    emission, params, xs = EMISSIONS[name], params_of(name), data(name, 6, 2)
    mask, missing = (np.random.default_rng(seed).random((6, 2)) < 0.5 for seed in (0, 1))
    mask, missing = mask if flags[0] else None, missing if flags[1] else None
    seen = np.ones((6, 2), bool) & (True if mask is None else mask) & (True if missing is None else ~missing)
    anything = 99 if name == "categorical" else np.nan  # counts become floating
    dirty = np.where(seen.reshape(seen.shape + (1,) * (xs.ndim - 2)), xs, anything)

    @jax.jit
    def run(params):
        observe = lambda params: hmm.observe(emission, params, dirty, mask=mask, missing=missing)
        plain = lambda params: jnp.where(seen[..., None], emission.log_prob(params, xs), 0)
        both = observe(params), plain(params)
        return (
            both,
            jax.grad(lambda params: observe(params).sum())(params),
            jax.grad(lambda params: plain(params).sum())(params),
        )

    (got, want), slopes, of_plain = run(params)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    for a, b in zip(slopes, of_plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_missing_observation_is_summed_out(x64):
    """Σ_x p(x_1, x, x_3) over what the missing one may be."""
    generator = np.random.default_rng(0)
    emission, params = hmm.categorical(V), params_of("categorical")
    chain = np.log(generator.dirichlet(np.ones(K))), np.log(generator.dirichlet(np.ones(K), K))

    @jax.jit
    def total(xs, missing):
        return hmm.log_likelihood(*chain, hmm.observe(emission, params, xs, missing=missing))

    each_symbol = [total(np.array([1, v, 2]), None) for v in range(V)]
    got = total(np.array([1, -1, 2]), np.array([False, True, False]))
    np.testing.assert_allclose(got, np.logaddexp.reduce(each_symbol), rtol=1e-13)


def test_numpy_params_are_taken_by_observe():
    params, xs = params_of("gaussian"), data("gaussian", 3)
    got = hmm.observe(hmm.gaussian(), params, xs)
    np.testing.assert_array_equal(got, hmm.observe(hmm.gaussian(), *jax.tree.map(jnp.asarray, (params, xs))))


def test_same_options_are_the_same_object():
    assert hmm.gaussian() is hmm.gaussian(floor=1e-3)
    assert hmm.full_gaussian() is hmm.full_gaussian(floor=1e-3)
    assert hmm.gaussian_mixture(2) is hmm.gaussian_mixture(untyped(np.int64(2)), floor=1e-3)
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
            lambda: hmm.categorical(2, pseudocount=untyped("1")),
            TypeError,
            "`pseudocount` must be a number of at least 0; got '1'",
        ),
        (lambda: hmm.gaussian(floor=0), ValueError, "`floor` must be a positive, finite number; got 0"),
        (
            lambda: hmm.full_gaussian(floor=untyped(None)),
            TypeError,
            "`floor` must be a positive, finite number; got None",
        ),
        (lambda: hmm.gaussian_mixture(untyped(1.5)), TypeError, "`components` must be a positive int; got 1.5"),
        (lambda: hmm.poisson(floor=-1), ValueError, "`floor` must be a positive, finite number; got -1"),
        (
            lambda: hmm.observe(untyped(hmm.gaussian), params_of("gaussian"), data("gaussian", 3)),
            TypeError,
            r"`emission` must be an hmm.Emission; got function. Did you pass the factory itself\?",
        ),
        (
            lambda: hmm.observe(untyped(None), params_of("gaussian"), data("gaussian", 3)),
            TypeError,
            "`emission` must be an hmm.Emission; got NoneType.$",
        ),
        (lambda: hmm.poisson(floor=math.inf), ValueError, "`floor` must be a positive, finite number; got inf"),
        (
            lambda: hmm.observe(hmm.gaussian(), {"mean": np.ones(2)}, data("gaussian", 3)),
            TypeError,
            r"`params` must be the emission's, hmm.GaussianParams\(mean, variance\); got dict",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), hmm.GaussianParams(np.ones((3, 2)), np.ones((2, 2))), np.ones((4, 2))),
            ValueError,
            r"`params.variance` must be \[K, D\] = \(3, 2\); got float\d\d \(2, 2\)",
        ),
        (
            lambda: hmm.observe(hmm.poisson(), hmm.PoissonParams(np.ones((3, 2), complex)), np.ones((4, 2))),
            TypeError,
            r"`params.rate` must be floating \[K, D\]; got complex",
        ),
        (
            lambda: hmm.observe(hmm.categorical(V + 1), params_of("categorical"), data("categorical", 3)),
            ValueError,
            rf"`params.log_probs` must be \[K, V\] = \({K}, {V + 1}\)",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), np.ones((3, 2), np.int32)),
            TypeError,
            r"`xs` must be floating \[T, B, D\]; got int32 \(3, 2\). Cast it",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), np.ones(3, np.float32)),
            ValueError,
            r"`xs` must be \[T, B, D\], with at least one feature; got float32 \(3,\)",
        ),
        (
            lambda: hmm.observe(hmm.poisson(), params_of("poisson"), np.ones((4, 3))),
            ValueError,
            r"with the D = 2 features of the params; got \(4, 3\)",
        ),
        (
            lambda: hmm.observe(hmm.poisson(), params_of("poisson"), np.ones((4, 2), bool)),
            TypeError,
            r"`xs` must be counts \[T, B, D\], integers or floating; got bool \(4, 2\)",
        ),
        (
            lambda: hmm.observe(hmm.categorical(V), params_of("categorical"), np.ones(4, np.float32)),
            TypeError,
            r"`xs` must be int \[T, B\]; got float32 \(4,\)",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), [1.0]),
            TypeError,
            r"`xs` must be an array \[T, B, D\]; got list",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), np.ones((4, 3, 2)), mask=np.ones((3, 4), bool)),
            ValueError,
            r"`mask` must be bool \[T, B\] = \(4, 3\); got bool \(3, 4\). Did you pass batch-major\?",
        ),
        (
            lambda: hmm.observe(hmm.gaussian(), params_of("gaussian"), np.ones((4, 2)), missing=np.ones(4, np.float32)),
            TypeError,
            r"`missing` must be bool \[T, B\] = \(4,\); got float32 \(4,\)",
        ),
        (
            lambda: hmm.gaussian().init(jax.random.key(0), 2, np.ones((0, 3, 2), np.float32), None),
            ValueError,
            r"`xs` must hold at least one step; got float32 \(0, 3, 2\)",
        ),
        (
            lambda: hmm.gaussian().init(jax.random.key(0), 2, np.ones((4, 3, 2)), np.ones((3, 4), bool)),
            ValueError,
            "Did you pass batch-major",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.some(1)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_narrow_ids_of_many_symbols(dtype):
    params = hmm.CategoricalParams(np.log(np.full((2, 300), 1 / 300, np.float32)))
    largest = np.iinfo(dtype).max
    got = jax.jit(hmm.categorical(300).log_prob)(params, np.array([largest, 3], dtype))
    np.testing.assert_allclose(got, -np.log(300), rtol=1e-6)
    _, log_transition = hmm.count(np.array([largest, 3, largest, 3], dtype), 300, pseudocount=0)
    np.testing.assert_allclose(np.exp(np.asarray(log_transition)[largest, 3]), 1)


def test_counts_beyond_the_integers_of_jax_are_refused():
    """Where they would wrap: 2³² + 3 is not 3."""
    params, xs = hmm.PoissonParams(np.ones((2, 1), np.float32)), np.full((4, 1), 2**32 + 3)
    for call in (
        lambda: hmm.observe(hmm.poisson(), params, xs),
        lambda: hmm.fit(hmm.poisson(), 2, xs, key=jax.random.key(0)),
        lambda: hmm.fit_supervised(hmm.poisson(), np.zeros(4, np.int32), 2, xs, key=jax.random.key(0)),
    ):
        with pytest.raises(ValueError, match="`xs` holds int64 numbers beyond int32"):
            call()


def test_counts_are_whole_numbers():
    """Ones added in float32 would stop at 2**24."""
    program = jax.make_jaxpr(lambda states: hmm.count(states, 2))(np.zeros((4, 3), np.int8))
    added = [equation.outvars[0].aval.dtype for equation in program.eqns if equation.primitive.name == "scatter-add"]
    assert added
    assert all(jnp.issubdtype(dtype, jnp.integer) for dtype in added)


def test_a_rate_of_zero_gives_zero_for_sure():
    log_p = jax.jit(hmm.poisson().log_prob)(hmm.PoissonParams(jnp.array([[0.0], [1.0]])), jnp.array([[0], [2]]))
    np.testing.assert_allclose(log_p, [[0, -1], [-np.inf, -1 - np.log(2)]], rtol=0, atol=1e-6)
