"""The algebra of the delta rule: what the key reads of a decayed matrix is moved towards the value (Schlag 2021).

    S' = α (I - β k kᵀ) S + β k vᵀ                 seen as qᵀ S'

α is given as its logarithm, one a head (Yang 2024); -inf forgets all. With kᵀk = 1 and β in [0, 2] nothing grows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.recurrences._start import Start, entered


class Delta(NamedTuple):
    """Steps S' = α (I - β k kᵀ) S + β k vᵀ of a state `[B, heads, K, V]`, seen as qᵀ S' `[T, B, heads, V]`.

    Attributes:
      log_decay: log α `[T, B, heads]`, at most 0, -inf too; zeros where nothing decays.
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
        """Returns the steps; where `mask`, bool `[T, B]`, is False, they keep the state and show 0."""
        log_decay, beta, q = masking.keep(mask, (self.log_decay, self.beta, self.q))
        return self._replace(log_decay=log_decay, beta=beta, q=q)

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Delta":
        """Returns the steps; where `reset`, bool `[T, B]`, is True, they start from `initial [B, heads, K, V]`."""
        return self._replace(start=Start(reset, initial))
