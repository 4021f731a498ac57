"""The kernel `native`: backpropagation through time, as in `bptt`, whose loops are machine code of their own.

    forward   carry_t, y_t, saved_t = fwd(carry_{t-1}, project(x_t))          the projection is inside: there are no us
    backward  δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    after it  δparams, δxs

On other platforms than a CPU, in `jax.export`, and for second derivatives the loops are XLA's.
"""

import functools
from typing import Any

import jax

from jaxseq import _cotangents
from jaxseq._factory import named
from jaxseq._meshes import on_meshes
from jaxseq.kernels._plan import register
from jaxseq.kernels._rows import rows_are_batch
from jaxseq.kernels._segments import by_segments
from jaxseq.kernels.native._derived import backward_of
from jaxseq.kernels.native._nodes import Unsupported
from jaxseq.kernels.native._plan import batch_axes, flattened, plan_native, unflattened
from jaxseq.kernels.native._scan import scan, whole
from jaxseq.typing import Carry, Cell, Inputs, Params


@named
@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def native(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` by loops of machine code, made from its equations by LLVM; rows are shared among XLA's threads.

    Reverse mode, to any order. For forward mode use `scan`.

    Raises:
      ValueError: the cell, or this machine, has no native loop; the message says why.
    """
    return _in_segments(params, carry, xs, cell=cell, reverse=reverse)


@rows_are_batch
def _in_segments(params, carry, xs, *, cell, reverse):
    plan = plan_native(cell, params, xs)
    lead = batch_axes(cell, params, carry, xs)

    def run(params, carry, xs, _is_first) -> Any:
        return _loop(cell, reverse, params, carry, xs)

    carry, ys = by_segments(run, *flattened(params, carry, xs, lead), plan.segment, reverse)
    return unflattened(carry, ys, lead)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(cell, reverse, params, carry, xs):
    def step(params, carry, x):
        return cell.step(params, carry, cell.project(params, x))

    last, ys = _run(step, params, carry, xs, reverse)
    return last, whole(ys)


def _forward(cell, reverse, params, carry, xs):
    fwd = backward_of(cell).fwd

    def step(params, carry, x):
        after, y, saved = fwd(params, carry, cell.project(params, x))
        return after, (y, saved)

    last, (ys, saved) = _run(step, params, carry, xs, reverse)
    return (last, whole(ys)), (params, xs, saved)


def _backward(cell, reverse, residuals, cotangents):
    (params, xs, saved), (d_carry, d_ys) = residuals, cotangents
    backward = backward_of(cell)

    def step(params, d_carry, of_step):
        return backward.bwd(params, of_step[0], d_carry, of_step[1])

    d_carry = jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, d_carry)
    d_carry, d_us = _run(step, params, d_carry, (saved, d_ys), not reverse)
    saved, d_us = whole((saved, d_us))
    if backward.project is None:
        d_params, d_xs = _cotangents.pull_back(cell.project, (params, xs), d_us)
    else:
        d_params, d_xs = backward.project(params, xs, d_us)
    return _cotangents.add(backward.collect(params, saved, d_us), d_params), d_carry, d_xs


def _run(step, params, carry, inputs, reverse):
    try:
        return scan(step, params, carry, inputs, reverse)
    except Unsupported as reason:
        raise ValueError(f"`kernels.native` does not run this cell: {reason}") from reason


_loop.defvjp(_forward, _backward)
register(native, plan_native)
