"""Gaussian emissions of features that depend on each other.

    log p(x | k) = -1/2 ((x - μ_k)ᵀ Σ_k⁻¹ (x - μ_k) + log det 2π Σ_k)
    maximise    μ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]         Σ_k = Σ_t w_t[k] (x_t - μ_k)(x_t - μ_k)ᵀ / Σ_t w_t[k]

Eigenvalues of Σ_k below the floor are set to it, its eigenvectors kept, which is the maximum among those matrices that
have none: the likelihood still rises.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxseq import check
from jaxseq.structured.hmm.emissions._check import features
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._rows import PRECISE, begin, moments, rows, shares, spread


class FullGaussianParams(NamedTuple):
    """`mean [K, D]`, `covariance [K, D, D]`."""

    mean: jax.Array
    covariance: jax.Array


def full_gaussian(*, floor: float = 1e-3) -> Emission:
    """Returns the Gaussian emission with a full covariance, of observations `[T, B, D]`.

    EM starts from means that are rows of the data far from each other, and the covariance of all data.

    Args:
      floor: the least variance in any direction, in squared units of the data.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    return _full_gaussian(check.positive("floor", floor))


@functools.cache
def _full_gaussian(floor):
    def init(key, states, xs, mask):
        xs, seen = begin(features(xs), mask)
        _, mean, variance = moments(xs, seen)
        covariance = _raise(_covariances(xs, shares(seen)[1], mean), floor)
        means = spread(key, xs, jnp.log(seen[:, 0]), variance[0], states)
        return FullGaussianParams(means, jnp.tile(covariance, (states, 1, 1)))

    def log_prob(params, xs):
        xs = features(xs, params.mean.shape[-1])
        flat = xs.reshape(math.prod(xs.shape[:-1]), xs.shape[-1])
        each = _log_densities(flat, params.mean, jnp.linalg.cholesky(params.covariance))
        return each.T.reshape(*xs.shape[:-1], each.shape[0])

    def maximise(params, xs, weights):
        xs, weights = rows(features(xs, params.mean.shape[-1]), weights)
        total, share = shares(weights)
        mean = jnp.einsum("nk,nd->kd", share, xs, precision=PRECISE)
        covariance = _raise(_covariances(xs, share, mean), floor)
        seen = total[:, None] > 0
        return FullGaussianParams(
            jnp.where(seen, mean, params.mean), jnp.where(seen[..., None], covariance, params.covariance)
        )

    def sample(key, params, states):
        factor = jnp.linalg.cholesky(params.covariance)[states]
        mean = params.mean[states]
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        return mean + jnp.einsum("...de,...e->...d", factor, noise, precision=PRECISE)

    return Emission(init, log_prob, maximise, sample)


@jax.jit
def _log_densities(xs, mean, factor):
    """Log-densities `[K, N]` of xs `[N, D]`, by means `[K, D]` and the covariances' Cholesky factors `[K, D, D]`."""

    def of_state(state):  # one at a time, as xs - mean of all would be K times the data
        mean, factor = state
        whitened = solve_triangular(factor, (xs - mean).T, lower=True)
        log_scale = jnp.sum(jnp.log(2 * math.pi * jnp.square(jnp.diagonal(factor))))
        return -0.5 * (jnp.sum(jnp.square(whitened), 0) + log_scale)

    return jax.lax.map(of_state, (mean, factor))


@jax.jit
def _covariances(xs, share, mean):
    """Covariances `[K, D, D]` of xs `[N, D]`, by shares `[N, K]`, about the means `[K, D]`."""

    def of_state(state):
        share, mean = state
        return jnp.einsum("n,nd,ne->de", share, xs - mean, xs - mean, precision=PRECISE)

    return jax.lax.map(of_state, (share.T, mean))


def _raise(covariance, floor):
    """Covariances `[K, D, D]` with eigenvalues of at least the floor."""
    values, vectors = jnp.linalg.eigh(covariance)
    return jnp.einsum("kde,ke,kfe->kdf", vectors, jnp.maximum(values, floor), vectors, precision=PRECISE)
