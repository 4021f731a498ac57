"""Emissions that are mixtures of M Gaussians with diagonal covariance.

    p(x | k) = Σ_m c_km N(x; μ_km, σ²_km)
    maximise    r_t[k, m] = w_t[k] c_km N(x_t; μ_km, σ²_km) / p(x_t | k)        by the old params
                c_km = Σ_t r_t[k, m] / Σ_t w_t[k], and μ, σ² of each component as for a Gaussian, of weights r

As the component is not observed, this is a step of EM: it raises the weighted likelihood, and repeated maximises it.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.structured.hmm.emissions._check import features
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._gaussian import log_density
from jaxseq.structured.hmm.emissions._rows import begin, log_shares, moments, rows, spread, squared_distance
from jaxseq.structured.semiring import log_sum


class GaussianMixtureParams(NamedTuple):
    """`log_weights [K, M]`, `mean [K, M, D]`, `variance [K, M, D]`."""

    log_weights: jax.Array
    mean: jax.Array
    variance: jax.Array


def gaussian_mixture(components: int, *, floor: float = 1e-3) -> Emission:
    """Returns the emission that is a mixture of Gaussians with diagonal covariance, of observations `[T, B, D]`.

    EM starts from a row of the data for each state, these far from each other, components at rows near it, equal
    weights, and the variance of all data.

    Args:
      components: M, of each state.
      floor: the least variance, in squared units of the data.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    return _gaussian_mixture(check.positive_int("components", components), check.positive("floor", floor))


@functools.cache
def _gaussian_mixture(components, floor):
    def init(key, states, xs, mask):
        xs, seen = begin(features(xs), mask)
        variance = moments(xs, seen).variance
        key_states, key_near = jax.random.split(key)
        log_seen = jnp.log(seen[:, 0])

        def near(key, row):
            closeness = -0.5 * squared_distance(xs, row, variance[0])
            return spread(key, xs, log_seen + closeness, variance[0], components)

        mean = jax.vmap(near)(jax.random.split(key_near, states), spread(key_states, xs, log_seen, variance[0], states))
        return GaussianMixtureParams(
            log_weights=jnp.full(mean.shape[:2], -math.log(components), mean.dtype),
            mean=mean,
            variance=jnp.broadcast_to(jnp.maximum(variance[0], floor), mean.shape),
        )

    def log_joint(params, xs):
        """Returns log p(x, m | k) `[..., K, M]`."""
        return params.log_weights + log_density(xs, params.mean, params.variance)

    def log_prob(params, xs):
        return log_sum(log_joint(params, features(xs, params.mean.shape[-1])), -1)

    def maximise(params, xs, weights):
        xs, weights = rows(features(xs, params.mean.shape[-1]), weights)
        responsible = weights[..., None] * jax.nn.softmax(log_joint(params, xs), -1)
        total, mean, variance = moments(xs, responsible.reshape(len(xs), -1))
        seen = total[:, None] > 0
        mean = jnp.where(seen, mean, params.mean.reshape(mean.shape))
        variance = jnp.where(seen, jnp.maximum(variance, floor), params.variance.reshape(mean.shape))
        return GaussianMixtureParams(
            log_weights=log_shares(total.reshape(params.log_weights.shape), params.log_weights),
            mean=mean.reshape(params.mean.shape),
            variance=variance.reshape(params.variance.shape),
        )

    def sample(key, params, states):
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, params.log_weights[states])
        mean, variance = params.mean[states, component], params.variance[states, component]
        return mean + jnp.sqrt(variance) * jax.random.normal(key_noise, mean.shape, mean.dtype)

    return Emission(init, log_prob, maximise, sample)
