"""Dot-product attention with the heads before the steps: `[B, heads, steps, F]`.

    output_t = Σ_s softmax_s(q_t · k_s / √F) v_s        over the steps s that t may see

This is `jax.nn.dot_product_attention`. For many queries, CPUs use the products below instead, since XLA computes their
gradient faster (docs/performance.md, "Attention"). Heads come before steps for the sake of the cache: in the other
order XLA would copy the whole cache at every step.
"""

import math

import jax
import jax.numpy as jnp

from jaxseq._promote import widen


def dot_product_attention(queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the attention outputs, `[B, N, T, F]`; a query that sees no step gets the mean over all steps.

    Args:
      queries: `[B, N, T, F]`.
      keys, values: `[B, K, S, F]`; each head serves N / K consecutive query heads.
      mask: bool `[B, T, S]`, or a shape that broadcasts to it, True where a query sees a step. None: it sees all steps.
    """
    is_one = isinstance(queries.shape[-2], int) and queries.shape[-2] == 1  # a symbolic size may be many
    run = _products if jax.default_backend() == "cpu" and not is_one else _of_jax
    return run(queries, keys, values, mask)


def _products(queries, keys, values, mask):
    *batch, N, T, F = queries.shape
    K, S = keys.shape[-3:-1]
    rows = (*batch, K, N // K * T)  # all queries that share a head of keys, as one matrix
    scores = jnp.einsum("...ti,...si->...ts", queries.reshape(*rows, F), keys).reshape(*batch, K, N // K, T, S)
    scores = scores.astype(widen(scores.dtype)) / math.sqrt(F)
    least = jnp.finfo(scores.dtype).min
    if mask is not None:
        scores = jnp.where(mask[..., None, None, :, :], scores, least)
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=least)))
    total = jnp.sum(weights, axis=-1).reshape(*rows, 1)
    weights = weights.reshape(*rows, S).astype(values.dtype)
    seen = jnp.einsum("...ts,...si->...ti", weights, values)  # divided afterwards, where there are fewer numbers
    return (seen.astype(total.dtype) / total).astype(values.dtype).reshape(queries.shape)


def _of_jax(queries, keys, values, mask):
    batch, T, S = queries.shape[:-3], queries.shape[-2], keys.shape[-2]
    count = math.prod(batch)
    flat = (jnp.swapaxes(x.reshape(count, *x.shape[-3:]), -2, -3) for x in (queries, keys, values))
    if mask is not None:
        mask = jnp.broadcast_to(mask, (*batch, T, S)).reshape(count, 1, T, S)
    return jnp.swapaxes(jax.nn.dot_product_attention(*flat, mask=mask), -2, -3).reshape(queries.shape)
