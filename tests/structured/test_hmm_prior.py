"""Covariances, the conjugate prior of Gaussians, and what `fit` holds: against loops, and what EM with them climbs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import hmm
from tests.untyped import untyped

K, D, T, B = 2, 2, 30, 2
KINDS = ["diagonal", "spherical", "full", "tied"]
PRIOR = hmm.GaussianPrior(mean=(0.5, -1.0), mean_count=3.0, variance=(2.0, 0.5), variance_count=5.0)
generator = np.random.default_rng(0)
XS = generator.normal(0, 2, size=(T, B, D)) + np.repeat([[0.0], [3.0]], T // 2, 0)[:, None]
WEIGHTS = generator.dirichlet(np.ones(K), (T, B))
kinds = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def emission_of(kind, prior):
    return hmm.gaussian(covariance=kind, prior=prior)


def start(kind):
    mean = np.array([[0.0, 0.0], [1.0, 2.0]])
    if kind in ("full", "tied"):
        return hmm.FullGaussianParams(mean, np.stack([np.eye(D)] * K))
    return hmm.GaussianParams(mean, np.ones((K, D)))


def by_loop(kind, prior, xs, weights):
    """The M-step, state by state."""
    p = hmm.GaussianPrior() if prior is None else prior
    n, scatter, mean, of_mean = weights.sum(0), [], [], []
    for k in range(K):
        m = (p.mean_count * np.array(p.mean) + weights[:, k] @ xs) / (p.mean_count + n[k])
        away = m - np.array(p.mean)
        of_mean.append(p.mean_count * np.outer(away, away))
        scatter.append(sum(w * np.outer(x - m, x - m) for w, x in zip(weights[:, k], xs, strict=True)))
        mean.append(m)
    of_variance = p.variance_count * np.diag(np.broadcast_to(p.variance, D))
    total = [s + m for s, m in zip(scatter, of_mean, strict=True)]
    if kind == "tied":
        return np.array(mean), np.stack([(sum(total) + of_variance) / (n.sum() + p.variance_count)] * K)
    covariance = [(t + of_variance) / (count + p.variance_count) for t, count in zip(total, n, strict=True)]
    if kind == "full":
        return np.array(mean), np.array(covariance)
    variance = np.array([np.diagonal(c) for c in covariance])
    return np.array(mean), variance.mean(-1, keepdims=True) * np.ones(D) if kind == "spherical" else variance


def log_prior(kind, prior, params):
    """Up to a constant; a tied covariance is one, so it is held once."""
    m, v = jnp.asarray(prior.mean), jnp.asarray(prior.variance)
    matrices = params[1] if kind in ("full", "tied") else jax.vmap(jnp.diag)(params[1])

    def of_state(mean, matrix, counts):
        inverse, away = jnp.linalg.inv(matrix), mean - m
        of_variance = jnp.linalg.slogdet(matrix)[1] + jnp.trace(inverse @ jnp.diag(v))
        return -0.5 * (prior.variance_count * counts * of_variance + prior.mean_count * away @ inverse @ away)

    counts = jnp.array([1, 0]) if kind == "tied" else jnp.ones(K)
    return jnp.sum(jax.vmap(of_state)(params.mean, matrices, counts))


@kinds
@pytest.mark.parametrize("prior", [None, PRIOR])
def test_the_m_step_is_that_of_a_loop(kind, prior, x64):
    got = jax.jit(emission_of(kind, prior).maximise)(start(kind), XS, WEIGHTS)
    want = by_loop(kind, prior, XS.reshape(-1, D), WEIGHTS.reshape(-1, K))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)
    assert isinstance(got, type(start(kind)))


@pytest.mark.some(2)
@kinds
def test_the_m_step_is_the_top_of_likelihood_and_prior(kind, x64):
    """No slope is left along what the kind of covariance may be."""
    emission = emission_of(kind, PRIOR)

    def free(params, by):
        mean, scale = params
        if kind == "spherical":
            by = by._replace(variance=jnp.broadcast_to(by.variance[:, :1], (K, D)))
        if kind == "tied":
            by = by._replace(covariance=jnp.broadcast_to(by.covariance[0], (K, D, D)))
        if kind in ("full", "tied"):
            return params._replace(mean=mean + by.mean, covariance=scale + by.covariance + by.covariance.mT)
        return params._replace(mean=mean + by.mean, variance=scale + by.variance)

    @jax.jit
    def slopes(params):
        best = emission.maximise(params, XS, WEIGHTS)

        def objective(by):
            params = free(best, by)
            return jnp.vdot(WEIGHTS, emission.log_prob(params, XS)) + log_prior(kind, PRIOR, params)

        return jax.grad(objective)(jax.tree.map(jnp.zeros_like, best))

    for slope in slopes(start(kind)):
        np.testing.assert_allclose(slope, 0, atol=1e-10)


@pytest.mark.learn
@kinds
def test_the_penalised_likelihood_never_falls(kind, x64):
    """Of likelihood, prior of Gaussians, and Dirichlet pseudocounts of the chain."""
    emission = emission_of(kind, PRIOR)
    counts: dict[str, Any] = {"initial_pseudocount": 0.5, "transition_pseudocount": 2.0}

    @jax.jit
    def step(params):
        fitted = hmm.fit(emission, K, XS, params=params, max_iterations=1, tolerance=0, **counts)
        chain = 0.5 * jnp.sum(params.log_initial) + 2.0 * jnp.sum(params.log_transition)
        penalty = chain + log_prior(kind, PRIOR, params.emission)
        return fitted.log_likelihoods[0, 0] + penalty, fitted.params

    half = jnp.log(jnp.full((K, K), 0.5))
    params, values = hmm.Params(half[0], half, jax.tree.map(jnp.asarray, start(kind))), []
    for _ in range(15):
        value, params = step(params)
        values.append(float(value))
    assert np.diff(values).min() > -1e-9
    assert values[-1] > values[0] + 1
    if kind in ("spherical", "tied"):
        scale = np.asarray(params.emission[1])
        np.testing.assert_array_equal(
            scale, np.broadcast_to(scale[:, :1] if kind == "spherical" else scale[:1], scale.shape)
        )


@pytest.mark.learn
def test_a_prior_keeps_a_state_of_one_point_from_collapsing(x64):
    point = np.zeros((5, 1, 1))
    weights = np.array([1.0, 0, 0, 0, 0]).reshape(5, 1, 1) * np.array([1.0, 0.0])
    own = hmm.GaussianParams(np.array([[5.0], [5.0]]), np.array([[7.0], [7.0]]))
    maximise = lambda prior: jax.jit(hmm.gaussian(prior=prior).maximise)(own, point, weights)
    without, with_one = maximise(None), maximise(hmm.GaussianPrior(variance=4.0, variance_count=3.0))
    assert without.variance[0, 0] == 1e-3
    np.testing.assert_allclose(with_one.variance[:, 0], [3.0, 4.0])  # a state without points has the prior's
    np.testing.assert_array_equal(with_one.mean[:, 0], [0.0, 5.0])


@pytest.mark.learn
@pytest.mark.parametrize(
    "learn",
    [("mean", "log_initial"), ("variance", "log_transition"), ("emission",), ("log_transition", "emission"), ()],
)
def test_what_is_not_learned_stays_and_the_likelihood_never_falls(learn, x64):
    generator = np.random.default_rng(2)
    chain = np.log(generator.dirichlet(np.ones(K))), np.log(generator.dirichlet(np.ones(K), K))
    params = hmm.Params(*chain, start("diagonal"))
    fitted = hmm.fit(emission_of("diagonal", None), K, XS, params=params, learn=learn, max_iterations=12, tolerance=0)
    history = np.asarray(fitted.log_likelihoods[0, : fitted.iterations[0] + 1])
    assert np.diff(history).min() > -1e-9
    assert history[-1] > history[0] or learn == ()
    before, after = ({**p._asdict(), **p.emission._asdict()} for p in (params, fitted.params))
    for name in ("log_initial", "log_transition", "mean", "variance"):
        is_held = name not in learn and not (name in ("mean", "variance") and "emission" in learn)
        assert np.array_equal(before[name], after[name]) == is_held, name


def test_errors():
    xs, key = XS.astype(np.float32), jax.random.key(0)
    own = hmm.gaussian()._replace(maximise=lambda params, xs, weights: params)
    for call, error, message in (
        (lambda: hmm.gaussian(covariance="diag"), ValueError, "`covariance` must be 'diagonal' or 'spherical'"),
        (
            lambda: hmm.gaussian(prior=untyped(1.0)),
            TypeError,
            "`prior` must be an hmm.GaussianPrior or None; got float",
        ),
        (
            lambda: hmm.gaussian(prior=hmm.GaussianPrior(variance=0.0)),
            ValueError,
            "`prior.variance` must be a positive",
        ),
        (lambda: hmm.gaussian(prior=hmm.GaussianPrior(mean_count=-1)), ValueError, "`prior.mean_count` must be"),
        (
            lambda: hmm.gaussian(prior=hmm.GaussianPrior(mean=untyped("0"))),
            TypeError,
            "`prior.mean` must be a finite number",
        ),
        (lambda: hmm.gaussian(prior=hmm.GaussianPrior(mean=np.nan)), ValueError, "`prior.mean` must be"),
        (
            lambda: hmm.fit(hmm.gaussian(prior=hmm.GaussianPrior(mean=(0.0,) * 3)), 2, xs, key=key),
            ValueError,
            "`prior.mean` must be one number, or one for each of D = 2; got 3",
        ),
        (lambda: hmm.fit(hmm.gaussian(), 2, xs, key=key, learn="mean"), TypeError, "`learn` must be a sequence"),
        (lambda: hmm.fit(hmm.gaussian(), 2, xs, key=key, learn=["means"]), ValueError, "mean, variance; got 'means'"),
        (lambda: hmm.fit(own, 2, xs, key=key, learn=["mean"]), ValueError, "log_transition, emission; got 'mean'"),
    ):
        with pytest.raises(error, match=message):
            call()
