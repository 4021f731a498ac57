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
import jax.numpy as jnp
import numpy as np

from jaxseq.kernels._fold import fold_rows
from jaxseq.kernels._plan import runs_directly, segments
from jaxseq.kernels._saved import run_and_save
from jaxseq.kernels._scan import scan
from jaxseq.kernels._segments import by_segments
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
        loop = scan if cell.backward is None else _loop
        return loop(cell, params, carry, xs, reverse=reverse)

    return by_segments(run, carry, xs, segments(cell, params, xs).steps, reverse)


def _ys_shape(static, params, carry, xs):
    cell, _ = static
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    y = jax.eval_shape(lambda *step: cell.step(*step)[1], params, carry, jax.eval_shape(cell.project, params, x))
    return jax.ShapeDtypeStruct((jax.tree.leaves(xs)[0].shape[0], *y.shape), y.dtype)


_foldable = fold_rows(_in_segments, _ys_shape)


@functools.partial(jax.custom_vjp, nondiff_argnames=("cell", "reverse"))
def _loop(cell, params, carry, xs, reverse):
    if not runs_directly(cell, params, xs):
        return scan(cell, params, carry, xs, reverse=reverse)
    return jax.lax.scan(cell.direct(params), carry, xs, reverse=reverse)


def _forward(cell, params, carry, xs, reverse):
    results, saved = run_and_save(cell.backward.fwd, params, carry, cell.project(params, xs), reverse)
    return results, (params, xs, saved)


def _backward(cell, reverse, residuals, cotangents):
    params, xs, saved = residuals
    saved = saved.whole()
    d_carry, d_ys = cotangents

    def step(d_carry, step_residuals):
        saved, d_y = step_residuals
        return cell.backward.bwd(params, saved, d_carry, d_y)

    d_carry, d_us = jax.lax.scan(step, d_carry, (saved, d_ys), reverse=not reverse)
    d_params, d_xs = _project_back(cell, params, xs, d_us)
    return _sum(cell.backward.collect(params, saved, d_us), d_params), d_carry, d_xs


def _project_back(cell, params, xs, d_us):
    if cell.backward.project is not None:
        return cell.backward.project(params, xs, d_us)
    us, pull = jax.vjp(cell.project, params, xs)
    return pull(jax.tree.map(_or_zeros, d_us, us, is_leaf=_is_none))


def _or_zeros(d, part):
    """A cotangent, or for None zeros, of the dtype that JAX gives to those of flags where `part` has flags."""
    if d is not None:
        return d
    dtypes = jax.tree.map(
        lambda leaf: leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else jax.dtypes.float0, part
    )
    return jax.tree.map(lambda leaf, dtype: np.zeros(leaf.shape, dtype), part, dtypes)


def _sum(of_step, of_project):
    """The sum of two gradients of params; None, for flags among them, is no gradient."""

    def add(one, other):
        if one is None:
            return other
        return one if other is None or other.dtype == jax.dtypes.float0 else one + other

    return jax.tree.map(add, of_step, of_project, is_leaf=_is_none)


def _is_none(leaf):
    return leaf is None


_loop.defvjp(_forward, _backward)
