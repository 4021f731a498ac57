"""Gaussian emissions with features that are independent given the state.

    log p(x | k) = -1/2 Σ_d (x_d - μ_kd)² / σ²_kd + log 2π σ²_kd
    maximise    μ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]         σ²_k = Σ_t w_t[k] (x_t - μ_k)² / Σ_t w_t[k]

A feature counts only on steps where it is seen. "spherical" has one σ²_k for all features, their mean. A variance below
the floor is raised to it. This is the maximum over variances that are not below the floor, so the likelihood still
rises.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.structured.hmm.emissions import _prior
from jaxseq.structured.hmm.emissions._check import features, fields, learned
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._full_gaussian import full_covariance
from jaxseq.structured.hmm.emissions._prior import GaussianPrior
from jaxseq.structured.hmm.emissions._rows import means, rows_seen, shares, spread, start, variances
from jaxseq.typing import AnyArray


class GaussianParams(NamedTuple):
    """`mean [K, D]` and `variance [K, D]`; with spherical covariance, a state's variances are equal."""

    mean: AnyArray
    variance: AnyArray


def gaussian(*, covariance: str = "diagonal", floor: float = 1e-3, prior: GaussianPrior | None = None) -> Emission:
    """Returns the Gaussian emission, for observations `[T, B, D]` whose features may be missing.

    EM starts from means that are rows of the data far from each other, and from the variance or covariance of all data.

    Args:
      covariance: the covariance of each state. "diagonal", or "spherical" (one variance for all features), with
        `GaussianParams`; "full", or "tied" (full, and equal in all states), with `FullGaussianParams`.
      floor: the least variance, in any direction for full covariances, in squared units of the data. Without it a state
        that explains a single point would have a variance of 0.
      prior: observations that are added to those of each state. None: no prior. With a prior, EM maximises the
        likelihood times the prior, and the likelihood itself may fall.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> params = GaussianParams(mean=jnp.array([[0.0], [3.0]]), variance=jnp.array([[1.0], [4.0]]))
    >>> [f"{x:.4f}" for x in gaussian().log_prob(params, jnp.array([[0.0]]))[0]]
    ['-0.9189', '-2.7371']
    """
    check.one_of("covariance", covariance, ("diagonal", "spherical", "full", "tied"))
    return _gaussian(
        covariance, check.positive_finite("floor", floor), None if prior is None else _prior.checked(prior)
    )


@factory
def _gaussian(covariance, floor, prior):
    prior = GaussianPrior() if prior is None else prior
    if covariance in ("full", "tied"):
        return full_covariance(covariance == "tied", floor, prior)
    spherical = covariance == "spherical"

    def own(params):
        return fields(params, GaussianParams, "K, D", "K, D")

    def init(key, states, xs, mask):
        xs, seen = features(xs)
        xs, weights, _, variance = start(xs, mask, seen)
        mean = spread(key, xs, jnp.log(weights[:, 0]), variance, states)
        variance = jnp.broadcast_to(jnp.mean(variance), variance.shape) if spherical else variance
        return GaussianParams(mean, jnp.tile(jnp.maximum(variance, floor), (states, 1)))

    def log_prob(params, xs):
        params = own(params)
        return log_density(*features(xs, params.mean.shape[-1]), *params)

    def maximise(params, xs, weights, learn=None):
        params = own(params)
        xs, seen = features(xs, params.mean.shape[-1])
        xs, weights, seen = rows_seen(xs, weights, seen)
        total, share = shares(weights, seen)
        mean, variance = params
        if learned(learn, "mean"):
            mean = jnp.where(total + prior.mean_count > 0, _prior.pulled(prior, total, means(xs, share)), mean)
        if learned(learn, "variance"):
            squares = total * variances(xs, share, mean) + _prior.added(prior, mean)
            count = jnp.broadcast_to(total + prior.variance_count, squares.shape)
            if spherical:
                squares, count = (jnp.broadcast_to(jnp.sum(x, -1, keepdims=True), x.shape) for x in (squares, count))
            best = jnp.maximum(squares / jnp.where(count > 0, count, 1), floor)
            variance = jnp.where(count > 0, best, variance)
        return GaussianParams(mean, variance)

    def sample(key, params, states):
        params = own(params)
        mean, variance = params.mean[states], params.variance[states]
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)

    return Emission(init, log_prob, maximise, sample, by_feature=True)


def log_density(xs: jax.Array, seen: jax.Array | None, mean: AnyArray, variance: AnyArray) -> jax.Array:
    """Returns log-densities `[T, B, ...]` of xs `[T, B, D]` under Gaussians with mean and variance `[..., D]`.

    With `seen`, bool `[T, B, D]`, they are those of the seen features.
    """

    def between(x: Any):
        return x.reshape(*x.shape[:-1], *[1] * (mean.ndim - 1), x.shape[-1])

    xs = between(xs)
    of_mean, of_variance = expand_rank(mean, xs), expand_rank(variance, xs)
    squares = jnp.square(xs - of_mean) / of_variance
    log_scale = jnp.log(2 * math.pi * of_variance)
    if seen is not None:
        squares, log_scale = (jnp.where(between(seen), x, 0) for x in (squares, log_scale))
    return -0.5 * (jnp.sum(squares, -1) + jnp.sum(log_scale, -1))
