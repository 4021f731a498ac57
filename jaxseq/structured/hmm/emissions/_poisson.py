"""Poisson emissions: counts that are independent given the state.

log p(x | k) = Σ_d x_d log λ_kd - λ_kd - log x_d!
maximise    λ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.structured.hmm.emissions._check import counts, fields
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._rows import PRECISE, means, rows_seen, shares, spread, start
from jaxseq.typing import AnyArray


class PoissonParams(NamedTuple):
    """`rate [K, D]`, the mean counts."""

    rate: AnyArray


def poisson(*, floor: float = 1e-6) -> Emission:
    """Returns the Poisson emission, for counts `[T, B, D]` of at least 0, integers or floating.

    Features may be missing. EM starts from rates halfway between the mean and rows of the data far from each other.

    Args:
      floor: the least rate. With a rate of 0, any count would be impossible in a state that has seen none.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> params = PoissonParams(rate=jnp.array([[1.0], [4.0]]))
    >>> [f"{p:.4f}" for p in jnp.exp(poisson().log_prob(params, jnp.array([[2]])))[0]]
    ['0.1839', '0.1465']
    """
    return _poisson(check.positive_finite("floor", floor))


@factory
def _poisson(floor):
    def own(params):
        return fields(params, PoissonParams, "K, D")

    def init(key, states, xs, mask):
        xs, seen = counts(xs)
        xs, weights, mean, variance = start(xs, mask, seen)
        drawn = spread(key, xs, jnp.log(weights[:, 0]), variance, states)
        return PoissonParams(jnp.maximum((drawn + mean[None]) / 2, floor))

    def log_prob(params, xs):
        params = own(params)
        xs, seen = counts(xs, params.rate.shape[-1])
        possible = jnp.where(params.rate > 0, params.rate, 1)
        powers = jnp.einsum("...d,kd->...k", xs, jnp.log(possible), precision=PRECISE)
        never = jnp.einsum("...d,kd->...k", (xs > 0).astype(xs.dtype), (params.rate == 0).astype(xs.dtype)) > 0
        powers = jnp.where(never, -jnp.inf, powers)
        if seen is None:
            expected = expand_rank(jnp.sum(params.rate, -1), powers)
        else:
            expected = jnp.einsum("...d,kd->...k", seen.astype(xs.dtype), params.rate, precision=PRECISE)
        return powers - expected - jnp.sum(gammaln(xs + 1), -1, keepdims=True)

    def maximise(params, xs, weights):
        params = own(params)
        xs, seen = counts(xs, params.rate.shape[-1])
        xs, weights, seen = rows_seen(xs, weights, seen)
        total, share = shares(weights, seen)
        return PoissonParams(jnp.where(total > 0, jnp.maximum(means(xs, share), floor), params.rate))

    def sample(key, params, states):
        params = own(params)
        return jax.random.poisson(key, params.rate[states])

    return Emission(init, log_prob, maximise, sample, by_feature=True)
