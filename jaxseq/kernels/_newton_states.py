"""The states of all steps, solved for in rounds, and their derivatives, which are also linear recurrences.

    x_t = f(params, x_{t-1}, u_t)                   in rounds, see `_newton_rounds`
    z_t = J_t z_{t-1} + (∂f/∂params) p + (∂f/∂u) v_t    tangents z of x, from p of params and v of u: a scan of J_t
    δ_t = d_t + J_{t+1}ᵀ δ_{t+1}                    cotangents, from d_t of what reads x_t: a scan of J_tᵀ, backwards

The derivative is that of the solution, by the implicit function theorem. It does not depend on the rounds. The gradient
of params is the vjp of one step over all T at once, from the δ_t. If only the diagonals of J_t are used, a linear
recurrence also takes rounds. If the loop found the states, it also computes their derivatives.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq._handed import handed_to_steps
from jaxseq.kernels._newton_rounds import Rounds, Solution, solve
from jaxseq.typing import Params

Step = Callable[[Params, jax.Array, Any], jax.Array]


def newton_states(step: Step, how: Rounds, params: Params, first: jax.Array, us: Any) -> Solution:
    """Returns the states of x_t = step(params, x_{t-1}, u_t) from `first [*B, n]`, differentiable to any order."""

    def largest(states):
        """Returns the scale of each number of a row's carry: its largest value at any step."""
        return jnp.max(jnp.abs(states), axis=0, keepdims=True, initial=0)

    constants = jax.lax.stop_gradient((params, first, us))
    found = solve(functools.partial(step, constants[0]), *constants[1:], how, largest)
    return found._replace(states=_solution(step, how, found.converged, found.states, params, first, us))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _solution(step, how, converged, states, params, first, us):
    """Returns the states, which were found for constants, as a function of params, first and us."""
    return states


@_solution.defjvp
def _derivative(step, how, primals, tangents):
    (converged, _, params, first, us), (_, _, d_params, d_first, d_us) = primals, tangents
    states = _solution(step, how, *primals)
    befores = handed_to_steps(first, states, False)
    at_once = jax.vmap(step, (None, 0, 0))
    d_befores = handed_to_steps(d_first, jnp.zeros_like(befores), False)
    _, forcing = jax.jvp(at_once, (params, befores, us), (d_params, d_befores, d_us))

    def equation(tangents):
        """Returns what must equal the forcing."""
        handed = handed_to_steps(jnp.zeros_like(first), tangents, False)
        return tangents - jax.jvp(lambda befores: at_once(params, befores, us), (befores,), (handed,))[1]

    def push(tangent, given):
        before, u, forcing = given
        return jax.jvp(lambda before: step(params, before, u), (before,), (tangent,))[1] + forcing

    def pull(cotangent, given):
        before, u, read = given  # of the next step, and of what reads this step's state
        return jax.vjp(lambda before: step(params, before, u), before)[1](cotangent)[0] + read

    def largest(vectors):
        """Returns the scale of a step's tangent or cotangent: its own largest entry."""
        return jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0)

    options = {"how": how, "scale": largest, "is_linear": True, "by_loop": ~converged}

    def tangents_of(_, forcing):
        return solve(push, jnp.zeros_like(first), (befores, us, forcing), **options).states

    def cotangents_of(_, read):
        back = lambda tree: jax.tree.map(lambda leaf: jnp.flip(leaf, 0), tree)
        after = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), back((befores, us)))  # the first gets a cotangent of 0
        return back(solve(pull, jnp.zeros_like(first), (*after, back(read)), **options).states)

    return states, jax.lax.custom_linear_solve(equation, forcing, tangents_of, cotangents_of)
