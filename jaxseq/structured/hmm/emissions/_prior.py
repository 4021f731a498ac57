"""A conjugate prior for Gaussians, in the form of observations that are added to those of each state.

There are κ observations of value m for a state's mean, and ν of variance v for its variance. The state itself has n
observations with mean x̄ and sum of squares S around μ (Gauvain & Lee 1994):

    log p(μ, σ²) = -1/2 (ν log σ² + (ν v + κ (μ - m)²) / σ²) + constant        of each feature
    maximised by    μ = (κ m + n x̄) / (κ + n)        σ² = (ν v + κ (μ - m)² + S) / (ν + n)

For covariance matrices, ν v is ν diag(v), and (μ - m)² is the outer product: a normal-inverse-Wishart density.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._promote import expand_rank
from jaxseq.typing import AnyArray


class GaussianPrior(NamedTuple):
    """The mean and variance that each state is drawn towards, and how many observations they count as.

    Attributes:
      mean: m, one number, or one for each feature; the same for all states.
      mean_count: κ, the number of observations that `mean` counts as; 0: no prior on the mean.
      variance: v, one number, or one for each feature; the same for all states.
      variance_count: ν, the number of observations that `variance` counts as; 0: no prior on the variance.
    """

    mean: float | Sequence[float] = 0.0
    mean_count: float = 0.0
    variance: float | Sequence[float] = 1.0
    variance_count: float = 0.0


def checked(prior: Any) -> GaussianPrior:
    """Returns a checked prior of plain numbers; for None, one with counts of 0."""
    if prior is None:
        return GaussianPrior()
    if not isinstance(prior, GaussianPrior):
        raise TypeError(f"`prior` must be an hmm.GaussianPrior or None; got {type(prior).__name__}")
    return GaussianPrior(
        _each(check.finite, "prior.mean", prior.mean),
        check.at_least_zero("prior.mean_count", prior.mean_count),
        _each(check.positive_finite, "prior.variance", prior.variance),
        check.at_least_zero("prior.variance_count", prior.variance_count),
    )


def pulled(prior: GaussianPrior, total: jax.Array, mean: jax.Array) -> jax.Array:
    """Returns means `[..., D]` of data and prior together, from the data's total weights and means."""
    count = total + prior.mean_count
    return mean + prior.mean_count / jnp.where(count > 0, count, 1) * _from_mean(prior, mean)


def added(prior: GaussianPrior, mean: AnyArray) -> jax.Array:
    """Returns ν v + κ (μ - m)² for each feature, `[..., D]`."""
    return _prior_variance(prior, mean) + prior.mean_count * jnp.square(_from_mean(prior, mean))


def added_matrices(prior: GaussianPrior, mean: AnyArray) -> tuple[jax.Array, jax.Array]:
    """Returns ν diag(v) and κ (μ - m)(μ - m)ᵀ, `[..., D, D]` each."""
    variance, away = _prior_variance(prior, mean), _from_mean(prior, mean)
    return (
        variance[..., None] * expand_rank(jnp.eye(mean.shape[-1], dtype=mean.dtype), variance[..., None]),
        prior.mean_count * away[..., :, None] * away[..., None, :],
    )


def _prior_variance(prior, mean):
    return jnp.broadcast_to(prior.variance_count * _of_features("prior.variance", prior.variance, mean), mean.shape)


def _from_mean(prior, mean):
    return jnp.broadcast_to(_of_features("prior.mean", prior.mean, mean), mean.shape) - mean


def _of_features(name, value, mean):
    value = jnp.asarray(value, mean.dtype)
    if value.ndim and value.shape != mean.shape[-1:]:
        raise ValueError(f"`{name}` must be one number, or one for each of D = {mean.shape[-1]}; got {value.size}")
    return value


def _each(number, name, value):
    """Returns a number, or a tuple with one number for each feature."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return tuple(number(name, part) for part in value)
    return number(name, value)
