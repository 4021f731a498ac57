"""Whether and how a cell runs natively, in words."""

import functools
import math
from typing import Any

import jax

from jaxseq._meshes import step_output
from jaxseq.kernels._bptt_plan import plan_bptt
from jaxseq.kernels._bytes import array_bytes
from jaxseq.kernels._plan import Plan
from jaxseq.kernels.native import _call
from jaxseq.kernels.native._gradient import gradient_of
from jaxseq.kernels.native._machine import threads
from jaxseq.kernels.native._scan import Scan, of_rows
from jaxseq.typing import Carry, Cell, Inputs, Params, Shape

_SUMS = 4 * 2**20  # bytes


def plan_native(cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `native` runs a cell.

    Raises:
      ValueError: native loops do not run here; the message says why.
    """
    reason = _call.why_not()
    if reason is not None:
        raise ValueError(f"`kernels.native` does not run here: {reason}")
    plan = plan_bptt(cell, params, xs)
    gradient = "the vjp of its step, compiled" if cell.backward is None else plan.gradient
    plan = plan._replace(kernel="kernels.native", gradient=gradient, direct=False)
    if sums_inside(params):
        reason = "its loops write neither the projected inputs nor their gradients"
        plan = plan._replace(segment=plan.steps, reason=reason)
    return plan._replace(held=functools.partial(_held, plan.segment, cell, params, xs))


def _held(segment, cell, params, xs):
    """What the forward loop writes, and the cotangents of ys; packed weights, and the sums of each thread.

    Where the sums are JAX's, in their place the cotangents of a segment's projected inputs.
    """
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    batch = jax.tree.leaves(x)[0].shape[:-1]
    carry = jax.eval_shape(lambda params: cell.carry(params, batch), params)
    T, y = jax.tree.leaves(xs)[0].shape[0], step_output(cell, params, carry, xs)
    of_one_axis = functools.partial(flattened, batch=batch)
    params_one, carry_one, xs_one = jax.eval_shape(of_one_axis, params, carry, xs)
    forward = Scan(gradient_of(cell).saving, cell.project, params_one, carry_one, xs_one, False)
    written = array_bytes(forward.shapes()) + T * array_bytes(y)
    if sums_inside(params):
        return written + (2 + threads()) * array_bytes(params)
    return written + 2 * array_bytes(params) + segment * array_bytes(jax.eval_shape(cell.project, params, x))


def sums_inside(params: Params) -> bool:
    """Whether gradients of weights are summed in the loop: each thread has sums of its own, so they must be small."""
    return array_bytes(params) <= _SUMS


def batch_axes(cell: Cell, params: Params, carry: Carry, xs: Inputs) -> Shape:
    """Returns the batch axes, any number of them."""
    y = step_output(cell, params, carry, xs)
    return y.shape[:-1]


def flattened(params: Params, carry: Carry, xs: Inputs, batch: Shape) -> tuple[Params, Carry, Inputs]:
    """Returns the arguments with one batch axis in place of all."""
    n, rows = len(batch), math.prod(batch)

    def flat(leaf: Any, lead: int) -> Any:
        return leaf.reshape(*leaf.shape[:lead], rows, *leaf.shape[lead + n :])

    leaves, tree = jax.tree.flatten(params)
    params = [flat(leaf, 0) if flag else leaf for leaf, flag in zip(leaves, of_rows(params), strict=True)]
    carry = jax.tree.map(lambda leaf: flat(leaf, 0), carry)
    return jax.tree.unflatten(tree, params), carry, jax.tree.map(lambda leaf: flat(leaf, 1), xs)


def unflattened(carry: Carry, ys: jax.Array, batch: Shape) -> tuple[Carry, jax.Array]:
    """Returns results of one batch axis with all axes that it stands for."""
    carry = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), carry)
    return carry, ys.reshape(ys.shape[0], *batch, *ys.shape[2:])
