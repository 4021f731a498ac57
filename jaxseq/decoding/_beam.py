"""Beam search (Graves 2012; Sutskever et al. 2014): keeps the `size` best sequences at every step.

At each step all kept sequences are extended by one token, and the best extensions are kept. An extension that ends, and
is among the `size` best, joins the finished sequences. A sequence of n tokens has the score

    gnmt     log p(tokens) / ((5 + n) / 6) ^ length_penalty                                            (Wu et al. 2016)
    power    log p(tokens) / n ^ length_penalty            at 1 the mean per token        (as in fairseq, Transformers)

The search ends when no unfinished sequence can become better than the finished ones.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._eager import eager
from jaxseq._top_k import top_k
from jaxseq.decoding._step import (
    Allowed,
    Decoded,
    Step,
    check_functions,
    end_token,
    first_token,
    log_probs,
    no_tokens,
    only,
    vocabulary,
)
from jaxseq.typing import AnyArray, Carry


class _Search(NamedTuple):
    """The state of a search: S unfinished sequences for each of B rows, and the finished ones, best first."""

    t: jax.Array
    carry: Carry  # [B S, ...]
    tokens: jax.Array  # int32 [T, B, S]
    log_p: jax.Array  # [B, S], -inf for an empty place
    finished: Decoded


def beam_search(
    step: Step,
    carry: Carry,
    start: int | AnyArray,
    *,
    size: int,
    max_length: int,
    end: int | None = None,
    length_penalty: float | AnyArray = 0.0,
    penalty: str = "gnmt",
    allowed: Allowed | None = None,
) -> Decoded:
    """Returns the `size` best sequences, best first: `Decoded(tokens [T, B, size], lengths, scores, log_probs)`.

    A sequence without an end after `max_length` tokens is finished as it is. If there are fewer than `size` sequences,
    the remaining places have the score -inf, the length 0 and tokens -1. An extension with a NaN logit is dropped. If
    some token may always follow, a size of 1 gives the result of `greedy`. Sizes are static under `jax.jit`; eager
    calls compile once.

    Args:
      step: `(carry, token int32 [N]) -> (carry, logits [N, V])`, for N = B × size sequences at once.
      carry: the initial carry, a pytree of arrays `[B, ...]`, or None.
      start: the token to start from, int `[B]`, or one int for all rows of the carry. The result does not contain it.
      size: S, the number of sequences that are kept.
      max_length: T, the greatest number of tokens.
      end: the token that ends a sequence. None: all sequences have `max_length` tokens.
      length_penalty: p, at least 0. At 0 the score is the log-probability; a larger p favours longer sequences.
      penalty: the score of n tokens. "gnmt": log p / ((5 + n) / 6) ** p. "power": log p / n ** p.
      allowed: `(tokens int32 [T, N], t) -> bool [N, V]`, the tokens that may follow the first t tokens. N counts the
        beams of the first row, then those of the second, and so on. None: all tokens are allowed.

    Raises:
      TypeError, ValueError: an argument does not fit, or `step` does not return a matching carry and logits.

    >>> from jaxseq import decoding
    >>> transition = jnp.log(jnp.array([[0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.05, 0.05, 0.9]]))
    >>> step = lambda carry, token: (carry, transition[token])
    >>> found = decoding.beam_search(step, None, jnp.array([0]), size=2, max_length=3)
    >>> found.tokens[:, 0].T.tolist()  # greedy would begin with 1
    [[2, 2, 2], [1, 2, 2]]
    """
    check_functions(step=(step, 2))
    check.functions_taking(allowed=(allowed, 2))
    size, max_length = check.positive_int("size", size), check.positive_int("max_length", max_length)
    power = check.number("length_penalty", length_penalty, "of at least 0", lambda p: 0 <= p < math.inf)
    check.one_of("penalty", penalty, ("gnmt", "power"))
    carry = check.as_jax(carry, "carry")
    first = first_token(start, carry)
    batch, B = first.shape, math.prod(first.shape)
    widened = lambda tree: jax.tree.map(lambda x: _repeated(x, len(batch), B, size), tree)
    V, dtype = vocabulary(step, *jax.eval_shape(widened, (carry, first)))
    end = end_token(end, V)
    # At most one extension of each sequence ends, so among 2 `size` extensions at least `size` do not end.
    considered = min(size if end < 0 else 2 * size, size * V)

    def penalised(log_p, n, power):
        n = jnp.asarray(n, dtype)
        return log_p / ((5 + n) / 6 if penalty == "gnmt" else n) ** jnp.asarray(power, dtype)

    def advance(now: _Search, last: jax.Array, power) -> _Search:
        tokens = now.tokens.reshape(max_length, B * size)
        before = jax.lax.dynamic_index_in_dim(tokens, jnp.maximum(now.t - 1, 0), keepdims=False)
        carry, log_p = log_probs(step, now.carry, jnp.where(now.t == 0, last, before))
        log_p = only(allowed, tokens, now.t, log_p).reshape(B, size, V)
        log_p = jnp.where(jnp.isnan(log_p), -jnp.inf, log_p)  # top_k would rank NaN first
        log_p, place = top_k((now.log_p[..., None] + log_p).reshape(B, size * V), considered)
        source, token = place // V, (place % V).astype(jnp.int32)
        longer = _of(now.tokens, source).at[now.t].set(token)
        ends = token == end

        n = now.t + 1
        at_last = n == max_length
        is_done = at_last | (ends & (jnp.arange(considered) < size)[None])
        scores = jnp.where(is_done, penalised(log_p, n, power), -jnp.inf)
        finished = _best(now.finished, longer, n, scores, log_p)
        log_p, kept = top_k(_padded(jnp.where(ends, -jnp.inf, log_p), size), size)
        source = jnp.take_along_axis(_padded(source, size), kept, -1)
        rows = (jnp.arange(B)[:, None] * size + source).reshape(-1)
        return _Search(n, jax.tree.map(lambda x: x[rows], carry), _of(_padded(longer, size), kept), log_p, finished)

    def goes_on(now: _Search, power):
        bound = penalised(now.log_p[:, 0], max_length, power)  # no continuation can score more
        return (now.t < max_length) & jnp.any(bound > now.finished.scores[:, -1])

    def run(carry: Carry, first: jax.Array, power) -> Decoded:
        carry, last = widened((carry, first))
        tokens = no_tokens(max_length, (B, size))
        none = jnp.full((B, size), -jnp.inf, dtype)
        nothing = Decoded(tokens, jnp.zeros((B, size), jnp.int32), none, none)
        begun = _Search(jnp.asarray(0, jnp.int32), carry, tokens, none.at[:, 0].set(0), nothing)
        search = _meshes.while_loop(lambda now: goes_on(now, power), lambda now: advance(now, last, power), begun)
        tokens, *rest = search.finished
        return Decoded(tokens.reshape(max_length, *batch, size), *(x.reshape(*batch, size) for x in rest))

    return eager(run, carry, first, power)


def _best(finished: Decoded, tokens, length, scores, log_probs):
    """Returns the best of the finished sequences and new ones; at equal scores, finished ones come first."""
    size = finished.scores.shape[-1]
    scores, place = top_k(jnp.concatenate([finished.scores, scores], -1), size)
    log_probs = jnp.take_along_axis(jnp.concatenate([finished.log_probs, log_probs], -1), place, -1)
    lengths = jnp.concatenate([finished.lengths, jnp.full(tokens.shape[1:], length, jnp.int32)], -1)
    lengths = jnp.take_along_axis(lengths, place, -1)
    tokens = _of(jnp.concatenate([finished.tokens, tokens], -1), place)
    is_none = jnp.isneginf(scores)
    lengths = jnp.where(is_none, 0, lengths)
    return Decoded(jnp.where(is_none, -1, tokens), lengths, scores, jnp.where(is_none, -jnp.inf, log_probs))


def _of(tokens, places):
    """Returns the sequences `[T, B, S]` at places `[B, K]`, as `[T, B, K]`."""
    return jnp.take_along_axis(tokens, places[None], -1)


def _repeated(x, axes, B, size):
    """Returns `[*B, ...]` as `[B S, ...]`, with each row repeated `size` times."""
    return jnp.repeat(x.reshape(B, *x.shape[axes:]), size, axis=0, total_repeat_length=B * size)


def _padded(x, size):
    """Returns x padded to at least `size` entries along the last axis, with -inf if floating, else 0."""
    missing = max(0, size - x.shape[-1])
    fill = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else 0
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=fill)
