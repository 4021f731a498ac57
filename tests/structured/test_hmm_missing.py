"""Missing features: densities against SciPy's marginals, M-steps against loops over the patterns of what is seen."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxseq.structured import hmm
from jaxseq.structured.hmm.emissions._check import Partial

K, D, M, T, B = 2, 3, 2, 16, 2
EMISSIONS = {
    "gaussian": hmm.gaussian(),
    "spherical": hmm.gaussian(covariance="spherical"),
    "full": hmm.gaussian(covariance="full"),
    "tied": hmm.gaussian(covariance="tied"),
    "mixture": hmm.gaussian_mixture(M),
    "poisson": hmm.poisson(),
}
PATTERNS = np.array(list(itertools.product([False, True], repeat=D)))  # of what is missing; the first: nothing
MISSING = np.stack([np.tile(PATTERNS, (2, 1)), np.tile(PATTERNS[::-1], (2, 1))], 1)  # [T, B, D]
each = pytest.mark.parametrize("name", EMISSIONS)


@functools.cache
def model(name):
    """Params, and observations with what must not matter where they are missing."""
    generator = np.random.default_rng(0)
    lead = (K, M) if name == "mixture" else (K,)
    mean, variance = generator.normal(size=(*lead, D)), generator.gamma(2, size=(*lead, D))
    root = generator.normal(size=(K, D, D))
    covariance = root @ root.swapaxes(1, 2) + 0.3 * np.eye(D)
    xs = generator.normal(0, 2, size=(T, B, D))
    params = {
        "gaussian": hmm.GaussianParams(mean, variance),
        "spherical": hmm.GaussianParams(mean, np.repeat(variance[..., :1], D, -1)),
        "full": hmm.FullGaussianParams(mean, covariance),
        "tied": hmm.FullGaussianParams(mean, covariance[[0, 0]]),
        "mixture": hmm.GaussianMixtureParams(np.log(generator.dirichlet(np.ones(M), K)), mean, variance),
        "poisson": hmm.PoissonParams(np.abs(mean)),
    }[name]
    xs = np.abs(xs).round() if name == "poisson" else xs
    return params, np.where(MISSING, np.nan, xs)


def density(name, params, k, x):
    """log p(x | k) of the features that are numbers, by SciPy."""
    seen = ~np.isnan(x)
    x = x[seen]
    if not seen.any():
        return 0.0
    if name in ("full", "tied"):
        marginal = params.mean[k, seen], params.covariance[k][np.ix_(seen, seen)]
        return scipy.stats.multivariate_normal.logpdf(x, *marginal)
    if name == "poisson":
        return scipy.stats.poisson.logpmf(x, params.rate[k, seen]).sum()
    of = scipy.stats.norm.logpdf(x, params.mean[k][..., seen], np.sqrt(params.variance[k][..., seen])).sum(-1)
    return np.logaddexp.reduce(params.log_weights[k] + of) if name == "mixture" else of


@functools.cache
def compiled(name):
    emission = EMISSIONS[name]

    @jax.jit
    def run(params, xs, weights):
        observe = lambda params, xs: hmm.observe(emission, params, xs, missing=MISSING)
        log_obs, back = jax.vjp(observe, params, xs)
        return log_obs, back(weights), emission.maximise(params, partial(xs), weights)

    return run


def partial(xs):
    """Observations as an emission's functions take them, where features are missing."""
    return Partial(jnp.where(MISSING, 0, xs), jnp.asarray(~MISSING))


WEIGHTS = np.random.default_rng(3).dirichlet(np.ones(K), (T, B))


@pytest.mark.some(3)
@each
def test_the_density_is_that_of_what_is_seen(name, x64):
    """Its gradients too, by finite differences; what is hidden, NaN here, reaches none of them."""
    params, xs = model(name)
    log_obs, (d_params, d_xs), _ = jax.tree.map(np.asarray, compiled(name)(params, xs, WEIGHTS))
    want = [[[density(name, params, k, x) for k in range(K)] for x in row] for row in xs]
    np.testing.assert_allclose(log_obs, want, rtol=1e-12, atol=1e-12)
    assert np.all(log_obs[MISSING.all(-1)] == 0)
    assert np.all(d_xs[MISSING] == 0)
    generator = np.random.default_rng(1)
    towards = type(params)(*(generator.normal(size=x.shape) for x in params))
    towards = (
        towards._replace(covariance=towards.covariance + towards.covariance.mT) if name in ("full", "tied") else towards
    )
    ahead, back = (
        compiled(name)(type(params)(*(x + h * d for x, d in zip(params, towards, strict=True))), xs, WEIGHTS)[0]
        for h in (1e-6, -1e-6)
    )
    along = sum(np.vdot(g, d) for g, d in zip(d_params, towards, strict=True))
    np.testing.assert_allclose(along, np.vdot(WEIGHTS, ahead - back) / 2e-6, rtol=1e-6)


def completed(params, k, x):
    """The expected x, and its expected covariance, by the params."""
    seen = ~np.isnan(x)
    mean, covariance = params.mean[k].copy(), params.covariance[k].copy()
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    return mean + gain @ (x - mean)[seen], covariance - gain @ covariance[seen]


@each
def test_the_m_step_is_the_weighted_estimate_of_what_is_seen(name, x64):
    params, xs = model(name)
    got = jax.tree.map(np.asarray, compiled(name)(params, xs, WEIGHTS)[2])
    flat, weights = xs.reshape(-1, D), WEIGHTS.reshape(-1, K)
    if name in ("full", "tied"):
        total, means, covariances = weights.sum(0), [], []
        for k in range(K):
            parts = [completed(params, k, x) for x in flat]
            mean = sum(w * part[0] for w, part in zip(weights[:, k], parts, strict=True)) / total[k]
            squares = [np.outer(x - mean, x - mean) + left for x, left in parts]
            means.append(mean)
            covariances.append(sum(w * square for w, square in zip(weights[:, k], squares, strict=True)) / total[k])
        if name == "tied":
            covariances = [sum(n * c for n, c in zip(total, covariances, strict=True)) / total.sum()] * K
        want = means, covariances
    else:
        if name == "mixture":
            shares = np.zeros((len(flat), K, M))
            for n, k, m in np.ndindex(len(flat), K, M):
                one = hmm.GaussianParams(params.mean[k], params.variance[k])
                log_joint = params.log_weights[k, m] + density("gaussian", one, m, flat[n])
                shares[n, k, m] = weights[n, k] * np.exp(log_joint - density(name, params, k, flat[n]))
            weights = shares.reshape(len(flat), K * M)
        seen = ~np.isnan(flat)
        counts = np.einsum("nk,nd->kd", weights, seen)
        mean = np.einsum("nk,nd->kd", weights, np.where(seen, flat, 0)) / counts
        squares = np.array(
            [np.sum(w[:, None] * np.where(seen, flat - m, 0) ** 2, 0) for w, m in zip(weights.T, mean, strict=True)]
        )
        variance = squares / counts
        if name == "spherical":
            variance = np.repeat((squares.sum(-1) / counts.sum(-1))[:, None], D, -1)
        want = (mean,) if name == "poisson" else (mean, variance)
        if name == "mixture":
            sums = weights.sum(0).reshape(K, M)
            want = np.log(sums / sums.sum(-1, keepdims=True)), *(x.reshape(K, M, D) for x in want)
    for field, a, b in zip(got._fields, got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=field)


@pytest.mark.learn
@pytest.mark.parametrize("name", ["full", "tied", "mixture", "gaussian"])
def test_the_likelihood_never_falls(name, x64):
    _, xs = model(name)
    run = jax.jit(
        lambda key, xs: hmm.fit(EMISSIONS[name], K, xs, key=key, missing=MISSING, max_iterations=25, tolerance=0)
    )
    fitted = jax.tree.map(np.asarray, run(jax.random.key(1), xs))
    history = fitted.log_likelihoods[0, : fitted.iterations[0] + 1]
    assert len(history) > 20
    assert np.diff(history).min() > -1e-9
    assert history[-1] > history[0] + 1
    log_obs = hmm.observe(EMISSIONS[name], fitted.params.emission, xs, missing=MISSING)
    total = hmm.log_likelihood(fitted.params.log_initial, fitted.params.log_transition, log_obs).sum()
    np.testing.assert_allclose(total, history[-1], rtol=1e-12)


def test_one_feature_or_all_of_them_are_the_step():
    xs, missing = np.arange(6, dtype=np.float32).reshape(3, 2, 1), np.array([[0, 1], [0, 0], [1, 0]], bool)
    params = hmm.GaussianParams(*np.ones((2, 2, 1), np.float32))
    of_steps = hmm.observe(hmm.gaussian(), params, xs, missing=missing)
    np.testing.assert_array_equal(hmm.observe(hmm.gaussian(), params, xs, missing=missing[..., None]), of_steps)
    both = np.repeat(xs, 2, -1), hmm.GaussianParams(*np.ones((2, 2, 2), np.float32))
    all_of_them = hmm.observe(hmm.gaussian(), both[1], both[0], missing=np.repeat(missing[..., None], 2, -1))
    np.testing.assert_array_equal(all_of_them, hmm.observe(hmm.gaussian(), both[1], both[0], missing=missing))
    symbols = hmm.CategoricalParams(np.log(np.full((2, 4), 0.25, np.float32)))
    ids = np.where(missing, -1, 2)
    got = hmm.observe(hmm.categorical(4), symbols, ids, missing=missing[..., None])
    np.testing.assert_array_equal(got, hmm.observe(hmm.categorical(4), symbols, ids, missing=missing))


def test_flags_that_do_not_fit():
    own = hmm.gaussian()._replace(by_feature=False)
    params, xs = hmm.GaussianParams(*np.ones((2, 2, 2), np.float32)), np.ones((3, 1, 2), np.float32)
    flags = np.zeros((3, 1, 2), bool)
    for emission, missing, message in (
        (own, flags, r"`missing` must be bool \[T, B\] = \(3, 1\): this emission cannot leave out single features"),
        (
            hmm.gaussian(),
            flags[..., [0, 0, 0]],
            r"`missing` must be bool \[T, B, D\] = \(3, 1, 2\); got bool \(3, 1, 3\)",
        ),
        (hmm.gaussian(), flags[0], r"`missing` must be bool \[T, B\] = \(3, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            hmm.observe(emission, params, xs, missing=missing)
    spoilt = xs.copy()
    spoilt[1, 0, 0] = np.nan
    flags[1, 0, 1] = True  # the other one
    with pytest.raises(ValueError, match="`xs` hold NaN on steps that are real and observed"):
        hmm.observe(hmm.gaussian(), params, spoilt, missing=flags)
