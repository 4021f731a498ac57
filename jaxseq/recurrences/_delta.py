"""The algebra of the delta rule: the value that a key reads in a decayed matrix moves towards v (Schlag 2021).

    S' = α (I - β k kᵀ) S + β k vᵀ                 observed as qᵀ S'

α is given as its logarithm, one per head (Yang 2024); -inf forgets everything. If kᵀk = 1 and β is in [0, 2], the
state does not grow.

A chunk of steps, with S the state before it, becomes a chunk of outer products k_t u_tᵀ (Yang 2024):

    u_t = β_t (v_t - α_t S_{t-1}ᵀ k_t)           A_ts = β_t (α_{s+1} ⋯ α_t) k_tᵀ k_s  for s < t
    (I + A) U = β V - W₀ S                        W₀ = β (α_1 ⋯ α_t) k_t

I + A is inverted by doubling over blocks of 1, 2, 4, … steps. Powers of A, or substitution row by row, would grow and
lose digits.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._promote import expand_rank
from jaxseq.recurrences._chunk import Chunk, Sequences, Step, as_one_step, at_once, in_chunks
from jaxseq.recurrences._decays import by_one_decay, since_start
from jaxseq.recurrences._inverse import inverse_of_unit_lower
from jaxseq.recurrences._start import Start, entered
from jaxseq.recurrences._steps import in_steps


class Delta(NamedTuple):
    """Steps S' = α (I - β k kᵀ) S + β k vᵀ of a state `[B, heads, K, V]`, observed as qᵀ S' `[T, B, heads, V]`.

    Attributes:
      log_decay: log α `[T, B, heads]`, at most 0; -inf is allowed. Zeros mean no decay.
      beta: `[T, B, heads]`.
      k, q: `[T, B, heads, K]`.
      v: `[T, B, heads, V]`.
      start: where sequences start; see `restart`.
    """

    log_decay: jax.Array
    beta: jax.Array
    k: jax.Array
    v: jax.Array
    q: jax.Array
    start: Start | None = None

    def step(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the state after one step from `carry [B, heads, K, V]`, and what is observed, `[B, heads, V]`."""
        S = jnp.exp(self.log_decay)[..., None, None] * entered(self.start, carry)
        update = self.beta[..., None] * (self.v - jnp.einsum("...k,...kv->...v", self.k, S))
        S = S + self.k[..., None] * update[..., None, :]
        return S, jnp.einsum("...k,...kv->...v", self.q, S)

    def hold(self, mask: jax.Array) -> "Delta":
        """Returns the steps, changed to keep the state and output 0 where `mask`, bool `[T, B]`, is False."""
        log_decay, beta, q = masking.keep(mask, (self.log_decay, self.beta, self.q))
        return self._replace(log_decay=log_decay, beta=beta, q=q)

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Delta":
        """Returns the steps, changed to start from `initial [B, heads, K, V]` where `reset`, bool `[T, B]`, is True."""
        return self._replace(start=Start(reset, initial))

    def in_steps(self, carry: jax.Array, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
        """Runs the steps one by one. Returns the last state, and what is observed, `[T, B, heads, V]`."""
        return in_steps(self, carry, reverse)

    def at_once(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Runs all steps at once, as `in_steps`."""
        return at_once(self, carry)

    def in_chunks(self, carry: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
        """Runs the steps in chunks, each by matrix products, as `in_steps`."""
        return in_chunks(self, carry, steps)

    def summary(self) -> Step:
        """Returns all steps as one step. Its `apply` maps a state `[B, heads, K, V]` to the state after all steps."""
        return as_one_step(self)

    def chunk(self, number: jax.Array | None, initial: jax.Array | None) -> Chunk:
        """Returns the steps `[B, heads, L, ·]` as a chunk; see `in_chunks` of `_chunk.py`."""
        ratios, since, until = by_one_decay(self.log_decay)
        of = None if number is None else Sequences(number)
        if of is not None:
            ratios, since = of.same(ratios), since_start(self.log_decay, of.number)
        inverse = inverse_of_unit_lower(self.beta * jnp.tril(ratios, -1) * jnp.matmul(self.k, self.k.mT))
        scores = ratios * jnp.matmul(self.q, self.k.mT)
        decay, key = jnp.exp(since), self.k * jnp.exp(until)
        update, erase, query = self.beta * self.v, self.beta * decay * self.k, decay * self.q
        decay = decay[..., -1:, :]
        M = seen = 0
        if of is not None and initial is not None:
            initial = expand_rank(initial, self.k)
            update -= jnp.matmul(of.later(erase), initial)
            seen, M = jnp.matmul(of.later(query), initial), of.broken(decay) * initial
            decay, erase, query, key = of.unbroken(decay), of.first(erase), of.first(query), of.last(key)
        update, erase = jnp.matmul(inverse, update), jnp.matmul(inverse, erase)
        return Chunk(decay, key, update, query, scores, erase, M, seen)
