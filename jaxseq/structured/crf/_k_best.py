"""The k best paths, by Viterbi's recurrence over the k best paths to each tag (Foreman 1993)."""

import functools

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._promote import expand_rank
from jaxseq._top_k import top_k
from jaxseq.structured import semiring
from jaxseq.structured._chain import Chain, Path
from jaxseq.structured._indices import along_last
from jaxseq.structured._steps import step_before
from jaxseq.structured.crf._inference import enter
from jaxseq.structured.crf._params import Params
from jaxseq.typing import AnyArray


def k_best(params: Params, scores: AnyArray, k: int, *, mask: AnyArray | None = None) -> Path:
    """Returns the k best paths, best first: `Path(states, score)`, int `[T, B, k]`, -1 on False steps, and `[B, k]`.

    They are exact and all different. The first is that of `viterbi`. If fewer than k paths have a score above -inf, the
    remaining scores are -inf and their tags -1. A row without steps has one path, with the score 0. Time and memory
    grow with k.

    Args:
      params, scores, mask: as for `log_likelihood`.
      k: the number of paths, an int that must be static under `jax.jit`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq.structured import crf
    >>> params = crf.Params(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.zeros(2), jnp.zeros(2))
    >>> tags, scores = crf.k_best(params, jnp.array([[2.0, 0.0], [0.0, 0.5]]), 3)
    >>> tags.T.tolist(), scores.tolist()
    ([[0, 0], [0, 1], [1, 1]], [3.0, 2.5, 1.5])
    """
    return _search(*enter(params, scores, mask), check.positive_int("k", k))


@functools.partial(jax.jit, static_argnums=2)  # otherwise each eager call would compile the loops again
def _search(chain: Chain, mask: jax.Array | None, k: int) -> Path:
    _, *batch, K = chain.scores.shape
    real = jnp.ones(chain.scores.shape[:-1], bool) if mask is None else mask
    moves = real & (step_before(real) >= 0)
    only_one = jnp.where(jnp.arange(k) == 0, 0.0, -jnp.inf).astype(chain.scores.dtype)

    # The best paths so far, K tags by k ranks, lie on one axis of K k, so an index gives a path's last tag and rank.
    def step(ways, inputs):
        scores, real, moves = inputs
        ways = ways.reshape(*batch, K, k)
        into = ways[..., None, :, :] + expand_rank(chain.transition.T[..., None], ways[..., None])  # [B, to, from, k]
        found, origin = _best(into.reshape(*batch, K, K * k), k)
        new = jnp.where(moves[..., None, None], found, ways) + scores[..., None]
        new, scale = semiring.scaled(new.reshape(*batch, K * k))
        ways = jnp.where(real[..., None], new, ways.reshape(new.shape))
        origin = jnp.where(moves[..., None], origin.reshape(new.shape), along_last(new.shape))
        return ways, (jnp.where(real, scale, 0), origin)

    start = (chain.initial[:, None] + only_one[None]).reshape(K * k)
    start, taken_off = semiring.scaled(jnp.broadcast_to(start, (*batch, K * k)))
    ways, (scale, origins) = _meshes.scan(step, start, (chain.scores, real, moves))
    best, last = _best(ways + jnp.broadcast_to(jnp.repeat(chain.final, k), ways.shape), k)
    best = best + (taken_off + jnp.sum(scale, 0))[..., None]
    best = jnp.where(jnp.any(real, 0)[..., None], best, jnp.broadcast_to(only_one, best.shape))

    def back(way, inputs):
        real, origin = inputs
        return jnp.take_along_axis(origin, way, -1), jnp.where(real[..., None], way // k, -1)

    _, tags = _meshes.scan(back, last, (real, origins), reverse=True)
    return Path(jnp.where(best > -jnp.inf, tags, -1), best)


def _best(x, k):
    """Returns the k largest entries along the last axis and their indices; NaN if any entry is NaN."""
    values, places = top_k(x, k)
    return jnp.where(jnp.isnan(jnp.max(x, -1, keepdims=True)), jnp.nan, values), places
