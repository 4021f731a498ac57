"""The bytes of one step, from the shapes of what a cell's own functions return."""

import functools
import math
from typing import NamedTuple

import jax

from jaxseq.kernels._plan import array_bytes, even
from jaxseq.kernels._saved import run_and_save
from jaxseq.typing import Cell, Inputs, Params


class StepBytes(NamedTuple):
    """Bytes of one step over the whole batch."""

    us: int
    carry: int
    ys: int
    saved: int


def step_bytes(cell: Cell, params: Params, xs: Inputs, by_jax: bool = False) -> StepBytes:
    """Returns the bytes of one step; `by_jax`, or where the cell has no backward, of what JAX's own gradient saves."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    carry, u, y = _step_shapes(cell, params, x)
    if by_jax or cell.backward is None:
        # Weights and constants are kept once: what grows with the batch is what every step keeps.
        twice = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), x)
        saved = _residual_bytes(cell, params, *_step_shapes(cell, params, twice)[:2])
        saved -= _residual_bytes(cell, params, carry, u)
    else:
        us = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), u)
        run = functools.partial(run_and_save, cell.backward.fwd, reverse=False)
        _, steps = jax.eval_shape(run, params, carry, us)
        saved = array_bytes(steps.written)
    return StepBytes(array_bytes(u), array_bytes(carry), array_bytes(y), saved)


def _step_shapes(cell, params, x):
    """The shapes of a step's carry, projected input and output."""
    u = jax.eval_shape(cell.project, params, x)
    carry = jax.eval_shape(lambda params: cell.carry(params, jax.tree.leaves(x)[0].shape[:-1]), params)
    return carry, u, jax.eval_shape(cell.step, params, carry, u)[1]


def _residual_bytes(cell, params, carry, u):
    """What JAX's own gradient of a step keeps."""
    return array_bytes(jax.eval_shape(lambda *step: jax.vjp(cell.step, *step)[1], params, carry, u))


def balanced_segment(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the steps of a segment for which `remat` holds about the least: near √(T carry / (saved + 2 us)).

    One that divides T, as the last segment is held apart where it is shorter.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    step = step_bytes(cell, params, xs)
    return even(T, round(math.sqrt(T * step.carry / max(1, step.saved + 2 * step.us))))
