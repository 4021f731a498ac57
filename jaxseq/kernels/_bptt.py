"""Hand-written backpropagation through time (Rumelhart, Hinton & Williams 1986; Werbos 1990).

    forward   for t = 1 … T:   carry_t, y_t, saved_t = fwd(carry_{t-1}, u_t)
    backward  for t = T … 1:   δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    after it  δparams = collect(saved, δu)

The reverse loop carries only δcarry. JAX's derivative of a scan adds to the gradient of every weight at every step.
Here, each weight costs one matmul over all T, or, for a long sequence, over as many steps as fit into a CPU's cache.
`us` come from `cell.project`. Its gradient is the cell's own, or JAX's.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxseq import _cotangents, check
from jaxseq._factory import named
from jaxseq._meshes import on_meshes
from jaxseq.kernels._bptt_plan import plan_bptt
from jaxseq.kernels._linear import run_linear_steps
from jaxseq.kernels._plan import register
from jaxseq.kernels._rows import rows_are_batch
from jaxseq.kernels._saved import run_and_save
from jaxseq.kernels._scan import scan
from jaxseq.kernels._segments import by_segments
from jaxseq.typing import Carry, Cell, Inputs, Params, Saved


@named
@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def bptt(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` with the gradient of its hand-written `backward`. A cell without one runs by `scan`.

    A linear cell has the gradient of its algebra. Operations pointwise in time run for all steps at once.

    Supports reverse mode, to any order, and forward over reverse, as in `jax.hessian`. For forward mode use `scan`.
    """
    if cell.backward is None and cell.linear is None:
        plan = plan_bptt(cell, params, xs)

        def run_by_scan(params, carry, xs, _is_first):
            return scan(cell, params, carry, xs, reverse=reverse)

        return by_segments(run_by_scan, params, carry, xs, plan.segment, reverse)
    return _in_segments(params, carry, xs, cell=cell, reverse=reverse)


@rows_are_batch
def _in_segments(params, carry, xs, *, cell, reverse):
    plan = plan_bptt(cell, params, xs)

    def run(params, carry, xs, _is_first) -> Any:
        if cell.linear is not None:
            return run_linear_steps(cell, params, carry, xs, reverse=reverse)
        return _loop(cell, reverse, params, carry, xs)

    return by_segments(run, params, carry, xs, plan.segment, reverse)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(cell, reverse, params, carry, xs):
    return scan(cell, params, carry, xs, reverse=reverse)


def _forward(cell, reverse, params, carry, xs):
    results, saved = run_and_save(cell.backward.fwd, params, carry, cell.project(params, xs), reverse)
    return results, (params, xs, saved)


def _backward(cell, reverse, residuals, cotangents):
    (params, xs, saved), (d_carry, d_ys) = residuals, cotangents
    saved = saved.whole()

    def step(d_carry, of_step):
        saved, d_y = of_step
        return cell.backward.bwd(params, saved, d_carry, d_y)

    d_carry, d_us = jax.lax.scan(step, d_carry, (saved, d_ys), reverse=not reverse)
    if cell.backward.project is None:
        d_params, d_xs = _cotangents.pull_back(cell.project, (params, xs), d_us)
    else:
        d_params, d_xs = cell.backward.project(params, xs, d_us)
    return _cotangents.add(cell.backward.collect(params, saved, d_us), d_params), d_carry, d_xs


def _backward_or_blame(cell, reverse, residuals, cotangents):
    params, xs, saved = residuals
    run = functools.partial(_backward, cell, reverse, residuals, cotangents)
    return gradients_or_blame(run, cell, params, xs, saved.whole, cotangents)


def gradients_or_blame(
    run: Callable[[], tuple],
    cell: Cell,
    params: Params,
    xs: Inputs,
    saved: Callable[[], Saved],
    cotangents: tuple,
    wants_xs: bool = True,
) -> tuple:
    """Returns the gradients of params, carry and, if wanted, xs that `run` computes with a hand-written backward.

    Raises:
      TypeError, ValueError: a gradient has another shape or dtype than its argument. The error names the function at
        fault.
    """
    try:
        results = run()
        if not check.gradients(results, (params, cotangents[0], xs if wants_xs else None)):
            raise TypeError("the gradients of params, carry and xs must have their shapes and dtypes")
    except (TypeError, ValueError) as error:
        check.blame_backward(error, cell, params, xs, saved(), cotangents)
        raise
    return results


_loop.defvjp(_forward, _backward_or_blame)
register(bptt, plan_bptt)
