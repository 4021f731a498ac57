"""Backpropagation through time by hand (Rumelhart, Hinton & Williams 1986; Werbos 1990).

    forward   for t = 1 … T:   carry_t, y_t, saved_t = fwd(carry_{t-1}, u_t)
    backward  for t = T … 1:   δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    after it  δparams = collect(saved, δu)

The reverse loop carries only δcarry. JAX's derivative of a scan adds to the gradient of every weight at every step;
here each weight costs one matmul over all T. `us` come from `cell.project`, whose gradient is the cell's too, or JAX's.
"""

import functools

import jax
import jax.numpy as jnp

from jaxseq.kernels._scan import scan
from jaxseq.typing import Carry, Cell, Inputs, Params


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def bptt(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` with the gradient of its hand-written `backward`; a cell without one runs by `scan`.

    Reverse mode, to any order. For forward mode use `scan`.
    """
    if cell.backward is None:
        return scan(cell, params, carry, xs, reverse=reverse)
    us = cell.project(params, xs) if cell.backward.project is None else _project(cell, params, xs)
    return _loop(cell, reverse, params, carry, us)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _project(cell, params, xs):
    return cell.project(params, xs)


_project.defvjp(
    lambda cell, params, xs: (cell.project(params, xs), (params, xs)),
    lambda cell, residuals, d_us: cell.backward.project(*residuals, d_us),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(cell, reverse, params, carry, us):
    return jax.lax.scan(lambda carry, u: cell.step(params, carry, u), carry, us, reverse=reverse)


def forward(cell, reverse, params, carry, us):
    """Returns `(carry, ys)` of the loop by the cell's `fwd`, and what `_backward` needs."""

    def step(carry, u):
        carry, y, saved = cell.backward.fwd(params, carry, u)
        return carry, (y, saved)

    carry, (ys, saved) = jax.lax.scan(step, carry, us, reverse=reverse)
    return (carry, ys), (params, saved, us)


def _backward(cell, reverse, residuals, cotangents):
    """The reverse loop, in which every δu_t takes the place of u_t, so that us and δus share one piece of memory."""
    params, saved, us = residuals
    d_carry, d_ys = cotangents

    def step(state, inputs):
        d_carry, place = state
        t, saved, d_y = inputs
        d_carry, d_u = cell.backward.bwd(params, saved, d_carry, d_y)
        put = functools.partial(_put, t)
        return (d_carry, jax.tree.map(put, d_u, place, is_leaf=lambda leaf: leaf is None)), None

    inputs = jnp.arange(d_ys.shape[0]), saved, d_ys
    (d_carry, d_us), _ = jax.lax.scan(step, (d_carry, us), inputs, reverse=not reverse)
    d_us = jax.tree.map(lambda leaf: leaf if _is_float(leaf) else None, d_us)
    return cell.backward.collect(params, saved, d_us), d_carry, d_us


def _put(t, d_u, us):
    """Writes δu over u at step t; zeros where it is None, and nothing over what is no float and has no gradient."""
    if d_u is None:
        return jax.tree.map(lambda u: _put(t, jnp.zeros(u.shape[1:], u.dtype), u) if _is_float(u) else u, us)
    if us.shape[0] == 0:
        return us  # of no steps: the loop is traced, and not run
    return jax.lax.dynamic_update_index_in_dim(us, d_u.astype(us.dtype), t, 0)


def _is_float(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


_loop.defvjp(forward, _backward)
