"""The algebra of outer products: a matrix decays and takes up k vᵀ, which a query reads.

    S' = Diag(α) S + k vᵀ                         seen as qᵀ S'

α is given as its logarithm, of each key feature or one a head; -inf forgets all.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.recurrences._start import Start, entered


class Outer(NamedTuple):
    """Steps S' = Diag(α) S + k vᵀ of a state `[B, heads, K, V]`, seen as qᵀ S' `[T, B, heads, V]`.

    An axis of heads of 1 is shared by all heads; there may be more such axes, or none.

    Attributes:
      log_decay: log α `[T, B, heads, K]`, or `[T, B, heads, 1]` for one a head; at most 0, -inf too.
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
        """Returns the steps; where `mask`, bool `[T, B]`, is False, they keep the state and show 0."""
        log_decay, k, q = masking.keep(mask, (self.log_decay, self.k, self.q))
        return self._replace(log_decay=log_decay, k=k, q=q)

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Outer":
        """Returns the steps; where `reset`, bool `[T, B]`, is True, they start from `initial [B, heads, K, V]`."""
        return self._replace(start=Start(reset, initial))
