"""The diagonal algebra, real or complex: each number of the state decays by itself.

    h' = a ⊙ h + b                               observed as h'
    (a₂, b₂) after (a₁, b₁)  =  (a₂ ⊙ a₁, a₂ ⊙ b₁ + b₂)
    hold      a = 1, b = 0
    restart   a = 0, b = a ⊙ h₀ + b

The adjoint is a recurrence of the same kind that runs backwards. With d_t the cotangent of the observed h_t:

    δ_t = d_t + a_{t+1} ⊙ δ_{t+1}        δb_t = δ_t        δa_t = δ_t ⊙ h_{t-1}        δh_0 = a_1 ⊙ δ_1
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq._handed import handed_to_steps
from jaxseq._promote import expand_rank, wider
from jaxseq._reverse_only import in_reverse_mode
from jaxseq.recurrences._cut import cut, joined, unknown


class Diagonal(NamedTuple):
    """Steps h' = a ⊙ h + b of a state with any axes.

    Attributes:
      a: `[T, B, *state]`, or `[*state]` if it is the same at every step.
      b: `[T, B, *state]`.
    """

    a: jax.Array
    b: jax.Array

    def step(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the state after one step from `carry [B, *state]`, twice: as state and as what is observed."""
        h = expand_rank(self.a, self.b) * carry + self.b
        return h, h

    def then(self, later: "Diagonal") -> "Diagonal":
        """Returns these steps followed by `later`, each pair as one step."""
        return Diagonal(later.a * self.a, later.a * self.b + later.b)

    def hold(self, mask: jax.Array) -> "Diagonal":
        """Returns the steps, changed to keep the state where `mask`, bool `[T, B]`, is False."""
        a = self.whole().a
        return Diagonal(masking.choose(mask, a, jnp.ones_like(a)), masking.keep(mask, self.b))

    def restart(self, reset: jax.Array, initial: jax.Array) -> "Diagonal":
        """Returns the steps, changed to start from `initial [B, *state]` where `reset`, bool `[T, B]`, is True."""
        a = self.whole().a
        started = a * expand_rank(initial, a) + self.b
        return Diagonal(masking.keep(~reset, a), masking.choose(reset, started, self.b))

    def whole(self) -> "Diagonal":
        """Returns the steps with a separate `a` for each step."""
        return self._replace(a=jnp.broadcast_to(expand_rank(self.a, self.b), self.b.shape))

    def in_steps(self, carry: jax.Array, reverse: bool = False) -> tuple[jax.Array, jax.Array]:
        """Runs the steps one by one from `carry [B, *state]`. Returns the last state, and all `[T, B, *state]`."""
        return _run(False, reverse, *self._of(carry), carry)

    def at_once(self, carry: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Runs all steps by an associative scan, as `in_steps`."""
        return _run(True, False, *self.whole()._of(carry), carry)

    def in_chunks(self, carry: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
        """Runs the steps in chunks, each by an associative scan, as `in_steps`."""
        chunks, T = cut(self.whole()._of(carry), steps), self.b.shape[0]
        last, hs = jax.lax.scan(lambda h, chunk: _run(True, False, chunk.a, chunk.b, h), carry, chunks)
        return last, joined(hs, T)

    def summary(self) -> "Diagonal":
        """Returns all steps as one step, combined in pairs. Its `apply` maps a state to the state after all steps."""
        whole = self.whole()
        a, b = (leaf.astype(wider(*(leaf.dtype for leaf in whole))) for leaf in whole)
        while b.shape[0] != 1:
            missing = [(0, 2 if b.shape[0] == 0 else b.shape[0] % 2)] + [(0, 0)] * (b.ndim - 1)
            a, b = jnp.pad(a, missing, constant_values=1), jnp.pad(b, missing)
            a, b = Diagonal(a[::2], b[::2]).then(Diagonal(a[1::2], b[1::2]))
        return Diagonal(a[0], b[0])

    def apply(self, carry: jax.Array) -> jax.Array:
        """Returns the state after one step."""
        return self._of(carry).step(carry)[0]

    def _of(self, carry):
        """Returns the steps in the dtype of the state, which may be complex when the steps are real."""
        return Diagonal(self.a.astype(carry.dtype), self.b.astype(carry.dtype))


def _run(at_once, reverse, a, b, carry):
    """Returns the last state and all states."""
    return _by_adjoint(at_once, reverse, *map(in_reverse_mode, (a, b, carry)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _by_adjoint(at_once, reverse, a, b, carry):
    hs = _tree(a, b, carry) if at_once else _loop(a, b, carry, reverse)
    return _last(carry, hs, reverse), hs


def _forward(at_once, reverse, a, b, carry):
    hs = _tree(a, b, carry) if at_once else _loop(a, b, carry, reverse)
    return (_last(carry, hs, reverse), hs), (a, carry, hs)


def _backward(at_once, reverse, residuals, cotangents):
    (a, carry, hs), (d_last, d_hs) = residuals, cotangents
    if at_once:
        after = handed_to_steps(jnp.ones_like(carry), a, True)
        d_b = _tree(after, d_hs, d_last, reverse=True)
        d_carry = a[0] * d_b[0] if a.shape[0] else d_last
    else:
        d_carry, d_b = _loop_back(a, d_hs, d_last, not reverse)
    d_a = d_b * handed_to_steps(carry, hs, reverse)
    return d_a.sum(range(d_a.ndim - a.ndim)), d_b, d_carry


_by_adjoint.defvjp(_forward, _backward)


def _loop(a, b, carry, reverse):
    """Runs h_t = a_t ⊙ h_{t-1} + b_t by a loop."""

    def step(h, ab):
        h, _ = Diagonal(*ab).step(h)
        return h, h

    if a.ndim < b.ndim:
        return jax.lax.scan(lambda h, b: step(h, (a, b)), carry, b, reverse=reverse)[1]
    return jax.lax.scan(step, carry, (a, b), reverse=reverse)[1]


def _loop_back(a, d_hs, d_last, reverse):
    """Runs δ_t = d_t + a_{t+1} ⊙ δ_{t+1} by a loop. Returns the cotangent of the first state, and all δ."""

    def step(d, ad):
        a, d_h = ad
        d = d_h + d
        return expand_rank(a, d) * d, d

    if a.ndim < d_hs.ndim:
        return jax.lax.scan(lambda d, d_h: step(d, (a, d_h)), d_last, d_hs, reverse=reverse)
    return jax.lax.scan(step, d_last, (a, d_hs), reverse=reverse)


def _tree(a, b, first, reverse=False):
    """Runs h_t = a_t ⊙ h_{t-1} + b_t by an associative scan."""
    T = b.shape[0]
    if not isinstance(T, int):
        raise unknown(T, "for an associative scan")
    if T == 0:
        return b
    b = jnp.asarray(b).at[-1 if reverse else 0].add(a[-1 if reverse else 0] * first)
    return jax.lax.associative_scan(Diagonal.then, Diagonal(a, b), reverse=reverse).b


def _last(carry, hs, reverse):
    return (hs[0] if reverse else hs[-1]) if hs.shape[0] else carry
