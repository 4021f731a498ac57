"""Gaussian emissions with a full covariance, so that features may depend on each other.

    log p(x | k) = -1/2 ((x - μ_k)ᵀ Σ_k⁻¹ (x - μ_k) + log det 2π Σ_k)
    maximise    μ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]         Σ_k = Σ_t w_t[k] (x_t - μ_k)(x_t - μ_k)ᵀ / Σ_t w_t[k]

"tied" has one Σ for all states, their weighted mean. Eigenvalues of Σ_k below the floor are raised to it, and its
eigenvectors are kept. This is the maximum over matrices without eigenvalues below the floor, so the likelihood still
rises.

If a step has missing features u and seen features s, the density is that of x_s, which is Gaussian too. The M-step is
then a step of EM (Ghahramani & Jordan 1994): x_u and its square are replaced by their expectations under the old
params,

    E[x_u | x_s] = μ_u + Σ_us Σ_ss⁻¹ (x_s - μ_s)        Cov[x_u | x_s] = Σ_uu - Σ_us Σ_ss⁻¹ Σ_su

It increases the weighted likelihood; repeated, it maximises it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxseq import check
from jaxseq._factory import factory
from jaxseq.structured.hmm.emissions import _prior
from jaxseq.structured.hmm.emissions._check import features, fields, learned
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._prior import GaussianPrior
from jaxseq.structured.hmm.emissions._rows import PRECISE, rows_seen, shares, spread, start
from jaxseq.typing import AnyArray


class FullGaussianParams(NamedTuple):
    """`mean [K, D]` and `covariance [K, D, D]`; tied covariances are equal."""

    mean: AnyArray
    covariance: AnyArray


def full_gaussian(*, floor: float = 1e-3) -> Emission:
    """Returns `gaussian(covariance="full")`: a Gaussian emission with a full covariance for each state.

    EM starts from means that are rows of the data far from each other, and from the covariance of all data.

    Args:
      floor: the least variance in any direction, in squared units of the data.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    return _full_gaussian(check.positive_finite("floor", floor))


@factory
def _full_gaussian(floor):
    return full_covariance(False, floor, GaussianPrior())


@functools.cache
def full_covariance(tied: bool, floor: float, prior: GaussianPrior) -> Emission:
    """Returns the emission for checked options."""

    def own(params):
        return fields(params, FullGaussianParams, "K, D", "K, D, D")

    def init(key, states, xs, mask):
        xs, seen = features(xs)
        xs, weights, mean, variance = start(xs, mask, seen)
        covariance = _covariances(xs, shares(weights)[1][..., 0], mean[None])
        # Missing features are filled with the mean, so the variance that they lack is added.
        lost = variance - jnp.diagonal(covariance[0])
        covariance = _raise(covariance + jnp.diag(jnp.maximum(lost, 0))[None], floor)
        means = spread(key, xs, jnp.log(weights[:, 0]), variance, states)
        return FullGaussianParams(means, jnp.tile(covariance, (states, 1, 1)))

    def log_prob(params, xs):
        params = own(params)
        xs, seen = features(xs, params.mean.shape[-1])
        flat, steps = xs.reshape(math.prod(xs.shape[:-1]), xs.shape[-1]), xs.shape[:-1]
        if seen is None:
            each = _log_densities(flat, params.mean, jnp.linalg.cholesky(params.covariance))
        else:
            each = _log_densities_of_seen(flat, seen.reshape(flat.shape), *params)
        return each.T.reshape(*steps, each.shape[0])

    def maximise(params, xs, weights, learn=None):
        params = own(params)
        xs, seen = features(xs, params.mean.shape[-1])
        xs, weights, seen = rows_seen(xs, weights, seen)
        total, share = shares(weights)
        share, old = share[..., 0], params
        if learned(learn, "mean"):
            if seen is None:
                mean = jnp.einsum("nk,nd->kd", share, xs, precision=PRECISE)
            else:
                mean = _expected_means(xs, seen, share, *old)
            mean = jnp.where(total + prior.mean_count > 0, _prior.pulled(prior, total, mean), params.mean)
            params = params._replace(mean=mean)
        if learned(learn, "covariance"):
            if seen is None:
                covariance = _covariances(xs, share, params.mean)
            else:
                covariance = _expected_covariances(xs, seen, share, params.mean, *old)
            of_variance, of_mean = _prior.added_matrices(prior, params.mean)
            squares, count = total[..., None] * covariance + of_mean, total[..., None]
            if tied:
                squares, count = (jnp.sum(x, 0, keepdims=True) for x in (squares, count))
            count = count + prior.variance_count
            best = _raise((squares + of_variance[: len(squares)]) / jnp.where(count > 0, count, 1), floor)
            params = params._replace(covariance=jnp.where(count > 0, best, params.covariance))
        return params

    def sample(key, params, states):
        params = own(params)
        factor = jnp.linalg.cholesky(params.covariance)[states]
        mean = params.mean[states]
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        return mean + jnp.einsum("...de,...e->...d", factor, noise, precision=PRECISE)

    return Emission(init, log_prob, maximise, sample, by_feature=True)


@jax.jit
def _log_densities(xs, mean, factor):
    """Returns log-densities `[K, N]` of xs `[N, D]`, from means `[K, D]` and Cholesky factors `[K, D, D]`."""

    def of_state(state):  # one at a time, because xs - mean for all states would take K times the data
        mean, factor = state
        whitened = solve_triangular(factor, (xs - mean[None]).T, lower=True)
        log_scale = jnp.sum(jnp.log(2 * math.pi * jnp.square(jnp.diagonal(factor))))
        return -0.5 * (jnp.sum(jnp.square(whitened), 0) + log_scale)

    return jax.lax.map(of_state, (mean, factor))


@jax.jit
def _log_densities_of_seen(xs, seen, mean, covariance):
    """Returns log-densities `[K, N]` of the seen features, bool `[N, D]`, of xs `[N, D]`."""

    def of_state(state):
        mean, covariance = state
        factor = jnp.linalg.cholesky(_among_seen(covariance, seen))
        away = jnp.where(seen, xs - mean[None], 0)
        whitened = solve_triangular(factor, away[..., None], lower=True)[..., 0]
        log_scale = jnp.log(2 * math.pi * jnp.square(jnp.diagonal(factor, axis1=-2, axis2=-1)))
        return -0.5 * jnp.sum(jnp.square(whitened) + jnp.where(seen, log_scale, 0), -1)

    return jax.lax.map(of_state, (mean, covariance))


@jax.jit
def _covariances(xs, share, mean):
    """Returns covariances `[K, D, D]` of xs `[N, D]`, with shares `[N, K]`, around the means `[K, D]`."""

    def of_state(state):
        share, mean = state
        return jnp.einsum("n,nd,ne->de", share, xs - mean[None], xs - mean[None], precision=PRECISE)

    return jax.lax.map(of_state, (share.T, mean))


@jax.jit
def _expected_means(xs, seen, share, mean, covariance):
    """Returns means `[K, D]` of xs `[N, D]`, with missing features replaced by their expectations."""

    def of_state(state):
        share, mean, covariance = state
        return jnp.einsum("n,nd->d", share, _completed(xs, seen, mean, covariance)[0], precision=PRECISE)

    return jax.lax.map(of_state, (share.T, mean, covariance))


@jax.jit
def _expected_covariances(xs, seen, share, about, mean, covariance):
    """Returns covariances `[K, D, D]` around means `[K, D]`, expected under the params mean and covariance."""

    def of_state(state):
        share, about, mean, covariance = state
        completed, left = _completed(xs, seen, mean, covariance)
        away = completed - about[None]
        spread = jnp.einsum("n,nd,ne->de", share, away, away, precision=PRECISE)
        return spread + jnp.einsum("n,nde->de", share, left, precision=PRECISE)

    return jax.lax.map(of_state, (share.T, about, mean, covariance))


def _completed(xs, seen, mean, covariance):
    """Returns xs `[N, D]` with expected missing features, and their covariance `[N, D, D]`, zero for seen features."""
    factor = jnp.linalg.cholesky(_among_seen(covariance, seen))
    of_seen = jnp.where(seen[..., None], covariance[None], 0)  # rows of seen features
    gain = cho_solve((factor, True), of_seen)
    away = jnp.where(seen, xs - mean[None], 0)
    expected = mean[None] + jnp.einsum("nse,ns->ne", gain, away, precision=PRECISE)
    left = covariance[None] - jnp.einsum("nsd,nse->nde", gain, of_seen, precision=PRECISE)
    unseen = ~seen[..., :, None] & ~seen[..., None, :]
    return jnp.where(seen, xs, expected), jnp.where(unseen, left, 0)


def _among_seen(covariance, seen):
    """Returns the covariance of seen features `[N, D, D]`; the others have ones on the diagonal and zeros elsewhere."""
    unit = jnp.eye(len(covariance), dtype=covariance.dtype)[None]
    return jnp.where(seen[..., :, None] & seen[..., None, :], covariance[None], unit)


def _raise(covariance, floor):
    """Returns covariances `[K, D, D]` with eigenvalues raised to at least the floor."""
    values, vectors = jnp.linalg.eigh(covariance)
    return jnp.einsum("kde,ke,kfe->kdf", vectors, jnp.maximum(values, floor), vectors, precision=PRECISE)
