"""The interface of decoding: a model's step with any carry, and the decoded sequences."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.typing import Carry, Shape

Step: TypeAlias = Callable[[Carry, jax.Array], tuple[Carry, jax.Array]]
"""`(carry, token int32 [B]) -> (carry, logits [B, V])`: reads one token and returns the logits of the next one."""

Allowed: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`(tokens int32 [T, B], t) -> bool [B, V]`: which tokens may follow the first t of `tokens`; the others are -1.
`tokens` does not contain the start token."""


class Decoded(NamedTuple):
    """Decoded token sequences.

    `jaxseq.lengths_to_mask(lengths, T)` gives their mask.

    Attributes:
      tokens: int32 `[T, B]`, -1 after the end; from a beam search `[T, B, size]`, best first.
      lengths: int32 `[B]` or `[B, size]`: the number of tokens, including the end token.
      scores: float `[B]` or `[B, size]`: the value that ranks sequences. It equals `log_probs`, unless a beam search
        has a `length_penalty`, which divides it by a function of the length.
      log_probs: float `[B]` or `[B, size]`: the model's log-probability of the tokens, in nats.
    """

    tokens: jax.Array
    lengths: jax.Array
    scores: jax.Array
    log_probs: jax.Array


def check_functions(**named: tuple[Any, int]) -> None:
    """Raises unless each value is a function that takes the number of positional arguments that is given with it."""
    for name, (value, _) in named.items():
        if value is None:
            raise TypeError(f"`{name}` must be a function (carry, token) -> (carry, logits); got None")
    check.functions_taking(**named)


def first_token(start: Any, carry: Carry) -> jax.Array:
    """Returns `start` as int32 `[B]`; a single number is repeated for all rows of the carry."""
    leaves = jax.tree.leaves(carry)
    if isinstance(start, jax.Array) or hasattr(start, "__array__"):
        start = check.array("start", "B", start)
        if not jnp.issubdtype(start.dtype, jnp.integer):
            raise TypeError(f"`start` must be int [B], one token per row; got {check.shaped(start)}")
    else:
        start = jnp.asarray(check.natural("start", start))
        if not leaves:
            raise ValueError("`start` must be int [B], because there is no `carry` that gives the number of rows")
        if not jnp.shape(leaves[0]):
            raise ValueError(f"`carry` must be arrays [B, ...], one row per sequence; got {check.shaped(leaves[0])}")
        start = jnp.broadcast_to(start, jnp.shape(leaves[0])[:1])
    same_batch("carry", carry, start)
    return jnp.clip(start, -1, jnp.iinfo(jnp.int32).max).astype(jnp.int32)


def same_batch(name: str, carry: Carry, start: jax.Array) -> None:
    """Raises unless the leading axes of all leaves of a carry are those of `start`."""
    for leaf in jax.tree.leaves(carry):
        if jnp.shape(leaf)[: start.ndim] != start.shape:
            raise ValueError(
                f"`start`, one token per row, and `{name}` must have the same batch axes, {start.shape} for `start`; "
                f"got a leaf {check.shaped(leaf)} in `{name}`"
            )


def logits_after(step: Step, carry: Carry, tokens: jax.Array) -> tuple[Carry, jax.Array]:
    """Runs and checks a step. Returns the next carry and the logits `[B, V]` of the next tokens, at least float32."""
    result = step(carry, tokens)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"`step` must return (carry, logits [B, V]); got {type(result).__name__}")
    after, logits = result
    kinds, expected = (jax.tree.map(check.shaped, tree) for tree in (after, carry))
    if kinds != expected:
        hint = " Pass an initial carry, such as model.initial_carry((B,))." if carry is None else ""
        raise ValueError(f"`step` must return a carry like the one that it is given, {expected}; got {kinds}.{hint}")
    if jnp.ndim(logits) != tokens.ndim + 1 or jnp.shape(logits)[:-1] != tokens.shape:
        raise ValueError(f"`step` must return logits [B, V] of the batch {tokens.shape}; got {check.shaped(logits)}")
    return after, logits.astype(widen(logits.dtype))


def log_probs(step: Step, carry: Carry, tokens: jax.Array) -> tuple[Carry, jax.Array]:
    """Returns the next carry, like the one given, and the log-probabilities `[B, V]` of the next tokens."""
    after, logits = logits_after(step, carry, tokens)
    none = jnp.all(jnp.isneginf(logits), axis=-1, keepdims=True)
    return after, jnp.where(none, -jnp.inf, jax.nn.log_softmax(jnp.where(none, 0, logits)))


def vocabulary(step: Step, carry: Carry, tokens: jax.Array) -> tuple[int, Any]:
    """Returns V and the dtype of the log-probabilities."""
    shape = jax.eval_shape(lambda carry, tokens: log_probs(step, carry, tokens)[1], carry, tokens)
    return shape.shape[-1], shape.dtype


def end_token(end: int | None, V: int) -> int:
    """Returns the token that ends a sequence, or -1 if `end` is None."""
    if end is None:
        return -1
    end = check.natural("end", end)
    if end >= V:
        raise ValueError(f"`end` must be one of the V = {V} tokens, 0 to {V - 1}, or None; got {end}")
    return end


def only(allowed: Allowed | None, tokens: jax.Array, t: jax.Array, log_p: jax.Array) -> jax.Array:
    """Returns log-probabilities or logits `[B, V]`, with -inf for tokens not allowed after `tokens` `[T, B]`."""
    if allowed is None:
        return log_p
    flags = allowed(tokens, t)
    flags = check.flags("allowed", flags, log_p.shape, "B, V")
    return log_p if flags is None else jnp.where(flags, log_p, -jnp.inf)


def no_tokens(max_length: int, batch: Shape) -> jax.Array:
    """Returns an array for tokens, int32 `[T, *B]`, filled with -1."""
    return jnp.full((max_length, *batch), -1, jnp.int32)
