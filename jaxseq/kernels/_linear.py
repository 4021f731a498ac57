"""Runs linear cells over time. Their algebra runs the steps; what is pointwise in time is computed for all at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.kernels._bytes import kernel_bytes
from jaxseq.kernels._plan import Plan
from jaxseq.typing import Carry, Cell, Inputs, Kernel, Params


def run_linear(
    cell: Cell,
    params: Params,
    carry: Carry,
    xs: Inputs,
    how: Callable[[Any, Carry], tuple[Carry, Any]],
    reverse: bool = False,
) -> tuple[Carry, jax.Array]:
    """Runs a linear cell. `how(element, carry) -> (carry, observed)` runs the steps from the first to the last.

    With `reverse`, the steps are those of xs in reverse order.
    """
    carry, ys = _run(cell, params, carry, flipped(xs) if reverse else xs, how)
    return carry, flipped(ys) if reverse else ys


def run_linear_steps(
    cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False
) -> tuple[Carry, jax.Array]:
    """Runs a linear cell step by step, with the gradient of its algebra."""
    return _run(cell, params, carry, xs, lambda element, carry: element.in_steps(carry, reverse))


def _run(cell, params, carry, xs, how):
    us = cell.project(params, xs)
    carry, observed = how(cell.linear.element(params, us), carry)
    return carry, cell.linear.read(params, observed, us)


def flipped(tree: Any) -> Any:
    """Returns a pytree of arrays `[T, ...]` with time reversed."""
    return jax.tree.map(lambda leaf: jnp.flip(leaf, 0), tree)


def refuse_nonlinear(kernel: str, cell: Cell) -> None:
    """Raises unless a cell defines `linear`.

    Raises:
      ValueError: it does not.
    """
    if cell.linear is None:
        raise ValueError(
            f"`{kernel}` runs cells whose step is linear in the carry, which define `linear`; {cell!r} does not, or "
            "a wrapper around it is not linear. Unroll with kernel=jaxseq.kernels.bptt, which runs every cell, or with "
            "kernel=jaxseq.kernels.newton(), which solves for many steps at once"
        )


def plan_linear(kernel: Kernel, name: str, segment: int | None, reason: str) -> Callable[[Cell, Params, Inputs], Plan]:
    """Returns the function that makes the plans of a kernel for linear cells."""

    def plan(cell, params, xs):
        refuse_nonlinear(name, cell)
        T = jax.tree.leaves(xs)[0].shape[0]
        held = lambda: kernel_bytes(kernel, cell, params, xs)
        return Plan(name, "the gradient of its algebra", T, T if segment is None else segment, reason, held)

    return plan
