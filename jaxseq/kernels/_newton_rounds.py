"""A nonlinear recurrence, solved for all steps at once: each round of Newton's method is linear (Lim et al. 2024).

    x_t = f_t(x_{t-1}),   x_0 given                                  the equations, t = 1 … T
    ρ_t = f_t(x_{t-1}) - x_t                                         the residual of a guess x, for all t at once
    Δ_t = (1 - damping) A_t Δ_{t-1} + ρ_t,   Δ_0 = 0                 an associative scan
    x  ← x + Δ

A_t is the Jacobian of f_t at x_{t-1} (Newton's method) or its diagonal (quasi-DEER, Gonzalez et al. 2024). Damping
scales it, as in their scale-ELK. With damping 1 a round is one Jacobi iteration. For any A_t, step t is exact once the
steps before it are exact, so the first k steps are exact after k rounds. A solution equals that of the loop, up to
rounding and the tolerance:

    |Δ_t| ≤ tolerance · scale

The first guess of a state runs the 16 steps up to it, starting from zeros. If the recurrence forgets, this is close to
the trajectory. The Jacobians at zeros may expand even if those along the trajectory do not.

The loop runs what has not converged, and no number is clipped. While a guess is far off, a product of many Jacobians
may overflow. If Δ_t is not finite, x_t is not changed in this round. If ρ_t is not finite, the rounds end.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._handed import handed_to_steps

HISTORY = 16  # the number of steps that the first guess of a state runs


class Rounds(NamedTuple):
    """The options of the rounds.

    Attributes:
      jacobian: "full" or "diagonal".
      tolerance: the relative tolerance of Δ.
      most: the largest number of rounds.
      damping: in [0, 1].
    """

    jacobian: str
    tolerance: float
    most: int
    damping: float


class Solution(NamedTuple):
    """The states that the rounds or the loop found, and how the rounds went.

    Attributes:
      states: `[T, *B, n]`.
      converged: bool. False: the states are the loop's.
      rounds: the number of rounds that were run.
      residuals: `[most]`, the largest |ρ| before each round, inf for rounds that were not run.
      settled: int `[*B]`, for each row the number of steps before the first that had not converged. T: all converged.
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
      step: `(x [*B, n], inputs of a step) -> x`. It treats every row the same.
      first: x_0, `[*B, n]`.
      inputs: a pytree of arrays with leading time.
      how: the options of the rounds.
      scale: `states [T, *B, n] ->` the scale by which Δ is measured.
      is_linear: whether the step is affine in x. Then one round with full Jacobians suffices.
      by_loop: bool. True skips the rounds.
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
    """Returns the Jacobians of all steps, `[T, *B, n, n]`, or their diagonals, `[T, *B, n]`. `pull` is their vjp."""
    n = like.shape[-1]
    rows, _ = _meshes.vary_alike((jnp.eye(n, dtype=like.dtype), like))
    pull_row = lambda row: pull(jnp.broadcast_to(row, like.shape))[0]
    if kind == "full":
        return jax.vmap(pull_row, out_axes=-2)(rows)
    entries = jax.lax.map(lambda i: pull_row(rows[i])[..., i], jnp.arange(n))
    return jnp.moveaxis(entries, 0, -1)


def _affine(a, b):
    """Returns x_t = a_t x_{t-1} + b_t, from 0, by an associative scan."""
    if b.shape[0] == 0:
        return b
    product = functools.partial(jnp.matmul, precision="highest")

    def then(one, other):
        (a, b), (later_a, later_b) = one, other
        if a.ndim == b.ndim:
            return later_a * a, later_a * b + later_b
        return product(later_a, a), product(later_a, b[..., None])[..., 0] + later_b

    return jax.lax.associative_scan(then, (a, b))[1]
