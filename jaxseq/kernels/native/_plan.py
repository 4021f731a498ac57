"""Whether and how a cell runs natively, in words."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq._meshes import step_output
from jaxseq.kernels._bptt_plan import plan_bptt
from jaxseq.kernels._bytes import array_bytes, one_step
from jaxseq.kernels._plan import Plan
from jaxseq.kernels._rows import of_rows
from jaxseq.kernels.native import _call
from jaxseq.kernels.native._gradient import gradient_of
from jaxseq.kernels.native._machine import machine, threads
from jaxseq.kernels.native._nodes import Unsupported
from jaxseq.kernels.native._reverse import reverse_loop, sums_inside
from jaxseq.kernels.native._scan import Scan, scan, whole
from jaxseq.typing import Carry, Cell, Inputs, Params, Shape


def plan_native(cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `native` runs a cell.

    Raises:
      ValueError: native loops do not run here. The message says why.
    """
    reason = native_reason(cell, params, xs)
    if reason is not None:
        raise ValueError(f"`kernels.native` does not run {cell!r} here: {reason}")
    plan = plan_bptt(cell, params, xs)
    gradient = "the vjp of its step, compiled" if cell.backward is None else plan.gradient
    plan = plan._replace(kernel="kernels.native", gradient=gradient)
    if sums_inside(params):
        reason = "its loops write neither the projected inputs nor their gradients"
        plan = plan._replace(segment=plan.steps, reason=reason)
    return plan._replace(held=functools.partial(_held, plan.segment, cell, params, xs))


def explain_native(cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `native` runs a cell, and also whether its reverse loop is native."""
    plan, gradient = plan_native(cell, params, xs), gradient_of(cell)

    def backward(params, carry, xs):
        last, (ys, saved) = scan(gradient.saving, cell.project, params, carry, xs, False)
        d_carry = jax.tree.map(lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else None, last)
        return reverse_loop(gradient, params, saved, xs, (d_carry, whole(ys)), False, True)

    try:
        jax.eval_shape(backward, *_in_one_batch(cell, params, _sequence(one_step(xs))))
    except Unsupported as reason:
        return plan._replace(gradient=f"{plan.gradient}, whose loop is XLA's: {reason}")
    return plan


def plan_values(cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns how `native_values` runs a cell."""
    gradient = "JAX's gradient of XLA's loop (kernel=kernels.native compiles it too, without forward mode)"
    return plan_bptt(cell, params, xs)._replace(kernel="kernels.native", gradient=gradient)


def native_reason(cell: Cell, params: Params, xs: Inputs) -> str | None:
    """Returns why a cell's loop is not native here, or None if it is. Its functions are traced once for all T and B."""
    reason = _call.why_not()
    if reason is not None:
        return reason
    leaves, tree = jax.tree.flatten((params, one_step(xs)))
    return _reason(cell, machine(), tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=1024)
def _reason(cell, _, tree, shapes):
    """Returns the reason. The cell, the processor, and the shapes of params and of one step's input decide it."""
    params, x = jax.tree.unflatten(tree, itertools.starmap(jax.ShapeDtypeStruct, shapes))
    try:
        params, carry, xs = _in_one_batch(cell, params, _sequence(x))
        loop = Scan(gradient_of(cell).saving, cell.project, params, carry, xs, False)
        if not jax.tree_util.treedef_is_leaf(loop.outs_tree.children()[0]):
            return "the output of its `fwd` is not an array"
    except Unsupported as reason:
        return str(reason)
    except Exception as error:  # the kernel that runs the cell will raise its own faults
        return f"its functions do not take another number of rows: {(str(error) or repr(error)).splitlines()[0]}"
    return None


def _in_one_batch(cell, params, xs):
    """Returns the shapes of params, carry and inputs with one batch axis."""
    batch = jax.tree.leaves(xs)[0].shape[1:-1]
    carry = jax.eval_shape(lambda params: cell.carry(params, batch), params)
    lead = batch_axes(cell, params, carry, xs)
    return jax.eval_shape(functools.partial(flattened, batch=lead), params, carry, xs)


def _sequence(x):
    """Returns the shapes of a sequence of one step."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), x)


def native_step_bytes(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the bytes that a step stores for its gradient besides ys: what it saves, and δu if it is written."""
    one = _sequence(one_step(xs))
    written, y = _written(cell, params, one)
    d_us = 0 if sums_inside(params) else array_bytes(jax.eval_shape(cell.project, params, one))
    return written - y + d_us


def _held(segment, cell, params, xs):
    """Returns the bytes that a segment holds: forward results, cotangents of ys, packed weights, and threads' sums.

    If JAX computes the sums, the cotangents of a segment's projected inputs replace them.
    """
    written, ys = _written(cell, params, xs)
    if sums_inside(params):
        return written + ys + (2 + threads()) * array_bytes(params)
    x = one_step(xs)
    return written + ys + 2 * array_bytes(params) + segment * array_bytes(jax.eval_shape(cell.project, params, x))


def _written(cell, params, xs):
    """Returns the bytes that the forward loop of a training step writes, and those of its ys."""
    params, carry, xs = _in_one_batch(cell, params, xs)
    forward = Scan(gradient_of(cell).saving, cell.project, params, carry, xs, False)
    y = step_output(cell, params, carry, xs)
    return array_bytes(forward.shapes()[len(forward.carry_in) :]), forward.T * array_bytes(y)


def batch_axes(cell: Cell, params: Params, carry: Carry, xs: Inputs) -> Shape:
    """Returns the batch axes."""
    y = step_output(cell, params, carry, xs)
    return y.shape[:-1]


def flattened(params: Params, carry: Carry, xs: Inputs, batch: Shape) -> tuple[Params, Carry, Inputs]:
    """Returns the arguments with all batch axes flattened into one."""
    n, rows = len(batch), math.prod(batch)

    def flat(leaf: Any, lead: int) -> Any:
        return leaf.reshape(*leaf.shape[:lead], rows, *leaf.shape[lead + n :])

    leaves, tree = jax.tree.flatten(params)
    params = [flat(leaf, 0) if flag else leaf for leaf, flag in zip(leaves, of_rows(params), strict=True)]
    carry = jax.tree.map(lambda leaf: flat(leaf, 0), carry)
    return jax.tree.unflatten(tree, params), carry, jax.tree.map(lambda leaf: flat(leaf, 1), xs)


def unflattened(carry: Carry, ys: jax.Array, batch: Shape) -> tuple[Carry, jax.Array]:
    """Returns results of the flattened batch axis with the original batch axes."""
    carry = jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), carry)
    return carry, ys.reshape(ys.shape[0], *batch, *ys.shape[2:])
