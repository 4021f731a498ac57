"""All steps of a linear cell at once, by an associative scan (Blelloch 1990; Martin & Cundy 2018).

Two linear steps after one another are one linear step, so T of them are put together in log T rounds. A diagonal cell's
states are scanned themselves. Of a cell with a matrix for its state, chunks of steps are put together by matrix
products, and the chunks are scanned: the states at their borders alone are made.
"""

import functools

import jax

from jaxseq._factory import named
from jaxseq._meshes import on_meshes
from jaxseq.kernels._linear import plan_linear, refuse_nonlinear, run_linear
from jaxseq.kernels._plan import register
from jaxseq.typing import Carry, Cell, Inputs, Params


@named
@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def associative(
    cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False
) -> tuple[Carry, jax.Array]:
    """Runs a linear cell by an associative scan: for accelerators, where a loop costs launches, step by step.

    On a CPU a loop does less, see docs/linear.md. Reverse mode, to any order.

    Raises:
      ValueError: the cell is not linear.
    """
    refuse_nonlinear("kernels.associative", cell)
    return run_linear(cell, params, carry, xs, lambda element, carry: element.at_once(carry), reverse)


register(associative, plan_linear(associative, "kernels.associative", None, "an associative scan has no loop"))
