"""Poisson emissions: counts that are independent in each state.

log p(x | k) = Σ_d x_d log λ_kd - λ_kd - log x_d!
maximise    λ_k = Σ_t w_t[k] x_t / Σ_t w_t[k]
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from jaxseq import check
from jaxseq.structured.hmm.emissions._check import counts
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._rows import PRECISE, begin, moments, rows, spread


class PoissonParams(NamedTuple):
    """`rate [K, D]`, the mean counts."""

    rate: jax.Array


def poisson(*, floor: float = 1e-6) -> Emission:
    """Returns the Poisson emission, of counts `[T, B, D]`, integers or floating, of at least 0.

    EM starts from rates half way between the mean and rows of the data far from each other.

    Args:
      floor: the least rate: at 0, a state that saw no count would hold any impossible.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> params = PoissonParams(rate=jnp.array([[1.0], [4.0]]))
    >>> [f"{p:.4f}" for p in jnp.exp(poisson().log_prob(params, jnp.array([[2]])))[0]]
    ['0.1839', '0.1465']
    """
    return _poisson(check.positive("floor", floor))


@functools.cache
def _poisson(floor):
    def init(key, states, xs, mask):
        xs, seen = begin(counts(xs), mask)
        _, mean, variance = moments(xs, seen)
        drawn = spread(key, xs, jnp.log(seen[:, 0]), variance[0], states)
        return PoissonParams(jnp.maximum((drawn + mean) / 2, floor))

    def log_prob(params, xs):
        xs = counts(xs, params.rate.shape[-1])
        seen = jnp.where(params.rate > 0, params.rate, 1)
        powers = jnp.einsum("...d,kd->...k", xs, jnp.log(seen), precision=PRECISE)
        never = jnp.einsum("...d,kd->...k", (xs > 0).astype(xs.dtype), (params.rate == 0).astype(xs.dtype)) > 0
        powers = jnp.where(never, -jnp.inf, powers)
        return powers - jnp.sum(params.rate, -1) - jnp.sum(gammaln(xs + 1), -1, keepdims=True)

    def maximise(params, xs, weights):
        xs, weights = rows(counts(xs, params.rate.shape[-1]), weights)
        total, mean, _ = moments(xs, weights)
        return PoissonParams(jnp.where(total[:, None] > 0, jnp.maximum(mean, floor), params.rate))

    def sample(key, params, states):
        return jax.random.poisson(key, params.rate[states])

    return Emission(init, log_prob, maximise, sample)
