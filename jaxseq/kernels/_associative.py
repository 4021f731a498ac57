"""All steps of a linear cell at once, by an associative scan (Blelloch 1990; Martin & Cundy 2018).

Two consecutive linear steps are one linear step, so T of them are combined in log T rounds. For a diagonal cell, the
scan is over the states. For a cell with a matrix as its state, matrix products combine the steps of a chunk, and the
scan is over the chunks: only the states at their borders are computed.
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
    """Runs a linear cell by an associative scan. It is for accelerators, where each step of a loop costs a launch.

    On a CPU a loop does less work; see docs/linear.md. Supports reverse mode, to any order.

    Raises:
      ValueError: the cell is not linear.
    """
    refuse_nonlinear("kernels.associative", cell)
    return run_linear(cell, params, carry, xs, lambda element, carry: element.at_once(carry), reverse)


register(associative, plan_linear(associative, "kernels.associative", None, "an associative scan has no loop"))
