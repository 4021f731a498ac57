"""Decays over the steps of a chunk, from logarithms, by doubling: blocks of 1, 2, 4, … steps are joined in pairs.

    scores[t, s] = q_tᵀ Diag(α_{s+1} ⋯ α_t) k_s        for s ≤ t, else 0

In a pair of blocks, scores between the two blocks are split at their border: q_t times the decay since the border, k_s
times the decay until it. So every exponent is a sum of logarithms in one direction. Nothing overflows, no digits are
lost in differences of sums, and -inf, a decay of 0, needs no special case.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank

FORGOTTEN = -1e30  # replaces -inf, whose product with zero is NaN; its exponential is 0


class Decayed(NamedTuple):
    """The decays of the L steps of a chunk, `[..., L, K]`, or `[..., L, 1]` for one decay of all features.

    Attributes:
      scores: `[..., L, L]`, as above.
      since: log (α_1 ⋯ α_t), from before the first step to after step t.
      until: log (α_{s+1} ⋯ α_L), from after step s to after the last one.
    """

    scores: jax.Array
    since: jax.Array
    until: jax.Array


def decayed(log_decay: jax.Array, q: jax.Array, k: jax.Array) -> Decayed:
    """Returns the decays and scores for `log_decay` `[..., L, K]` or `[..., L, 1]` and `q`, `k` `[..., L, K]`."""
    L = k.shape[-2]
    if log_decay.shape[-1] == 1:
        ratios, since, until = by_one_decay(log_decay)
        return Decayed(ratios * jnp.matmul(q, k.mT), since, until)
    log_decay, q, k = (_filled(x) for x in (log_decay, q, k))
    lead = jnp.broadcast_shapes(q.shape[:-2], k.shape[:-2], log_decay.shape[:-2])
    since, until = log_decay[..., None, :], jnp.zeros_like(log_decay)[..., None, :]  # [..., blocks, steps, K]
    scores = jnp.broadcast_to(jnp.sum(q * k, axis=-1)[..., None, None], (*lead, k.shape[-2], 1, 1))
    while scores.shape[-1] < k.shape[-2]:
        width = scores.shape[-1]
        q_late = _blocks(q, width)[..., 1::2, :, :] * jnp.exp(since[..., 1::2, :, :])
        k_early = _blocks(k, width)[..., ::2, :, :] * jnp.exp(until[..., ::2, :, :])
        early, late, across = scores[..., ::2, :, :], scores[..., 1::2, :, :], jnp.matmul(q_late, k_early.mT)
        top = jnp.concatenate([early, jnp.zeros_like(early)], axis=-1)
        scores = jnp.concatenate([top, jnp.concatenate([across, late], axis=-1)], axis=-2)
        since, until = _joined_since(since), _joined_until(until, since)
    return Decayed(scores[..., 0, :L, :L], since[..., 0, :L, :], until[..., 0, :L, :])


def by_one_decay(log_decay: jax.Array) -> Decayed:
    """Returns the decays for one decay of all features, `log_decay` `[..., L, 1]`. The scores lack the factor qᵀ k.

    All sums of logarithms come from one product with a matrix of zeros and ones.
    """
    L = log_decay.shape[-2]
    log_decay = jnp.maximum(log_decay, FORGOTTEN)
    lower = expand_rank(jnp.tril(jnp.ones((L, L), log_decay.dtype)), log_decay)
    later = jnp.tril(lower, -1)
    sums = jnp.matmul(lower, later * log_decay, precision="highest")  # [t, s]: of the steps after s, up to t
    since = jnp.matmul(lower, log_decay, precision="highest")
    return Decayed(lower * jnp.exp(sums), since, sums[..., -1, :, None])


def since_start(log_decay: jax.Array, number: jax.Array) -> jax.Array:
    """Returns log (α_r ⋯ α_t) `[..., L, K]`, where r is the first step in the chunk of the sequence of step t.

    `number` `[..., L]` counts the sequences of the chunk. The sequence at the chunk's start is 0.
    """
    starts = jnp.diff(number, prepend=0, axis=-1)[..., None] > 0
    starts = jnp.broadcast_to(starts, log_decay.shape)

    def then(early, late):
        (started, early), (starts, late) = early, late
        return started | starts, jnp.where(starts, late, early + late)

    return jax.lax.associative_scan(then, (starts, log_decay), axis=log_decay.ndim - 2)[1]


def _filled(x):
    """Pads the steps to a power of two with steps that keep the state."""
    missing = (1 << (x.shape[-2] - 1).bit_length()) - x.shape[-2]
    return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)]) if missing else x


def _blocks(x, width):
    return x.reshape(*x.shape[:-2], -1, width, x.shape[-1])


def _joined_since(since):
    early, late = since[..., ::2, :, :], since[..., 1::2, :, :]
    return jnp.concatenate([early, early[..., -1:, :] + late], axis=-2)


def _joined_until(until, since):
    early, late = until[..., ::2, :, :], until[..., 1::2, :, :]
    return jnp.concatenate([early + since[..., 1::2, -1:, :], late], axis=-2)
