"""The algebra of outer products: a matrix decays, k vᵀ is added to it, and a query reads it.

    S' = Diag(α) S + k vᵀ                         observed as qᵀ S'

α is given as its logarithm, one per key feature or one per head; -inf forgets everything.

A chunk of steps, with S the state before it:

    scores_ts = q_tᵀ Diag(α_{s+1} ⋯ α_t) k_s  for s ≤ t        o = scores V + (q ⊙ α_1 ⋯ α_t) S
    S' = Diag(α_1 ⋯ α_L) S + Σ_s (α_{s+1} ⋯ α_L ⊙ k_s) v_sᵀ
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._promote import expand_rank
from jaxseq.recurrences._chunk import Chunk, Sequences, Step, as_one_step, at_once, in_chunks
from jaxseq.recurrences._decays import decayed, since_start
from jaxseq.recurrences._start import Start, entered
from jaxseq.recurrences._steps import in_steps


class Outer(NamedTuple):
    """Steps S' = Diag(α) S + k vᵀ of a state `[B, heads, K, V]`, observed as qᵀ S' `[T, B, heads, V]`.

    A field whose axis of heads has size 1 is shared by all heads. There may be several axes of heads, or none.

    Attributes:
      log_decay: log α `[T, B, heads, K]`, or `[T, B, heads, 1]` for one per head, at most 0; -inf is allowed.
      k, q: `[T, B, heads, K]`.
      v: `[T, B, heads, V]`.
      start: where sequences start; see `restart`.
    """

    log_decay: jax.Array
    k: jax.Array
    v: jax.Array
    q: jax.Array
    start: Start | None = None

    def step(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the state after one step from `carry [B, heads, K, V]`, and what is observed, `[B, heads, V]`."""
        S = entered(self.start, carry)
        S = jnp.exp(self.log_decay)[..., None] * S + self.k[..., None] * self.v[..., None, :]
        return S, jnp.einsum("...k,...kv->...v", self.q, S)

    def hold(self, mask: jax.Array) -> "Outer":
        """Returns the steps, changed to keep the state and output 0 where `mask`, bool `[T, B]`, is False."""
        log_decay, k, q = masking.keep(mask, (self.log_decay, self.k, self.q))
        return self._replace(log_decay=log_decay, k=k, q=q)

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Outer":
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
        scores, since, until = decayed(self.log_decay, self.q, self.k)
        decay, key = jnp.exp(since[..., -1:, :]).mT, self.k * jnp.exp(until)
        if number is None or initial is None:
            return Chunk(decay, key, self.v, self.q * jnp.exp(since), scores)
        of, initial = Sequences(number), expand_rank(initial, self.k)
        since = since_start(self.log_decay, number)
        query = self.q * jnp.exp(since)
        return Chunk(
            of.unbroken(decay),
            of.last(key),
            self.v,
            of.first(query),
            of.same(scores),
            M=of.broken(jnp.exp(since[..., -1:, :]).mT) * initial,
            seen=jnp.matmul(of.later(query), initial),
        )
