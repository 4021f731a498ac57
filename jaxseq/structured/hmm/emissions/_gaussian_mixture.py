"""Emissions that are mixtures of M Gaussians with diagonal covariances.

    p(x | k) = Σ_m c_km N(x; μ_km, σ²_km)
    maximise    r_t[k, m] = w_t[k] c_km N(x_t; μ_km, σ²_km) / p(x_t | k)        with the old params
                c_km = Σ_t r_t[k, m] / Σ_t w_t[k], and μ, σ² of each component as for a Gaussian, with weights r

Since the component is not observed, this is a step of EM: it increases the weighted likelihood; repeated, it maximises
it.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.structured._chain import draw_states
from jaxseq.structured.hmm.emissions._check import features, fields, learned
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._gaussian import log_density
from jaxseq.structured.hmm.emissions._rows import (
    log_shares,
    means,
    rows_seen,
    shares,
    spread,
    squared_distance,
    start,
    variances,
)
from jaxseq.structured.semiring import log_sum
from jaxseq.typing import AnyArray


class GaussianMixtureParams(NamedTuple):
    """`log_weights [K, M]`, `mean [K, M, D]`, `variance [K, M, D]`."""

    log_weights: AnyArray
    mean: AnyArray
    variance: AnyArray


def gaussian_mixture(components: int, *, floor: float = 1e-3) -> Emission:
    """Returns the emission that is a mixture of Gaussians with diagonal covariances, for observations `[T, B, D]`.

    Features may be missing. EM starts from rows of the data: one for each state, far from each other, with components
    at rows near it. Weights start equal, and variances are those of all data.

    Args:
      components: M, the number of components in each state.
      floor: the least variance, in squared units of the data.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    return _gaussian_mixture(check.positive_int("components", components), check.positive_finite("floor", floor))


@factory
def _gaussian_mixture(components, floor):
    def own(params):
        return fields(params, GaussianMixtureParams, "K, M", "K, M, D", "K, M, D")

    def init(key, states, xs, mask):
        xs, seen = features(xs)
        xs, weights, _, variance = start(xs, mask, seen)
        key_states, key_near = jax.random.split(key)
        log_seen = jnp.log(weights[:, 0])

        def near(key, row):
            closeness = -0.5 * squared_distance(xs, row, variance)
            return spread(key, xs, log_seen + closeness, variance, components)

        mean = jax.vmap(near)(jax.random.split(key_near, states), spread(key_states, xs, log_seen, variance, states))
        return GaussianMixtureParams(
            log_weights=jnp.full(mean.shape[:2], -math.log(components), mean.dtype),
            mean=mean,
            variance=jnp.broadcast_to(jnp.maximum(variance, floor), mean.shape),
        )

    def log_joint(params, xs, seen):
        """Returns log p(x, m | k) `[..., K, M]`."""
        density = log_density(xs, seen, params.mean, params.variance)
        return expand_rank(params.log_weights, density) + density

    def log_prob(params, xs):
        params = own(params)
        return log_sum(log_joint(params, *features(xs, params.mean.shape[-1])), -1)

    def maximise(params, xs, weights, learn=None):
        params = own(params)
        xs, seen = features(xs, params.mean.shape[-1])
        xs, weights, seen = rows_seen(xs, weights, seen)
        responsible = weights[..., None] * jax.nn.softmax(log_joint(params, xs, seen), -1)
        total, share = shares(responsible.reshape(len(xs), -1), seen)
        log_weights = params.log_weights
        mean, variance = (x.reshape(-1, x.shape[-1]) for x in (params.mean, params.variance))
        if learned(learn, "log_weights"):
            log_weights = log_shares(jnp.sum(responsible, 0), log_weights)
        if learned(learn, "mean"):
            mean = jnp.where(total > 0, means(xs, share), mean)
        if learned(learn, "variance"):
            variance = jnp.where(total > 0, jnp.maximum(variances(xs, share, mean), floor), variance)
        return GaussianMixtureParams(
            log_weights, mean.reshape(params.mean.shape), variance.reshape(params.variance.shape)
        )

    def sample(key, params, states):
        params = own(params)
        key_component, key_noise = jax.random.split(key)
        component = draw_states(key_component, params.log_weights[states], states.shape)
        mean, variance = params.mean[states, component], params.variance[states, component]
        mean = jnp.where(component[..., None] < 0, jnp.nan, mean)
        return mean + jnp.sqrt(variance) * jax.random.normal(key_noise, mean.shape, mean.dtype)

    return Emission(init, log_prob, maximise, sample, by_feature=True)
