"""Categorical emissions, one of V symbols: p(x_t = v | s_t = k) = p[k, v].

maximise    p[k, v] = (Σ_t weights_t[k] 1[x_t = v] + c) / Σ_v'         with pseudocount c, normalised over v'
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq.structured._chain import draw_states
from jaxseq.structured.hmm.emissions._check import fields
from jaxseq.structured.hmm.emissions._emission import Emission
from jaxseq.structured.hmm.emissions._rows import begin, log_shares, rows
from jaxseq.typing import AnyArray


class CategoricalParams(NamedTuple):
    """`log_probs [K, V]`."""

    log_probs: AnyArray


def categorical(symbols: int, *, pseudocount: float = 0.0) -> Emission:
    """Returns the emission of symbols, ids int `[T, B]` in 0 … V-1; any other id has the log-probability NaN.

    EM starts from the frequencies of the symbols, each multiplied by a random number.

    Args:
      symbols: V, the number of symbols.
      pseudocount: added to the count of each symbol in each state with a weight. Above 0, every symbol stays possible.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> params = CategoricalParams(jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])))
    >>> log_obs = categorical(2).log_prob(params, jnp.array([1, 0]))
    >>> (100 * jnp.exp(log_obs)).round().astype(int).tolist()  # in percent
    [[50, 10], [50, 90]]
    """
    return _categorical(check.positive_int("symbols", symbols), check.at_least_zero("pseudocount", pseudocount))


def _ids(xs):
    return check.integers("xs", "T, B", xs).astype(int)  # narrow dtypes could not be compared with `symbols`


@factory
def _categorical(symbols, pseudocount):
    def own(params):
        return fields(params, CategoricalParams, "K, V", V=symbols)

    def init(key, states, xs, mask):
        xs, seen = begin(_ids(xs)[..., None], mask)
        counts = _counts(xs, seen)[0]
        draws = jax.random.exponential(key, (states, symbols), counts.dtype)
        return CategoricalParams(log_shares((counts + 1)[None] * draws, counts[None]))

    def log_prob(params, xs):
        params = own(params)
        xs = _ids(xs)
        known = (xs >= 0) & (xs < symbols)
        return jnp.where(known[..., None], params.log_probs.T[jnp.where(known, xs, 0)], jnp.nan)

    def maximise(params, xs, weights):
        params = own(params)
        counts = _counts(*rows(_ids(xs)[..., None], weights))
        seen = jnp.any(counts > 0, -1, keepdims=True)
        return CategoricalParams(log_shares(jnp.where(seen, counts + pseudocount, 0), params.log_probs))

    def sample(key, params, states):
        params = own(params)
        return draw_states(key, params.log_probs[states], states.shape)

    def _counts(xs, weights):
        """Returns the total weight of each symbol `[K, V]`."""
        return jnp.zeros((symbols, weights.shape[-1]), weights.dtype).at[xs[:, 0]].add(weights).T

    return Emission(init, log_prob, maximise, sample)
