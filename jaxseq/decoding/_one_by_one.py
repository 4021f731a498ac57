"""Decoding of one token at a time: the most probable token (greedy), or a random one (sampling)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._eager import eager
from jaxseq.decoding._logits import check_key, draw, options_of
from jaxseq.decoding._step import (
    Allowed,
    Decoded,
    Step,
    check_functions,
    end_token,
    first_token,
    logits_after,
    no_tokens,
    only,
    vocabulary,
)
from jaxseq.typing import AnyArray, Carry


class _Writing(NamedTuple):
    t: jax.Array
    carry: Carry
    last: jax.Array  # int32 [B]
    tokens: jax.Array  # int32 [T, B]
    lengths: jax.Array  # int32 [B]
    scores: jax.Array  # [B]
    ended: jax.Array  # bool [B]


def greedy(
    step: Step,
    carry: Carry,
    start: int | AnyArray,
    *,
    max_length: int,
    end: int | None = None,
    allowed: Allowed | None = None,
) -> Decoded:
    """Returns the most probable token at every step, as `Decoded(tokens, lengths, scores, log_probs)`.

    The result need not be the most probable sequence; see `beam_search`. The loop ends when all rows have ended. A row
    with NaN logits ends there, with the score NaN. Sizes are static under `jax.jit`; eager calls compile once.

    Args:
      step: `(carry, token int32 [B]) -> (carry, logits [B, V])`.
      carry: the initial carry, a pytree of arrays `[B, ...]`, or None.
      start: the token to start from, int `[B]`, or one int for all rows of the carry. The result does not contain it.
      max_length: T, the greatest number of tokens.
      end: the token that ends a row. None: all rows have `max_length` tokens.
      allowed: `(tokens int32 [T, B], t) -> bool [B, V]`, the tokens that may follow the first t tokens. None: all. The
        log-probabilities of allowed tokens do not change. If no token is allowed, the row ends with the score -inf.

    Raises:
      TypeError, ValueError: an argument does not fit, or `step` does not return a matching carry and logits.

    >>> from jaxseq import decoding
    >>> transition = jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.8, 0.1, 0.1]]))
    >>> step = lambda carry, token: (carry, transition[token])
    >>> found = decoding.greedy(step, None, jnp.array([0, 1]), max_length=4, end=2)
    >>> found.tokens.T.tolist(), found.lengths.tolist()
    ([[1, 2, -1, -1], [2, -1, -1, -1]], [2, 1])
    """

    def best(t, logits, _):
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    return _write(step, carry, start, best, max_length, end, allowed)


def sample(
    key: jax.Array | None,
    step: Step,
    carry: Carry,
    start: int | AnyArray,
    *,
    max_length: int,
    end: int | None = None,
    temperature: float | AnyArray = 1.0,
    top_k: int | None = None,
    top_p: float | AnyArray | None = None,
    typical: float | AnyArray | None = None,
    allowed: Allowed | None = None,
) -> Decoded:
    """Returns tokens drawn at random at every step, as `Decoded(tokens, lengths, scores, log_probs)`.

    Args:
      key: a random key; may be None if `temperature` is the number 0, which is `greedy`.
      step, carry, start, max_length, end, allowed: as for `greedy`.
      temperature, top_k, top_p, typical: as for `filter_logits`.

    Raises:
      TypeError, ValueError: as `greedy` and `filter_logits`.
    """
    options = options_of(temperature, top_k, top_p, typical)
    check_key(key, temperature)

    def drawn(t, logits, by):
        key, numbers = by
        return draw(jax.random.fold_in(key, t), logits, top_k=options.top_k, **numbers)

    if key is None:
        return greedy(step, carry, start, max_length=max_length, end=end, allowed=allowed)
    return _write(step, carry, start, drawn, max_length, end, allowed, (key, options.numbers))


def _write(
    step: Step,
    carry: Carry,
    start: int | AnyArray,
    choose: Callable,
    max_length: int,
    end: int | None,
    allowed: Allowed | None,
    by: Any = None,
) -> Decoded:
    """Returns the tokens that `choose(t, logits, by)` returns at each step."""
    check_functions(step=(step, 2))
    check.functions_taking(allowed=(allowed, 2))
    max_length = check.positive_int("max_length", max_length)
    carry = check.as_jax(carry, "carry")
    last = first_token(start, carry)
    V, dtype = vocabulary(step, carry, last)
    end = end_token(end, V)

    def advance(now: _Writing, by: Any) -> _Writing:
        carry, logits = logits_after(step, now.carry, now.last)
        kept = only(allowed, now.tokens, now.t, logits)
        token = choose(now.t, kept, by)
        own = jnp.take_along_axis(kept, token[..., None], axis=-1)[..., 0]
        gained = jnp.where(jnp.isneginf(own), own, own - jax.nn.logsumexp(logits, axis=-1))
        over = now.ended | ~jnp.isfinite(gained)  # -inf: no token is allowed; NaN: the logits are NaN
        return _Writing(
            t=now.t + 1,
            carry=carry,
            last=token,
            tokens=now.tokens.at[now.t].set(jnp.where(over, -1, token)),
            lengths=now.lengths + (~over).astype(jnp.int32),
            scores=now.scores + jnp.where(now.ended, 0, gained),
            ended=over | (token == end),
        )

    def run(carry: Carry, last: jax.Array, by: Any) -> Decoded:
        begun = _Writing(
            t=jnp.asarray(0, jnp.int32),
            carry=carry,
            last=last,
            tokens=no_tokens(max_length, last.shape),
            lengths=jnp.zeros(last.shape, jnp.int32),
            scores=jnp.zeros(last.shape, dtype),
            ended=jnp.zeros(last.shape, bool),
        )
        goes_on = lambda now: (now.t < max_length) & ~jnp.all(now.ended)
        done = _meshes.while_loop(goes_on, lambda now: advance(now, by), begun)
        return Decoded(done.tokens, done.lengths, done.scores, done.scores)

    return eager(run, carry, last, by)
