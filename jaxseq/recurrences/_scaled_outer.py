"""The algebra of outer products under exponential gates, scaled so that nothing overflows (mLSTM, Beck 2024).

    m' = max(f̃ + m, ĩ)        f = e^{f̃+m-m'}        i = e^{ĩ-m'}
    C' = f C + i k vᵀ          n' = f n + i k          seen as qᵀ C', qᵀ n' and m'

f̃ and ĩ are logarithms. C e^m and n e^m are what the gates say; m only scales them, and is exact in every kernel.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.recurrences._start import Start, entered


class Observed(NamedTuple):
    """What is seen of a scaled state: `values` qᵀ C' `[T, B, heads, V]`, `normaliser` qᵀ n' and `m` `[T, B, heads]`."""

    values: jax.Array
    normaliser: jax.Array
    m: jax.Array


class ScaledOuter(NamedTuple):
    """Steps of a carry with the fields `c [B, heads, K, V]`, `n [B, heads, K]` and `m [B, heads]`.

    Attributes:
      log_forget, log_input: f̃ and ĩ `[T, B, heads]`.
      k, q: `[T, B, heads, K]`.
      v: `[T, B, heads, V]`.
      start: where sequences start; see `restart`.
    """

    log_forget: jax.Array
    log_input: jax.Array
    k: jax.Array
    v: jax.Array
    q: jax.Array
    start: Start | None = None

    def step(self, carry: Any) -> tuple[Any, Observed]:
        """Returns the carry after one step, of the type that it came as, and what is observed."""
        carry = entered(self.start, carry)
        m = jnp.maximum(self.log_forget + carry.m, self.log_input)
        f, i = jnp.exp(self.log_forget + carry.m - m), jnp.exp(self.log_input - m)
        k = i[..., None] * self.k
        c = f[..., None, None] * carry.c + k[..., None] * self.v[..., None, :]
        n = f[..., None] * carry.n + k
        observed = Observed(jnp.einsum("...k,...kv->...v", self.q, c), jnp.sum(self.q * n, axis=-1), m)
        return carry._replace(c=c, n=n, m=m), observed

    def hold(self, mask: jax.Array) -> "ScaledOuter":
        """Returns the steps; where `mask`, bool `[T, B]`, is False, they keep the carry and show 0."""
        log_forget, q = masking.keep(mask, (self.log_forget, self.q))
        log_input = masking.choose(mask, self.log_input, jnp.full_like(self.log_input, -jnp.inf))
        return self._replace(log_forget=log_forget, log_input=log_input, q=q)

    def restart(self, reset: jax.Array, initial: Any) -> "ScaledOuter":
        """Returns the steps; where `reset`, bool `[T, B]`, is True, they start from the carry `initial`."""
        return self._replace(start=Start(reset, initial))
