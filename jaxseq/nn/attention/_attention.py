"""Attention of a recurrent net to the steps of a memory.

    weights_t = softmax over s of score(q_t, m_s)          context_t = Σ_s weights_ts m_s

    additive   score(q, m) = v · tanh(q W + m U + b)       (Bahdanau et al. 2015)
    general    score(q, m) = q W · m                       (Luong et al. 2015)
    dot        score(q, m) = q · m, with equal numbers of features

Padding of the memory, even NaN, affects neither a value nor a gradient. If all of the memory is padding, weights and
context are zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.masking import keep
from jaxseq.nn._call import Module
from jaxseq.nn._flax import floats, given, linear
from jaxseq.typing import AnyArray

SCORES = ("additive", "general", "dot")


class Memory(NamedTuple):
    """A prepared memory: computed once, for any number of queries."""

    values: jax.Array  # [B, S, M], zeros on padding
    keys: jax.Array  # [B, S, F], from which scores are computed
    mask: jax.Array | None  # bool [B, S]


class Attended(NamedTuple):
    """The context `[B, T, M]` and the attention weights `[B, T, S]`; without T for queries `[B, Q]`."""

    context: jax.Array
    weights: jax.Array


class Attention(Module):
    """Additive or multiplicative attention.

    Args:
      query_features: Q, the features of queries.
      memory_features: M, the features of the memory.
      score: "additive", "general" or "dot".
      hidden: the number of hidden features of "additive". None: M.
      dtype: the dtype of the computation; params and inputs are cast to it. None: that of the params.
      param_dtype: the dtype of the params. None: JAX's default float.
      rngs: random keys for the params.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from flax import nnx
    >>> from jaxseq import nn
    >>> attention = nn.Attention(8, 6, rngs=nnx.Rngs(0))
    >>> memory = attention.remember(jnp.ones([2, 5, 6]), mask=jaxseq.lengths_to_mask(jnp.array([5, 3]), 5).T)
    >>> context, weights = attention(jnp.ones([2, 4, 8]), memory)
    >>> context.shape, weights.shape
    ((2, 4, 6), (2, 4, 5))
    """

    def __init__(
        self,
        query_features: int,
        memory_features: int,
        *,
        score: str = "additive",
        hidden: int | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        check.one_of("score", score, SCORES)
        Q = check.positive_int("query_features", query_features)
        M = check.positive_int("memory_features", memory_features)
        if hidden is not None and score != "additive":
            raise ValueError(f'`hidden` is an option of the score "additive"; "{score}" has none')
        if score == "dot" and Q != M:
            raise ValueError(f'`score` "dot" needs equal numbers of query and memory features; got {Q} and {M}')
        self.score, self.memory_features, self.query_features = score, M, Q
        additive, F = score == "additive", M if hidden is None else check.positive_int("hidden", hidden)
        self.dtype = (options := given(dtype, param_dtype, rngs)).dtype
        self.query = None if score == "dot" else linear(Q, F, options, use_bias=False)
        self.key = linear(M, F, options) if additive else None
        self.value = linear(F, 1, options, use_bias=False) if additive else None

    def remember(self, memory: AnyArray, *, mask: AnyArray | None = None) -> Memory:
        """Returns the prepared memory, to be computed once and used for any number of queries.

        Args:
          memory: `[B, S, M]`, such as the outputs of an encoder.
          mask: bool `[B, S]`, True where a step is real, in any pattern. None: all steps are real.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        memory = floats("memory", "B, S, M", memory, self._weights(), self.dtype)
        if memory.shape[-1] != self.memory_features:
            raise ValueError(
                f"`memory` must be [B, S, M] with M = {self.memory_features} features; got {check.shaped(memory)}"
            )
        mask = check.flags("mask", mask, memory.shape[:-1], "B, S")
        memory = keep(mask, memory)
        return Memory(memory, memory if self.key is None else self.key(memory), mask)

    def __call__(self, queries: AnyArray, memory: Memory) -> Attended:
        """Returns the context and the weights, `Attended(context [B, T, M], weights [B, T, S])`.

        Args:
          queries: `[B, T, Q]`, or one query per row, `[B, Q]`.
          memory: the result of `remember`.

        Raises:
          TypeError, ValueError: an argument does not fit.
        """
        if not isinstance(memory, Memory):
            raise TypeError(f"`memory` must be what `remember` returns; got {type(memory).__name__}")
        values, keys = (check.inputs("memory", "B, S, M", x, None) for x in memory[:2])
        memory = Memory(values, keys, check.flags("memory", memory.mask, values.shape[:-1], "B, S"))
        queries = floats("queries", "B, Q", queries, self._weights(), self.dtype)
        batch = memory.values.shape[:-2]
        expected = queries.ndim - len(batch) in (1, 2) and queries.shape[: len(batch)] == batch
        if not expected or queries.shape[-1] != self.query_features:
            raise ValueError(
                f"`queries` must be [B, T, Q] or [B, Q], with the batch {batch} of the memory and Q = "
                f"{self.query_features}; got {check.shaped(queries)}"
            )
        if queries.ndim == len(batch) + 1:
            one = self._look(queries[..., None, :], memory)
            return Attended(one.context[..., 0, :], one.weights[..., 0, :])
        return self._look(queries, memory)

    def _weights(self):
        return None if self.query is None else self.query.kernel[...]

    def _look(self, queries, memory):
        queries = queries if self.query is None else self.query(queries)
        if self.value is None:
            scores = jnp.einsum("...tf,...sf->...ts", queries, memory.keys)
        else:
            scores = self.value(jnp.tanh(queries[..., :, None, :] + memory.keys[..., None, :, :]))[..., 0]
        weights = masked_softmax(scores, None if memory.mask is None else memory.mask[..., None, :])
        return Attended(jnp.einsum("...ts,...sm->...tm", weights, memory.values), weights)


def masked_softmax(scores: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns softmax over the real entries of the last axis; zeros if there are none."""
    if mask is None:
        return jax.nn.softmax(scores, axis=-1)
    mask = jnp.broadcast_to(mask, scores.shape)
    # The smallest number in place of -inf: the softmax of -inf only, in a row of padding, would be NaN.
    return jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1), 0)
