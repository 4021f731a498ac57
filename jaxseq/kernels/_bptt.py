"""Backpropagation through time by hand (Rumelhart, Hinton & Williams 1986; Werbos 1990).

    forward   for t = 1 … T:   carry_t, y_t, saved_t = fwd(carry_{t-1}, u_t)
    backward  for t = T … 1:   δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    after it  δparams = collect(saved, δu)

The reverse loop carries only δcarry. JAX's derivative of a scan adds to the gradient of every weight at every step;
here each weight costs one matmul over all T, or, where they are many, over as many steps as a CPU's cache holds.
`us` come from `cell.project`, whose gradient is the cell's too, or JAX's.
"""

import functools

import jax

from jaxseq.kernels._fold import fold_rows
from jaxseq.kernels._scan import scan
from jaxseq.kernels._segments import by_segments, plan
from jaxseq.typing import Carry, Cell, Inputs, Params


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def bptt(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` with the gradient of its hand-written `backward`; a cell without one runs by `scan`.

    Reverse mode, to any order. For forward mode use `scan`.
    """
    loop = _in_segments if cell.backward is None else _foldable
    return loop((cell, reverse), params, carry, xs)


def _in_segments(static, params, carry, xs):
    cell, reverse = static

    def run(carry: Carry, xs: Inputs, _is_first: object) -> tuple[Carry, jax.Array]:
        if cell.backward is None:
            return scan(cell, params, carry, xs, reverse=reverse)
        us = cell.project(params, xs) if cell.backward.project is None else _project(cell, params, xs)
        return _loop(cell, reverse, params, carry, us)

    return by_segments(run, carry, xs, plan(cell, params, xs).steps, reverse)


def _ys_shape(static, params, carry, xs):
    cell, _ = static
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    y = jax.eval_shape(lambda *step: cell.step(*step)[1], params, carry, jax.eval_shape(cell.project, params, x))
    return jax.ShapeDtypeStruct((jax.tree.leaves(xs)[0].shape[0], *y.shape), y.dtype)


_foldable = fold_rows(_in_segments, _ys_shape)


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
    """Returns `(carry, ys), (params, saved)`: the loop by the cell's `fwd`, with what every step saved."""

    def step(carry, u):
        carry, y, saved = cell.backward.fwd(params, carry, u)
        return carry, (y, saved)

    carry, (ys, saved) = jax.lax.scan(step, carry, us, reverse=reverse)
    return (carry, ys), (params, saved)


def _backward(cell, reverse, residuals, cotangents):
    params, saved = residuals
    d_carry, d_ys = cotangents

    def step(d_carry, step_residuals):
        saved, d_y = step_residuals
        return cell.backward.bwd(params, saved, d_carry, d_y)

    d_carry, d_us = jax.lax.scan(step, d_carry, (saved, d_ys), reverse=not reverse)
    return cell.backward.collect(params, saved, d_us), d_carry, d_us


_loop.defvjp(forward, _backward)
