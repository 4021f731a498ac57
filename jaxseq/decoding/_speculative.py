"""Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): a draft model proposes, the target model verifies.

The draft model draws the tokens d_1 … d_n from its distributions q_i. The target model reads all of them at once and
returns its distributions p_1 … p_{n+1}. Starting from the first, d_i is accepted with probability
min(1, p_i(d_i) / q_i(d_i)). The first rejected token is replaced by one drawn from max(p_i - q_i, 0), scaled to sum 1.
If all are accepted, one more token is drawn from p_{n+1}. The result has the distribution of the target model's own
samples, whatever the draft model is.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._eager import eager
from jaxseq.decoding._logits import filter_logits, options_of
from jaxseq.decoding._step import (
    Step,
    check_functions,
    end_token,
    first_token,
    log_probs,
    no_tokens,
    same_batch,
    vocabulary,
)
from jaxseq.typing import AnyArray, Carry

Read: TypeAlias = Callable[[Carry, jax.Array], tuple[jax.Array, Callable[[jax.Array], Carry]]]
"""`(carry, tokens int32 [n, B]) -> (logits [n, B, V], after)`: n steps at once. `after(count int32 [B])` returns the
carry after the first `count` tokens of each row, 0 to n."""


class Speculated(NamedTuple):
    """Sequences as in `Decoded`, and how often the target model was run."""

    tokens: jax.Array
    """Int32 `[T, B]`, -1 after the end."""
    lengths: jax.Array
    """Int32 `[B]`: the number of tokens, including the end token."""
    scores: jax.Array
    """Float `[B]`: the target model's log-probability of the tokens, in nats."""
    rounds: jax.Array
    """Int32 `[B]`: how often the target model was run; each run gave `lengths / rounds` tokens on average."""


class _Writing(NamedTuple):
    key: jax.Array
    carry: Carry
    draft_carry: Carry
    last: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array
    rounds: jax.Array
    ended: jax.Array


def speculative(
    key: jax.Array,
    step: Step,
    carry: Carry,
    draft: Step,
    draft_carry: Carry,
    start: int | AnyArray,
    *,
    max_length: int,
    end: int | None = None,
    ahead: int = 4,
    read: Read | None = None,
    temperature: float | AnyArray = 1.0,
    top_k: int | None = None,
    top_p: float | AnyArray | None = None,
    typical: float | AnyArray | None = None,
) -> Speculated:
    """Returns tokens distributed as those of `sample(key, step, carry, start, ...)`, faster with a draft model.

    With temperature 0 they are the tokens of `greedy`. It is faster if one `read` takes less time than the steps it
    replaces, and the draft model takes less time than the target model. Sizes are static under `jax.jit`; eager calls
    compile once.

    Args:
      key: a random key.
      step, carry: the target model's step, `(carry, token int32 [B]) -> (carry, logits [B, V])`, and initial carry.
      draft, draft_carry: the draft model's step and initial carry, with the same V.
      start: the token to start from, int `[B]`, or one int for all rows of the carry. The result does not contain it.
      max_length: T, the greatest number of tokens.
      end: the token that ends a row. None: all rows have `max_length` tokens.
      ahead: n, the number of tokens that the draft model proposes at a time.
      read: many steps of the target model at once, such as `nn.LanguageModel.read`:
        `(carry, tokens int32 [n, B]) -> (logits [n, B, V], after)`. `after(count int32 [B])` returns the carry after
        the first `count` tokens. A cache needs room for `ahead` tokens more than are written. None: `step` is run n
        times, and all carries are kept.
      temperature, top_k, top_p, typical: as for `filter_logits`.

    Raises:
      TypeError, ValueError: an argument does not fit, or a step does not return a matching carry and logits.
    """
    check_functions(step=(step, 2), draft=(draft, 2))
    check.functions_taking(read=(read, 2))
    check.given_key(key)
    max_length, ahead = check.positive_int("max_length", max_length), check.positive_int("ahead", ahead)
    carry, draft_carry = check.as_jax((carry, draft_carry), ("carry", "draft_carry"))
    last = first_token(start, carry)
    same_batch("draft_carry", draft_carry, last)
    V, dtype = vocabulary(step, carry, last)
    if (V_draft := vocabulary(draft, draft_carry, last)[0]) != V:
        raise ValueError(f"`draft` must return logits of the V = {V} tokens of `step`; got {V_draft}")
    end = end_token(end, V)
    options = options_of(temperature, top_k, top_p, typical)
    read = functools.partial(_by_steps, step) if read is None else read

    def guess(state, key, numbers):
        carry, token = state
        carry, log_q = log_probs(draft, carry, token)
        log_q = jax.nn.log_softmax(filter_logits(log_q, top_k=options.top_k, **numbers))
        token = jax.random.categorical(key, log_q).astype(jnp.int32)
        return (carry, token), (carry, token, log_q)

    def advance(now: _Writing, numbers) -> _Writing:
        key, *keys = jax.random.split(now.key, 4)
        # One step more than there are proposals, because the draft model must also have read the last proposal.
        state, guesses = now.draft_carry, jax.random.split(keys[0], ahead + 1)
        _, (draft_carries, drawn, log_q) = _meshes.scan(
            functools.partial(guess, numbers=numbers), (state, now.last), guesses
        )
        tokens = jnp.concatenate([now.last[None], drawn[:-1]])
        logits, after = read(now.carry, tokens)
        own_log_p = jax.nn.log_softmax(logits.astype(dtype))
        log_p = jax.nn.log_softmax(filter_logits(own_log_p, top_k=options.top_k, **numbers))

        drawn, log_q = drawn[:-1], log_q[:-1]
        ratio = _at(log_p[:-1], drawn) - _at(log_q, drawn)
        stays = jnp.log(jax.random.uniform(keys[1], ratio.shape, dtype)) < ratio
        kept = jnp.sum(jnp.cumprod(stays.astype(jnp.int32), axis=0), axis=0, dtype=jnp.int32)
        left = jnp.maximum(jnp.exp(log_p[:-1]) - jnp.exp(log_q), 0)
        is_some = jnp.any(left > 0, axis=-1, keepdims=True)  # otherwise p = q, up to rounding
        left = jnp.where(is_some, jnp.log(left), log_p[:-1])
        instead = jnp.concatenate([left, log_p[-1:]])
        instead = jnp.take_along_axis(instead, kept[None, ..., None], axis=0)[0]
        other = jax.random.categorical(keys[2], instead).astype(jnp.int32)

        place = jnp.arange(ahead + 1, dtype=jnp.int32).reshape(-1, *[1] * kept.ndim)
        new = jnp.where(place < kept[None], jnp.concatenate([drawn, other[None]]), other[None])
        ends_at = jnp.min(jnp.where(new == end, place, ahead + 1), axis=0)
        count = jnp.minimum(jnp.minimum(kept, ends_at) + 1, max_length - now.lengths)
        count = jnp.where(now.ended, 0, count)
        real = place < count[None]
        lengths = now.lengths + count
        return _Writing(
            key=key,
            carry=after(kept + 1),
            draft_carry=_picked(draft_carries, kept),
            last=jnp.where(now.ended, now.last, other),
            tokens=_written(now.tokens, now.lengths, jnp.where(real, new, -1)),
            lengths=lengths,
            scores=now.scores + jnp.sum(jnp.where(real, _at(own_log_p, new), 0), axis=0),
            rounds=now.rounds + (~now.ended).astype(jnp.int32),
            ended=now.ended | (ends_at < count) | (lengths == max_length),
        )

    def run(key, carry, draft_carry, last, numbers) -> Speculated:
        nothing = jnp.zeros(last.shape, jnp.int32)
        begun = _Writing(
            key=key,
            carry=carry,
            draft_carry=draft_carry,
            last=last,
            tokens=no_tokens(max_length, last.shape),
            lengths=nothing,
            scores=jnp.zeros(last.shape, dtype),
            rounds=nothing,
            ended=jnp.zeros(last.shape, bool),
        )
        done = _meshes.while_loop(lambda now: ~jnp.all(now.ended), lambda now: advance(now, numbers), begun)
        return Speculated(done.tokens, done.lengths, done.scores, done.rounds)

    return eager(run, key, carry, draft_carry, last, options.numbers)


def _by_steps(step: Step, carry: Carry, tokens: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], Carry]]:
    """Runs single steps in the form of a `Read`, and keeps all carries."""

    def advance(carry, token):
        carry, log_p = log_probs(step, carry, token)
        return carry, (carry, log_p)

    _, (carries, log_p) = _meshes.scan(advance, carry, tokens)
    carries = jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), carry, carries)
    return log_p, lambda count: _picked(carries, count)


def _picked(carries: Any, place: jax.Array) -> Any:
    """Returns, from leaves `[n, B, ...]`, each row at its place `[B]`."""

    def pick(leaf):
        index = place.reshape(1, *place.shape, *[1] * (leaf.ndim - 1 - place.ndim))
        return jnp.take_along_axis(leaf, index, axis=0)[0]

    return jax.tree.map(pick, carries)


def _at(log_p, tokens):
    """Returns the log-probabilities of the given tokens."""
    return jnp.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]


def _written(tokens, lengths, new):
    """Returns the tokens `[T, B]` with `new` `[n, B]` written from each row's length on."""
    place = jnp.arange(len(tokens), dtype=jnp.int32).reshape(-1, *[1] * lengths.ndim) - lengths[None]
    found = jnp.take_along_axis(new, jnp.clip(place, 0, len(new) - 1), axis=0)
    return jnp.where((place >= 0) & (place < len(new)), found, tokens)
