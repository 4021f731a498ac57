"""Gaussian emissions of features that are independent in each state.

    log p(x | k) = -1/2 Σ_d (x_d - μ_kd)² / σ²_kd + log 2π σ²_kd
    maximise    μ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]         σ²_k = Σ_t w_t[k] (x_t - μ_k)² / Σ_t w_t[k]

A variance below the floor is set to it, which is the maximum among those that are not: the likelihood still rises.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.structured.hmm.emissions._check import features
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._rows import begin, moments, rows, spread


class GaussianParams(NamedTuple):
    """`mean [K, D]`, `variance [K, D]`."""

    mean: jax.Array
    variance: jax.Array


def gaussian(*, floor: float = 1e-3) -> Emission:
    """Returns the Gaussian emission with diagonal covariance, of observations `[T, B, D]`.

    EM starts from means that are rows of the data far from each other, and the variance of all data.

    Args:
      floor: the least variance, in squared units of the data: a state that explains one point would else have none.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> params = GaussianParams(mean=jnp.array([[0.0], [3.0]]), variance=jnp.array([[1.0], [4.0]]))
    >>> [f"{x:.4f}" for x in gaussian().log_prob(params, jnp.array([[0.0]]))[0]]
    ['-0.9189', '-2.7371']
    """
    return _gaussian(check.positive("floor", floor))


@functools.cache
def _gaussian(floor):
    def init(key, states, xs, mask):
        xs, seen = begin(features(xs), mask)
        variance = moments(xs, seen).variance
        mean = spread(key, xs, jnp.log(seen[:, 0]), variance[0], states)
        return GaussianParams(mean, jnp.tile(jnp.maximum(variance, floor), (states, 1)))

    def log_prob(params, xs):
        return log_density(features(xs, params.mean.shape[-1]), *params)

    def maximise(params, xs, weights):
        total, mean, variance = moments(*rows(features(xs, params.mean.shape[-1]), weights))
        seen = total[:, None] > 0
        return GaussianParams(
            jnp.where(seen, mean, params.mean), jnp.where(seen, jnp.maximum(variance, floor), params.variance)
        )

    def sample(key, params, states):
        mean, variance = params.mean[states], params.variance[states]
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)

    return Emission(init, log_prob, maximise, sample)


def log_density(xs: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Returns log-densities `[T, B, ...]` of xs `[T, B, D]` under Gaussians with mean and variance `[..., D]`."""
    xs = xs.reshape(*xs.shape[:-1], *[1] * (mean.ndim - 1), xs.shape[-1])
    log_scale = jnp.sum(jnp.log(2 * math.pi * variance), -1)
    return -0.5 * (jnp.sum(jnp.square(xs - mean) / variance, -1) + log_scale)
