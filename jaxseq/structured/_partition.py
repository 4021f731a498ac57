"""The log-partition of a chain, whose gradient is written by hand: it is the marginals.

By a step's scores it is p(s_t), by the transition Σ_t p(s_{t-1}, s_t), by the initial scores p(s_1), by the final ones
p(s_T): one pass forward and one back give all of them.
"""

import functools

import jax
import jax.numpy as jnp

from jaxseq._promote import beside
from jaxseq.structured import _chain, semiring
from jaxseq.structured._chain import Chain
from jaxseq.structured._probabilities import in_all_rows


@functools.partial(jax.jit, static_argnames="parallel")
def log_partition(chain: Chain, mask: jax.Array | None, parallel: bool = False) -> jax.Array:
    """Returns the log-sum of all paths' scores, `[*B]`; 0 where a row has no step."""
    return _log_partition(chain, mask, parallel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _log_partition(chain, mask, parallel):
    return _chain.forward(semiring.log, chain, mask, parallel=parallel)[1]


def _forward(chain, mask, parallel):
    messages, total = _chain.forward(semiring.log, chain, mask, parallel=parallel)
    return total, (chain, mask, messages.v)


def _backward(parallel, residuals, d_total):
    chain, mask, alphas = residuals
    betas = _chain.backward(semiring.log, chain, mask, parallel=parallel)
    at = jnp.exp(_chain.log_marginals(alphas, betas, mask)) * d_total[None, ..., None]
    follows = _chain.follows_one(chain, mask)
    at_last = jnp.exp(_chain.log_last(chain, alphas, mask)) * d_total[..., None]
    d_chain = Chain(
        initial=_over_rows(jnp.where(follows[..., None], 0, at)),
        transition=_expected(chain, alphas, betas, mask, d_total),
        scores=at,
        final=_over_rows(at_last),
    )
    return d_chain, None


_log_partition.defvjp(_forward, _backward)


def _expected(chain, alphas, betas, mask, d_total):
    """The gradient by the transition: the expected number of each, one matrix where it is the same at all steps.

    That one is formed without the pairs of all steps in memory. In probability space it is a product over all steps;
    what underflows there is nothing beside a step's total, unless that is itself too small: then step by step.
    """
    if chain.transition.ndim > 2:
        pairs = jnp.exp(_chain.log_pairs(chain, alphas, betas, mask)) * d_total[None, ..., None, None]
        of_rows = range(1, 1 + pairs.ndim - chain.transition.ndim)  # axes that share a transition
        return pairs.sum(of_rows)
    K = chain.transition.shape[-1]
    follows = _chain.follows_one(chain, mask)[1:]
    real = follows if mask is None else follows & mask[1:]
    steps = alphas[:-1], chain.scores[1:] + betas[1:], real

    def add(total, step):
        before, ahead, real = step
        before, ahead = before[..., :, None], ahead[..., None, :]
        pairs = before + beside(chain.transition, before) + ahead
        weight = jnp.where(real, d_total, 0).reshape(-1, 1)
        return total + jnp.sum(jnp.exp(_chain.normalised(pairs.reshape(-1, K * K))) * weight, 0).reshape(K, K), None

    def exactly():
        return jax.lax.scan(add, jnp.zeros_like(chain.transition), steps)[0]

    largest = jnp.max(chain.transition)
    weights = jnp.exp(chain.transition - jnp.where(jnp.isneginf(largest), 0, largest))
    before, ahead = (jnp.exp(semiring.scaled(x)[0]) for x in steps[:2])
    total = jnp.sum(jnp.matmul(before, weights, precision="highest") * ahead, -1)
    counts = jnp.all((total > float(jnp.finfo(total.dtype).tiny) ** 0.4) | ~real)
    ahead = ahead * (jnp.where(real, d_total[None], 0) / jnp.where(total > 0, total, 1))[..., None]
    product = weights * jnp.einsum("...i,...j->ij", before, ahead, precision="highest")
    return jax.lax.cond(in_all_rows(counts), lambda: product, exactly)


def _over_rows(x):
    """`[K]` of `[..., K]`."""
    return x.reshape(-1, x.shape[-1]).sum(0)
