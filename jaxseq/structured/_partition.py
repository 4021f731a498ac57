"""The log-partition of a chain, with a hand-written derivative, which consists of the marginals.

    d log Z = Σ_t p(s_t) · d scores_t + Σ_t p(s_{t-1}, s_t) · d transition_t + p(s_1) · d initial + p(s_T) · d final

One forward and one backward pass give all of them. The differential is linear in the tangents, so JAX can transpose it:
one rule serves forward and reverse mode.
"""

import functools

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.sharding import NamedSharding

from jaxseq import _meshes
from jaxseq._promote import expand_rank
from jaxseq.structured import _chain, semiring
from jaxseq.structured._chain import Chain
from jaxseq.structured._probabilities import in_all_rows
from jaxseq.structured._steps import shifted


@functools.partial(jax.jit, static_argnames="parallel")
def log_partition(chain: Chain, mask: jax.Array | None, parallel: bool | NamedSharding = False) -> jax.Array:
    """Returns the log-sum of the scores of all paths, `[*B]`; 0 for a row without steps."""
    chain, mask = _meshes.vary_alike((chain, mask))
    of_chain = lambda chain, mask: _log_partition(chain, mask, parallel)
    return _meshes.of_rows(of_chain, chain.scores, chain, mask)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _log_partition(chain, mask, parallel):
    return _chain.forward(semiring.log, chain, mask, parallel=parallel)[1]


@functools.partial(_log_partition.defjvp, symbolic_zeros=True)
def _log_partition_jvp(parallel, primals, tangents):
    chain, mask = primals
    messages, total = _chain.forward(semiring.log, chain, mask, parallel=parallel)
    alphas, betas = messages.v, _chain.backward(semiring.log, chain, mask, parallel=parallel)
    d, moved = tangents[0], jnp.zeros_like(total)
    if not isinstance(d.initial, SymbolicZero):
        moved += jnp.sum(_at_first(chain, alphas, betas, mask) * expand_rank(d.initial, total[..., None]), -1)
    if not isinstance(d.transition, SymbolicZero):
        moved += _along_moves(chain, alphas, betas, mask, d.transition)
    if not isinstance(d.scores, SymbolicZero):
        moved += jnp.sum(jnp.exp(_chain.log_marginals(alphas, betas, mask)) * d.scores, (0, -1))
    if not isinstance(d.final, SymbolicZero):
        moved += jnp.sum(jnp.exp(_chain.log_last(chain, alphas, mask)) * expand_rank(d.final, total[..., None]), -1)
    return total, jnp.where(jnp.isneginf(total), 0, moved)  # where the total is -inf, the gradient is 0


def _at_first(chain, alphas, betas, mask):
    """Returns p(s_1) `[*B, K]`; zeros for a row without steps."""
    follows = _chain.follows_one(chain, mask)
    return jnp.sum(jnp.where(follows[..., None], 0, jnp.exp(_chain.log_marginals(alphas, betas, mask))), 0)


def _along_moves(chain, alphas, betas, mask, d):
    """Returns Σ_t p(s_{t-1}, s_t) · d_t `[*B]`, for d of the shape of the transition.

    If the transition is one matrix, the pairs of all steps are never held in memory: in probability space the sum is
    one matrix product over all steps. Numbers that underflow there are negligible next to a step's total, unless that
    total is itself too small; then the sum is computed step by step.
    """
    if chain.transition.ndim > 2:
        pairs = jnp.exp(_chain.log_pairs(chain, alphas, betas, mask))
        d = d if d.ndim == pairs.ndim else d.reshape(d.shape[0], *[1] * (pairs.ndim - 3), *d.shape[1:])
        return jnp.sum(pairs * d, (0, -2, -1))
    K = chain.transition.shape[-1]
    follows = _chain.follows_one(chain, mask)  # False at the first step, which has none before it
    real = follows if mask is None else follows & mask
    steps = shifted(alphas, 1), chain.scores + betas, real

    def exactly(d):
        @jax.checkpoint  # otherwise the transpose would store the pairs of all steps
        def add(total, step):
            before, ahead, real = step
            before, ahead = before[..., :, None], ahead[..., None, :]
            pairs = before + expand_rank(chain.transition, before) + ahead
            pairs = jnp.exp(_chain.normalised(pairs.reshape(*pairs.shape[:-2], K * K)))
            return total + jnp.where(real, pairs @ d.reshape(K * K), 0), None

        nothing = jnp.zeros(chain.scores.shape[1:-1], d.dtype)
        return _meshes.scan(add, nothing, steps)[0]

    largest = jnp.max(chain.transition)
    weights = jnp.exp(chain.transition - jnp.where(jnp.isneginf(largest), 0, largest))
    before, ahead = (jnp.exp(semiring.scaled(x)[0]) for x in steps[:2])
    total = jnp.sum(jnp.matmul(before, weights, precision="highest") * ahead, -1)
    counts = jnp.all((total > float(jnp.finfo(total.dtype).tiny) ** 0.4) | ~real)
    ahead = ahead * jnp.where(real, 1 / jnp.where(total > 0, total, 1), 0)[..., None]

    def product(d):
        return jnp.sum(jnp.matmul(before, weights * d, precision="highest") * ahead, (0, -1))

    return jax.lax.cond(in_all_rows(counts), product, exactly, d)
