"""Time loops on a CPU as machine code of their own, from a cell's equations, by LLVM.

From a cell's functions to a result, in the order in which the files are best read:

    _graph        a function of one row, traced by JAX, as a graph of `_nodes`; `_moves` those that only move numbers
    _fuse, _sums  products that are added up, as one; what is summed over rows and steps
    _stages       in which order nodes are computed: barriers, and fused loops between them
    _elementwise  JAX's elementwise primitives on vectors; `_mathematics` those that are not one instruction
    _products     products of rows with weights, in tiles of registers
    _features     one step of a block of rows, written out by all of these
    _loop         all steps of a block; `_ring` its sums, by time block; `_program` all blocks
    _ir, _values  the text of LLVM IR; `_machine` what processor it is for
    _call         machine code, and its call through XLA's FFI; `_runtime` XLA's side of it, and its threads
    _scan         `jax.lax.scan` of a function of one row, by such a program; `_scan_sum` with sums of gradients
    _scan_rows    that of functions which are no cell's, where it can be
    _two_forms    where that is run, and where XLA's loop is
    _kernel       the kernel; `_gradient` that of a cell, of one step and of all; `_reverse` the pass over all steps
    _plan         whether and how a cell runs, in words; `_row_by_row` whether it looks across rows
"""

from collections.abc import Callable
from typing import Any

from jaxseq.kernels._plan import Plan, register
from jaxseq.typing import Carry, Cell, Inputs, Params


def native(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, Any]:
    """Runs `cell` by loops of machine code, made from its equations by LLVM; rows are shared among XLA's threads.

    Reverse mode, to any order. For forward mode use `scan`.

    Raises:
      ValueError: the cell, or this machine, has no native loop; the message says why.
    """
    from jaxseq.kernels.native._kernel import native  # when it is first used, for it is a third of `import jaxseq`

    return native(cell, params, carry, xs, reverse=reverse)


def native_values(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, Any]:
    """The same, but that JAX differentiates XLA's loop, in any mode: for cells without a backward, and for streams."""
    from jaxseq.kernels.native._kernel import native_values

    return native_values(cell, params, carry, xs, reverse=reverse)


def scan_rows(
    function: Callable[[Params, Carry, Inputs], tuple[Carry, Any]],
    params: Params,
    carry: Carry,
    inputs: Inputs,
    *,
    reverse: bool = False,
) -> tuple[Carry, Any]:
    """Returns the last carry and the outs of all steps of `function(params, carry, inputs) -> (carry, outs)`.

    By a native loop where there can be one, else by XLA's; JAX differentiates XLA's, in any mode.

    Args:
      function: one step, of one row or of many; it must treat rows alike.
      params: a pytree of arrays, the same for all rows.
      carry: an array `[*B, K]`, any number of batch axes.
      inputs: a pytree of arrays `[T, *B, ...]`.
    """
    from jaxseq.kernels.native._scan_rows import scan_rows

    return scan_rows(function, params, carry, inputs, reverse=reverse)


def native_reason(cell: Cell, params: Params, xs: Inputs) -> str | None:
    """Says why a cell has no native loop here, None where it has one; arrays may be their shapes."""
    from jaxseq.kernels.native._plan import native_reason

    return native_reason(cell, params, xs)


def native_step_bytes(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the bytes that a step is held in for its gradient, beside ys."""
    from jaxseq.kernels.native._plan import native_step_bytes

    return native_step_bytes(cell, params, xs)


def _plan(cell: Cell, params: Params, xs: Inputs) -> Plan:
    from jaxseq.kernels.native._plan import explain_native

    return explain_native(cell, params, xs)


def _plan_values(cell: Cell, params: Params, xs: Inputs) -> Plan:
    from jaxseq.kernels.native._plan import plan_values

    return plan_values(cell, params, xs)


register(native, _plan)
register(native_values, _plan_values)
