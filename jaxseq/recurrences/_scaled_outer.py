"""The algebra of outer products under exponential gates, scaled so that nothing overflows (mLSTM, Beck 2024).

    m' = max(f̃ + m, ĩ)        f = e^{f̃+m-m'}        i = e^{ĩ-m'}
    C' = f C + i k vᵀ          n' = f n + i k          observed as qᵀ C', qᵀ n' and m'

f̃ and ĩ are logarithms. C e^m and n e^m are the states that the gates define. m only scales them, and is exact in every
kernel.

A separate recurrence computes m. The rest are then steps of `Outer`: log α = f̃ + m - m', keys e^{ĩ-m'} k, and n as an
extra column of C with values 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._promote import expand_rank
from jaxseq.recurrences._decays import FORGOTTEN
from jaxseq.recurrences._outer import Outer
from jaxseq.recurrences._start import Start, entered
from jaxseq.recurrences._steps import in_steps


class Observed(NamedTuple):
    """What is observed: `values` qᵀ C' `[T, B, heads, V]`, `normaliser` qᵀ n' and `m` `[T, B, heads]`."""

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
        """Returns the carry after one step, of the same type, and what is observed."""
        carry = entered(self.start, carry)
        m = jnp.maximum(self.log_forget + carry.m, self.log_input)
        f, i = jnp.exp(self.log_forget + carry.m - m), jnp.exp(self.log_input - m)
        k = i[..., None] * self.k
        c = f[..., None, None] * carry.c + k[..., None] * self.v[..., None, :]
        n = f[..., None] * carry.n + k
        observed = Observed(jnp.einsum("...k,...kv->...v", self.q, c), jnp.sum(self.q * n, axis=-1), m)
        return carry._replace(c=c, n=n, m=m), observed

    def hold(self, mask: jax.Array) -> "ScaledOuter":
        """Returns the steps, changed to keep the carry and output 0 where `mask`, bool `[T, B]`, is False."""
        log_forget, q = masking.keep(mask, (self.log_forget, self.q))
        log_input = masking.choose(mask, self.log_input, jnp.full_like(self.log_input, -jnp.inf))
        return self._replace(log_forget=log_forget, log_input=log_input, q=q)

    def restart(self, reset: jax.Array, initial: Any) -> "ScaledOuter":
        """Returns the steps, changed to start from the carry `initial` where `reset`, bool `[T, B]`, is True."""
        return self._replace(start=Start(reset, initial))

    def in_steps(self, carry: Any, reverse: bool = False) -> tuple[Any, Observed]:
        """Runs the steps one by one. Returns the last carry, and what is observed, `[T, B, heads, ·]`."""
        return in_steps(self, carry, reverse)

    def at_once(self, carry: Any) -> tuple[Any, Observed]:
        """Runs all steps at once, as `in_steps`."""
        return self._by_outer(carry, self._scales_at_once(carry.m), Outer.at_once)

    def in_chunks(self, carry: Any, steps: int) -> tuple[Any, Observed]:
        """Runs the steps in chunks, each by matrix products, as `in_steps`."""
        return self._by_outer(carry, self._scales_in_steps(carry.m), lambda outer, S: outer.in_chunks(S, steps))

    def summary(self) -> "Summary":
        """Returns all steps as one step. Its `apply` maps a carry to the carry after all steps."""
        never = jnp.full_like(self.log_forget[0], FORGOTTEN)
        m = self._scales_at_once(never)
        S = self._outer(never, m).summary().M
        return Summary(jnp.sum(self._scaling().log_forget, axis=0), m[-1] if m.shape[0] else never, S)

    def _by_outer(self, carry, m, run):
        """Runs all steps, given the scales `m`."""
        S, seen = run(self._outer(carry.m, m), _with_n(carry))
        last = m[-1] if m.shape[0] else carry.m
        return _without_n(carry, S, last), Observed(seen[..., :-1], seen[..., -1], m)

    def _outer(self, m_before, m):
        """Returns all steps as an `Outer`, given the scales before and after each step."""
        before, start = jnp.concatenate([m_before[None], m])[:-1], self.start
        if start is not None:
            before = masking.choose(start.reset, jnp.broadcast_to(start.initial.m, before.shape), before)
            start = Start(start.reset, _with_n(start.initial))
        return Outer(
            (self.log_forget + before - m)[..., None],
            jnp.exp(self.log_input - m)[..., None] * self.k,
            jnp.concatenate([self.v, jnp.ones_like(self.v[..., :1])], axis=-1),
            self.q,
            start,
        )

    def _scales_in_steps(self, m):
        """Returns the scale m after every step."""

        def step(m, of_step):
            m = jnp.maximum(of_step.log_forget + m, of_step.log_input)
            return m, m

        return jax.lax.scan(step, m, self._scaling())[1]

    def _scales_at_once(self, m):
        scaling = self._scaling()
        if self.log_forget.shape[0]:
            scaling = jax.lax.associative_scan(_Scaling.then, scaling)
        return jnp.maximum(scaling.log_forget + expand_rank(m, scaling.log_forget), scaling.log_input)

    def _scaling(self):
        if self.start is None:
            return _Scaling(self.log_forget, self.log_input)
        reset, initial = self.start
        started = jnp.maximum(self.log_forget + expand_rank(initial.m, self.log_forget), self.log_input)
        never = jnp.full_like(self.log_forget, -jnp.inf)
        return _Scaling(masking.choose(reset, never, self.log_forget), masking.choose(reset, started, self.log_input))


class Summary(NamedTuple):
    """Many steps as one: m' = max(f̃ + m, ĩ) and [C' | n'] = e^{f̃+m-m'} [C | n] + e^{ĩ-m'} S."""

    log_forget: jax.Array  # [B, heads]
    log_input: jax.Array  # [B, heads]
    S: jax.Array  # [B, heads, K, V + 1]

    def apply(self, carry: Any) -> Any:
        """Returns the carry after the steps."""
        kept = self.log_forget + carry.m
        m = jnp.maximum(kept, self.log_input)
        f, i = (jnp.exp(log - m)[..., None, None] for log in (kept, self.log_input))
        return _without_n(carry, f * _with_n(carry) + i * self.S, m)


class _Scaling(NamedTuple):
    """Steps m' = max(f̃ + m, ĩ), which are linear in max-plus algebra."""

    log_forget: jax.Array
    log_input: jax.Array

    def then(self, later: "_Scaling") -> "_Scaling":
        log_input = jnp.maximum(later.log_forget + self.log_input, later.log_input)
        return _Scaling(later.log_forget + self.log_forget, log_input)


def _with_n(carry):
    """Returns the carry as a matrix with n as its last column."""
    return jnp.concatenate([carry.c, carry.n[..., None]], axis=-1)


def _without_n(carry, S, m):
    """Returns the carry for a matrix with n as its last column."""
    return carry._replace(c=S[..., :-1], n=S[..., -1], m=m)
