"""A nonlinear recurrence, all steps at once: rounds of Newton's method, each a linear recurrence (Lim et al. 2024).

    x_t = f_t(x_{t-1}),   x_0 given                                  what is solved, t = 1 … T
    ρ_t = f_t(x_{t-1}) - x_t                                         how far off a guess x is, all t at once
    Δ_t = (1 - damping) A_t Δ_{t-1} + ρ_t,   Δ_0 = 0                 an associative scan
    x  ← x + Δ

A_t is the Jacobian of f_t at x_{t-1}, which makes this Newton's method, or its diagonal (quasi-DEER, Gonzalez et al.
2024). Damping scales it, as scale-ELK there does: with 1 a round is one Jacobi iteration. Whatever A_t is, step t is
exact once those before it are, so after k rounds the first k steps are. A solution is that of the loop, up to rounding
and to what is let pass:

    |Δ_t| ≤ tolerance · scale

The first guess of a state is what the 16 steps up to it make of zeros. A trajectory that forgets is near it, while the
Jacobians at zeros may stretch where those of the trajectory do not.

What has not converged is run by the loop, and no number is clipped. A product of many Jacobians may overflow while a
guess is far off: where Δ_t is not finite, x_t is left as it is for this round. Where ρ_t is not, the rounds end.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._handed import handed_to_steps

HISTORY = 16  # steps that the first guess of a state is made from


class Rounds(NamedTuple):
    """How rounds are made.

    Attributes:
      jacobian: "full" or "diagonal".
      tolerance: of Δ, relative.
      most: the most rounds.
      damping: in [0, 1].
    """

    jacobian: str
    tolerance: float
    most: int
    damping: float


class Solution(NamedTuple):
    """The states that the rounds or the loop found, and what the rounds came to.

    Attributes:
      states: `[T, *B, n]`.
      converged: bool; False: the states are the loop's.
      rounds: the rounds that were made.
      residuals: `[most]`, the largest |ρ| before each round, inf where none was made.
      settled: int `[*B]`, the steps of each row before the first that had not converged; T: all of them.
    """

    states: jax.Array
    converged: jax.Array
    rounds: jax.Array
    residuals: jax.Array
    settled: jax.Array


def solve(
    step: Callable[[jax.Array, Any], jax.Array],
    first: jax.Array,
    inputs: Any,
    how: Rounds,
    scale: Callable[[jax.Array], jax.Array],
    *,
    is_linear: bool = False,
    by_loop: jax.Array | bool = False,
) -> Solution:
    """Returns the states of x_t = step(x_{t-1}, inputs_t).

    Args:
      step: `(x [*B, n], inputs of a step) -> x`; it treats rows alike.
      first: x_0, `[*B, n]`.
      inputs: a pytree of arrays, time leading.
      how: how rounds are made.
      scale: `states [T, *B, n] ->` what Δ is measured by.
      is_linear: whether the step is linear in x plus a constant: then a round with whole Jacobians is all.
      by_loop: bool; True leaves the rounds out.
    """
    at_once = jax.vmap(step)
    is_exact = is_linear and how.jacobian == "full"
    T = jax.tree.leaves(inputs)[0].shape[0]

    def goes_on(state):
        found, is_over = state
        return ~(found.converged | is_over) & (found.rounds < how.most)

    def round_(state):
        found, _ = state
        befores = handed_to_steps(first, found.states, False)
        afters, pull = jax.vjp(lambda befores: at_once(befores, inputs), befores)
        residual = afters - found.states
        change = _affine((1 - how.damping * (not is_exact)) * _jacobians(how.jacobian, pull, afters), residual)
        finite = jnp.isfinite(change)
        states = found.states + jnp.where(finite, change, 0)
        small = jnp.all(jnp.abs(change) <= how.tolerance * scale(states), axis=-1)
        residuals = found.residuals.at[found.rounds].set(jnp.max(jnp.abs(residual), initial=0))
        converged = jnp.all(finite if is_exact else small)
        settled = jnp.sum(jnp.cumprod(small.astype(int), axis=0), axis=0)
        is_over = ~jnp.all(jnp.isfinite(residual))
        return Solution(states, converged, found.rounds + 1, residuals, settled), is_over

    def from_one_step_more(states, _):
        return at_once(handed_to_steps(first, states, False), inputs), None

    guess, none = jnp.zeros((T, *first.shape), first.dtype), jnp.full(how.most, jnp.inf, first.dtype)
    if not is_linear:
        guess, _ = _meshes.scan(from_one_step_more, guess, length=HISTORY)
    start = Solution(guess, jnp.asarray(False), jnp.asarray(0), none, jnp.zeros(first.shape[:-1], int))
    found, _ = _meshes.while_loop(goes_on, round_, (start, jnp.asarray(by_loop)))

    def loop():
        return _meshes.scan(lambda x, inputs: (step(x, inputs),) * 2, first, inputs)[1]

    return found._replace(states=jax.lax.cond(found.converged, lambda: found.states, loop))


def _jacobians(kind, pull, like):
    """The Jacobians of all steps, `[T, *B, n, n]`, or their diagonals, `[T, *B, n]`; `pull` takes cotangents back."""
    n = like.shape[-1]
    rows, _ = _meshes.vary_alike((jnp.eye(n, dtype=like.dtype), like))
    pull_row = lambda row: pull(jnp.broadcast_to(row, like.shape))[0]
    if kind == "full":
        return jax.vmap(pull_row, out_axes=-2)(rows)
    entries = jax.lax.map(lambda i: pull_row(rows[i])[..., i], jnp.arange(n))
    return jnp.moveaxis(entries, 0, -1)


def _affine(a, b):
    """x_t = a_t x_{t-1} + b_t from 0, by an associative scan."""
    if b.shape[0] == 0:
        return b
    product = functools.partial(jnp.matmul, precision="highest")

    def then(one, other):
        (a, b), (later_a, later_b) = one, other
        if a.ndim == b.ndim:
            return later_a * a, later_a * b + later_b
        return product(later_a, a), product(later_a, b[..., None])[..., 0] + later_b

    return jax.lax.associative_scan(then, (a, b))[1]
