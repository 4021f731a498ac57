"""The bytes of a step, from the shapes that a cell's own functions return. Nothing is compiled or run."""

import functools
from typing import Any, NamedTuple

import jax

from jaxseq.kernels._saved import run_and_save
from jaxseq.typing import Cell, Inputs, Kernel, Params


class StepBytes(NamedTuple):
    """The bytes of one step over the whole batch."""

    us: int
    carry: int
    ys: int
    saved: int


def array_bytes(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays or shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def sizes_are_known(tree: Any) -> bool:
    """Returns whether all sizes of a pytree of arrays or shapes are numbers, not symbols of `jax.export`."""
    return all(isinstance(size, int) for leaf in jax.tree.leaves(tree) for size in leaf.shape)


def step_bytes(cell: Cell, params: Params, xs: Inputs, by_jax: bool = False) -> StepBytes:
    """Returns the bytes of one step. With `by_jax`, or without a backward, it counts what JAX's own gradient saves."""
    x = one_step(xs)
    carry, u, y = _step_shapes(cell, params, x)
    if by_jax or cell.backward is None:
        # Weights and constants are stored once. Every step stores what grows with the batch.
        twice = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), x)
        saved = _residual_bytes(cell.step, params, *_step_shapes(cell, params, twice)[:2])
        saved -= _residual_bytes(cell.step, params, carry, u)
    else:
        us = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), u)
        run = functools.partial(run_and_save, cell.backward.fwd, reverse=False)
        _, steps = jax.eval_shape(run, params, carry, us)
        saved = array_bytes(steps.written)
    return StepBytes(array_bytes(u), array_bytes(carry), array_bytes(y), saved)


def kernel_bytes(kernel: Kernel, cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the bytes that any kernel holds between the passes: what JAX saves, ys, and their cotangents."""
    carry = _step_shapes(cell, params, one_step(xs))[0]
    run = functools.partial(kernel, cell)
    _, ys = jax.eval_shape(run, params, carry, xs)
    kept = _residual_bytes(run, params, carry, xs) - array_bytes((params, xs))
    return max(0, kept) + 2 * array_bytes(ys)


def one_step(xs: Inputs) -> Inputs:
    """Returns the shapes of the inputs of one step."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)


def _step_shapes(cell, params, x):
    """Returns the shapes of a step's carry, projected input and output."""
    u = jax.eval_shape(cell.project, params, x)
    carry = jax.eval_shape(lambda params: cell.carry(params, jax.tree.leaves(x)[0].shape[:-1]), params)
    return carry, u, jax.eval_shape(cell.step, params, carry, u)[1]


def _residual_bytes(function, *arguments):
    """Returns the bytes that JAX's own gradient of a function saves."""
    return array_bytes(jax.eval_shape(lambda *arguments: jax.vjp(function, *arguments)[1], *arguments))
