"""hmmlearn on the same models, in float64: likelihoods, posteriors, Viterbi paths, steps and whole runs of EM.

Its priors are set so that they add nothing. Its data are one sequence after the other, with their lengths.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hmmlearn import hmm as peer

import jaxseq
from jaxseq.structured import hmm
from tests.untyped import untyped

pytestmark = [
    pytest.mark.usefixtures("x64"),
    pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning"),  # hmmlearn does
]

K, D, M, V, T = 3, 2, 2, 4, 40
LENGTHS = [40, 25, 1, 33]
MASK = np.asarray(jaxseq.lengths_to_mask(np.array(LENGTHS), T))
NO_PRIOR = {"covars_prior": 0, "covars_weight": 1}


def chain(generator):
    return generator.dirichlet(np.ones(K)), generator.dirichlet(np.ones(K), K)


def case(name) -> tuple[hmm.Emission, hmm.Params, Any, Any]:
    """The emission, params to start from, observations, and hmmlearn's model of the same start."""
    generator = np.random.default_rng(0)
    initial, transition = chain(generator)
    options = {"n_components": K, "init_params": "", "tol": -np.inf}
    mean = generator.normal(0, 2, size=(K, D))
    if name == "categorical":
        emission, p = hmm.categorical(V), generator.dirichlet(np.ones(V), K)
        params, xs = hmm.CategoricalParams(jnp.log(p)), generator.integers(V, size=(T, len(LENGTHS)))
        theirs = peer.CategoricalHMM(n_features=V, **options)
        theirs.emissionprob_ = p
    elif name == "poisson":
        emission, rate = hmm.poisson(), generator.gamma(3, size=(K, D))
        params, xs = hmm.PoissonParams(jnp.array(rate)), generator.poisson(3, size=(T, len(LENGTHS), D))
        theirs = peer.PoissonHMM(**options)
        theirs.lambdas_ = rate
    else:
        xs = generator.normal(0, 2, size=(T, len(LENGTHS), D))
        if name == "gaussian":
            emission, variance = hmm.gaussian(), generator.gamma(2, size=(K, D))
            params = hmm.GaussianParams(jnp.array(mean), jnp.array(variance))
            theirs = peer.GaussianHMM(covariance_type="diag", **NO_PRIOR, **options)
            theirs.means_, theirs.covars_ = mean, variance
        elif name == "full_gaussian":
            root = generator.normal(size=(K, D, D))
            covariance = root @ root.transpose(0, 2, 1) + np.eye(D)
            emission, params = hmm.full_gaussian(), hmm.FullGaussianParams(jnp.array(mean), jnp.array(covariance))
            theirs = peer.GaussianHMM(covariance_type="full", **NO_PRIOR, **options)
            theirs.means_, theirs.covars_ = mean, covariance
        else:
            weights, mean = generator.dirichlet(np.ones(M), K), generator.normal(0, 2, size=(K, M, D))
            variance = generator.gamma(2, size=(K, M, D))
            emission = hmm.gaussian_mixture(M)
            params = hmm.GaussianMixtureParams(jnp.log(weights), jnp.array(mean), jnp.array(variance))
            theirs = peer.GMMHMM(n_mix=M, covariance_type="diag", random_state=0, **options)
            theirs.weights_, theirs.means_, theirs.covars_ = weights, mean, variance
    theirs.startprob_, theirs.transmat_ = initial, transition
    return emission, hmm.Params(jnp.log(initial), jnp.log(transition), params), xs, theirs


def joined(xs):
    """Steps of `[T, B, ...]` as hmmlearn takes them."""
    rows = np.concatenate([np.asarray(xs)[:n, b] for b, n in enumerate(LENGTHS)])
    return rows[:, None] if rows.ndim == 1 else rows


def their_emission(name, theirs):
    if name == "categorical":
        return hmm.CategoricalParams(np.log(theirs.emissionprob_))
    if name == "poisson":
        return hmm.PoissonParams(theirs.lambdas_)
    if name == "gaussian":
        return hmm.GaussianParams(theirs.means_, np.diagonal(theirs.covars_, axis1=1, axis2=2))
    if name == "full_gaussian":
        return hmm.FullGaussianParams(theirs.means_, theirs.covars_)
    return hmm.GaussianMixtureParams(np.log(theirs.weights_), theirs.means_, theirs.covars_)


EXACT = ["categorical", "gaussian", "full_gaussian", "poisson"]
ALL = [*EXACT, "gaussian_mixture"]


@pytest.mark.parametrize("name", ALL)
def test_likelihood_posteriors_and_best_paths_agree(name):
    emission, params, xs, theirs = case(name)
    log_obs = hmm.observe(emission, params.emission, xs, mask=MASK)
    model = params.log_initial, params.log_transition, log_obs
    theirs._check()
    likelihood = hmm.log_likelihood(*model, mask=MASK)
    for b, n in enumerate(LENGTHS):
        np.testing.assert_allclose(likelihood[b], theirs.score(joined(xs)[sum(LENGTHS[:b]) :][:n]), rtol=1e-11)
    posteriors = np.exp(joined(hmm.smooth(*model, mask=MASK)))
    np.testing.assert_allclose(posteriors, theirs.predict_proba(joined(xs), LENGTHS), atol=1e-11)
    states, score = hmm.viterbi(*model, mask=MASK)
    total, best = theirs.decode(joined(xs), LENGTHS)
    np.testing.assert_allclose(score.sum(), total, rtol=1e-11)
    np.testing.assert_array_equal(joined(states)[:, 0], best)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("iterations", [1, 15])
def test_em_agrees(name, iterations):
    emission, params, xs, theirs = case(name)
    theirs.n_iter = theirs.monitor_.n_iter = iterations
    theirs.fit(joined(xs), LENGTHS)
    ours = hmm.fit(emission, K, xs, mask=MASK, params=params, max_iterations=iterations, tolerance=0)
    assert ours.iterations[0] == iterations
    np.testing.assert_allclose(ours.log_likelihoods[0, :-1], list(theirs.monitor_.history), rtol=1e-9)
    np.testing.assert_allclose(ours.log_likelihoods[0, -1], theirs.score(joined(xs), LENGTHS), rtol=1e-9)
    np.testing.assert_allclose(jnp.exp(ours.params.log_initial), theirs.startprob_, atol=1e-7)
    np.testing.assert_allclose(jnp.exp(ours.params.log_transition), theirs.transmat_, atol=1e-7)
    want = their_emission(name, theirs)
    for a, b in zip(ours.params.emission, want, strict=True):
        np.testing.assert_allclose(
            *((jnp.exp(a), np.exp(b)) if name == "categorical" else (a, b)), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("kind", ["diagonal", "spherical", "full", "tied"])
@pytest.mark.parametrize("learned", ["stmc", "mt"])  # without "m" it forgets a sum that "c" needs
def test_em_with_priors_agrees(kind, learned):
    """Of all, and of what is to be learned: start, transitions, means, covariances."""
    generator = np.random.default_rng(1)
    initial, transition = chain(generator)
    mean, xs = generator.normal(0, 2, size=(K, D)), generator.normal(0, 2, size=(T, len(LENGTHS), D))
    full = kind in ("full", "tied")
    prior = hmm.GaussianPrior(mean=0.5, mean_count=2.0, variance=1.5, variance_count=4.0)
    squares = 1.5 * prior.variance_count  # what hmmlearn calls covars_prior
    theirs = untyped(peer.GaussianHMM)(
        n_components=K,
        covariance_type={"diagonal": "diag"}.get(kind, kind),
        init_params="",
        params=learned,
        n_iter=8,
        tol=-np.inf,
        startprob_prior=1.5,
        transmat_prior=3.0,
        means_prior=prior.mean,
        means_weight=prior.mean_count,
        covars_prior=squares * np.eye(D) if full else squares,
        covars_weight=prior.variance_count + (D if full else 1),
    )
    theirs.startprob_, theirs.transmat_, theirs.means_ = initial, transition, mean
    theirs.covars_ = {"diagonal": np.ones((K, D)), "spherical": np.ones(K), "tied": np.eye(D)}.get(
        kind, np.stack([np.eye(D)] * K)
    )
    covariance = np.stack([np.eye(D)] * K) if full else np.ones((K, D))
    params = (hmm.FullGaussianParams if full else hmm.GaussianParams)(jnp.array(mean), jnp.array(covariance))
    names = {"s": "log_initial", "t": "log_transition", "m": "mean", "c": "covariance" if full else "variance"}
    ours = hmm.fit(
        hmm.gaussian(covariance=kind, prior=prior),
        K,
        xs,
        mask=MASK,
        params=hmm.Params(jnp.log(initial), jnp.log(transition), params),
        learn=[names[letter] for letter in learned],
        max_iterations=8,
        tolerance=0,
        initial_pseudocount=0.5,
        transition_pseudocount=2.0,
    )
    theirs.fit(joined(xs), LENGTHS)
    np.testing.assert_allclose(ours.log_likelihoods[0, :-1], list(theirs.monitor_.history), rtol=1e-9)
    np.testing.assert_allclose(jnp.exp(ours.params.log_initial), theirs.startprob_, atol=1e-9)
    np.testing.assert_allclose(jnp.exp(ours.params.log_transition), theirs.transmat_, atol=1e-9)
    np.testing.assert_allclose(ours.params.emission.mean, theirs.means_, rtol=1e-8)
    found = theirs._covars_ if full else theirs._covars_.reshape(K, -1)  # a spherical `covars_` has too many axes there
    np.testing.assert_allclose(
        ours.params.emission[1], np.broadcast_to(found, ours.params.emission[1].shape), rtol=1e-8, atol=1e-12
    )


def test_a_step_of_a_mixture_agrees():
    """hmmlearn's variances are about the means of before: larger by the square of how far these have moved."""
    emission, params, xs, theirs = case("gaussian_mixture")
    theirs.n_iter = theirs.monitor_.n_iter = 1
    theirs.fit(joined(xs), LENGTHS)
    ours = hmm.fit(emission, K, xs, mask=MASK, params=params, max_iterations=1, tolerance=0)
    np.testing.assert_allclose(ours.log_likelihoods[0, 0], theirs.monitor_.history[0], rtol=1e-11)
    log_weights, mean, variance = ours.params.emission
    np.testing.assert_allclose(jnp.exp(log_weights), theirs.weights_, rtol=1e-10)
    np.testing.assert_allclose(mean, theirs.means_, rtol=1e-10)
    np.testing.assert_allclose(variance + (mean - params.emission.mean) ** 2, theirs.covars_, rtol=1e-9)


def test_a_mixture_climbs_to_where_hmmlearn_stands_still():
    emission, params, xs, theirs = case("gaussian_mixture")
    ours = hmm.fit(emission, K, xs, mask=MASK, params=params, max_iterations=3000, tolerance=1e-13).params
    theirs.n_iter = theirs.monitor_.n_iter = 1
    theirs.startprob_, theirs.transmat_ = np.exp(ours.log_initial), np.exp(ours.log_transition)
    log_weights, theirs.means_, theirs.covars_ = map(np.asarray, ours.emission)
    theirs.weights_ = np.exp(log_weights)
    theirs.fit(joined(xs), LENGTHS)
    for a, b in zip(ours.emission, their_emission("gaussian_mixture", theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_draws_of_ours_score_alike(name):
    emission, params, _, theirs = case(name)
    states, xs = hmm.simulate(jax.random.key(0), emission, params, T, batch_shape=(len(LENGTHS),))
    theirs._check()
    log_obs = hmm.observe(emission, params.emission, xs)
    total = hmm.log_likelihood(params.log_initial, params.log_transition, log_obs, mask=MASK).sum()
    np.testing.assert_allclose(total, theirs.score(joined(xs), LENGTHS), rtol=1e-11)
    assert states.max() < K
