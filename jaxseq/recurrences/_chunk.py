"""Runs many steps of a matrix algebra at once, by matrix products.

    values that the steps write     U = update - erase S        S is the state at the start of the chunk
    outputs within a chunk          o = seen + query S + scores U
    the state after it              S' = Diag(decay) S + M + keyᵀ U
    the chunk as one step           S' = P S + M'               P = Diag(decay) - keyᵀ erase, M' = M + keyᵀ update

Everything except S depends only on the steps of the chunk. So chunks can run one after the other, or all at once: an
associative scan over the chunks, each as one step, gives the states at their borders. No other states are computed.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._promote import expand_rank
from jaxseq.recurrences._cut import cut, cut_flags, joined, unknown


class Step(NamedTuple):
    """A linear step S' = P S + M of matrices `[..., K, V]`; P is `[..., K, K]`, or a diagonal `[..., K, 1]`."""

    P: jax.Array
    M: jax.Array

    def apply(self, S: jax.Array) -> jax.Array:
        """Returns the state after the step."""
        return self._through(S) + self.M

    def then(self, later: "Step") -> "Step":
        """Returns this step followed by `later`, as one step."""
        return Step(later._through(self.P), later.apply(self.M))

    def _through(self, S):
        S = expand_rank(S, self.P)
        return self.P * S if self.P.shape[-1] == 1 else jnp.matmul(self.P, S)


class Chunk(NamedTuple):
    """L steps combined, as above. `erase` is None if no step erases anything."""

    decay: jax.Array  # [..., K, 1], or [..., 1, 1] for one decay of all features
    key: jax.Array  # [..., L, K]
    update: jax.Array  # [..., L, V]
    query: jax.Array  # [..., L, K]
    scores: jax.Array  # [..., L, L]
    erase: jax.Array | None = None  # [..., L, K]
    M: jax.Array | int = 0  # [..., K, V]
    seen: jax.Array | int = 0  # [..., L, V]

    def run(self, S: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the state after the chunk, starting from `S [..., K, V]`, and what is observed, `[..., L, V]`."""
        U = self.update if self.erase is None else self.update - jnp.matmul(self.erase, S)
        observed = self.seen + jnp.matmul(self.query, S) + jnp.matmul(self.scores, U)
        return self.decay * S + self.M + jnp.matmul(self.key.mT, U), observed

    def as_step(self) -> Step:
        """Returns the chunk as one step."""
        M = self.M + jnp.matmul(self.key.mT, self.update)
        if self.erase is None:
            return Step(self.decay, M)
        P = expand_rank(jnp.eye(self.key.shape[-1], dtype=self.key.dtype), self.decay) * self.decay
        return Step(P - jnp.matmul(self.key.mT, self.erase), M)


class Sequences(NamedTuple):
    """The sequence of each step of a chunk: `number` `[..., L]`, where the sequence at the chunk's start is 0."""

    number: jax.Array

    def same(self, scores: jax.Array) -> jax.Array:
        """Returns scores `[..., L, L]` of two steps, with 0 for steps of different sequences."""
        return jnp.where(self.number[..., :, None] == self.number[..., None, :], scores, 0)

    def first(self, x: jax.Array) -> jax.Array:
        """Returns x `[..., L, ·]` on steps of the sequence at the chunk's start, and 0 elsewhere."""
        return jnp.where((self.number == 0)[..., None], x, 0)

    def later(self, x: jax.Array) -> jax.Array:
        """Returns x `[..., L, ·]` on steps of sequences that start in the chunk, and 0 elsewhere."""
        return jnp.where((self.number > 0)[..., None], x, 0)

    def last(self, x: jax.Array) -> jax.Array:
        """Returns x `[..., L, ·]` on steps of the sequence at the chunk's end, and 0 elsewhere."""
        return jnp.where((self.number == self.number[..., -1:])[..., None], x, 0)

    def unbroken(self, x: jax.Array) -> jax.Array:
        """Returns x `[..., ·, ·]` for chunks in which no sequence starts, and 0 for others."""
        return jnp.where((self.number[..., -1] == 0)[..., None, None], x, 0)

    def broken(self, x: jax.Array) -> jax.Array:
        """Returns x `[..., ·, ·]` for chunks in which a sequence starts, and 0 for others."""
        return jnp.where((self.number[..., -1] > 0)[..., None, None], x, 0)


def in_chunks(element: Any, S: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Runs an element from `S [B, heads, K, V]` chunk by chunk.

    The element has the fields of its algebra, `[T, B, heads, ·]`, including `k`; a `start` or None; and the method
    `chunk(number, initial) -> Chunk` for steps laid out as `[B, heads, L, ·]`. `number` `[B, 1, L]` counts the resets
    up to a step. The gradient keeps the states at the borders of chunks, and recomputes everything else.

    Returns:
      The last state, and what is observed, `[T, B, heads, V]`.
    """
    parts, initial, T = _laid_out(element, steps)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop keeps the passes apart
    def run(S, part, initial):
        element, number = part
        return element.chunk(number, initial).run(S)

    S, observed = jax.lax.scan(lambda S, part: run(S, part, initial), S, parts)
    return S, _in_order(observed, T)


def at_once(element: Any, S: jax.Array, steps: int = 64) -> tuple[jax.Array, jax.Array]:
    """Runs all chunks of an element at once by an associative scan. Otherwise as `in_chunks`."""
    if not isinstance(element.k.shape[0], int):
        raise unknown(element.k.shape[0], "for an associative scan")
    if element.k.shape[0] == 0:
        return in_chunks(element, S, steps)
    (laid_out, number), initial, T = _laid_out(element, steps)
    chunks = laid_out.chunk(number, initial)
    states = jax.lax.associative_scan(Step.then, chunks.as_step()).apply(S)
    _, observed = chunks.run(jnp.concatenate([S[None], states[:-1]]))
    return states[-1], _in_order(observed, T)


def as_one_step(element: Any, steps: int = 64) -> Step:
    """Returns all steps of an element as one step, combined chunk by chunk, without computing states."""
    parts, initial, _ = _laid_out(element, steps)

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop keeps the passes apart
    def of_chunk(part, initial):
        element, number = part
        P, M = element.chunk(number, initial).as_step()
        return Step(jnp.broadcast_to(P, (*M.shape[:-2], *P.shape[-2:])), M)

    P, M = jax.eval_shape(jax.vmap(of_chunk, (0, None)), parts, initial)
    one = jnp.eye(P.shape[-1], dtype=P.dtype)
    nothing = Step(jnp.broadcast_to(one, P.shape[1:]), jnp.zeros(M.shape[1:], M.dtype))
    return _meshes.scan(lambda step, part: (step.then(of_chunk(part, initial)), None), nothing, parts)[0]


def _laid_out(element, steps):
    """Returns the element's steps and sequence numbers as `[chunks, B, heads, steps, ·]`, and the initial state."""
    start, element = element.start, element._replace(start=None)
    T, axes = element.k.shape[0], element.k.ndim
    parts = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf if leaf.ndim > axes else leaf[..., None], 1, -2), cut(element, steps)
    )
    if start is None:
        return (parts, None), None, T
    number = jnp.moveaxis(jnp.cumsum(cut_flags(start.reset, steps), axis=1), 1, -1)
    heads = [1] * (axes - number.ndim)
    return (parts, number.reshape(*number.shape[:-1], *heads, steps)), start.initial, T


def _in_order(observed, T):
    """Returns what is observed in chunks, `[chunks, B, heads, steps, V]`, as `[T, B, heads, V]`."""
    return joined(jnp.moveaxis(observed, -2, 1), T)
