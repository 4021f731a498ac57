"""Native time loops for CPUs: LLVM compiles a cell's equations to machine code.

The files, in a good order to read them, from a cell's functions to a result:

    _graph        traces a function of one row with JAX, as a graph of `_nodes`; `_moves` handles moves of numbers
    _fuse, _sums  fuse products that are added; sums over rows and steps
    _stages       the order in which nodes are computed: barriers, and fused loops between them
    _elementwise  JAX's elementwise primitives on vectors; `_mathematics` those that need several instructions
    _products     products of rows with weights, in tiles of registers
    _features     one step of a block of rows, written with the files above
    _loop         all steps of a block; `_ring` its sums, by time block; `_program` all blocks
    _ir, _values  the text of LLVM IR; `_machine` the processor it is compiled for
    _call         machine code, and its call through XLA's FFI; `_runtime` XLA's side of the call, and its threads
    _scan         `jax.lax.scan` of a function of one row, by such a program; `_scan_sum` with sums of gradients
    _scan_rows    the same for functions that are not cells, if possible
    _two_forms    chooses between the native loop and XLA's loop
    _kernel       the kernel; `_gradient` the gradient of a cell, of one step and of all; `_reverse` the reverse pass
    _plan         whether and how a cell runs, in words; `_row_by_row` whether it mixes rows
"""

from collections.abc import Callable
from typing import Any

from jaxseq.kernels._plan import Plan, register
from jaxseq.typing import Carry, Cell, Inputs, Params


def native(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, Any]:
    """Runs `cell` by native loops that LLVM compiles from its equations. XLA's threads share the rows.

    It supports reverse mode of any order. For forward mode use `scan`.

    Raises:
      ValueError: the cell or this machine has no native loop. The message says why.
    """
    from jaxseq.kernels.native._kernel import native  # imported on first use: it is a third of `import jaxseq`

    return native(cell, params, carry, xs, reverse=reverse)


def native_values(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, Any]:
    """Runs `cell` as `native` does. JAX differentiates XLA's loop, in any mode.

    It is for streams, and for cells without a backward.
    """
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

    It runs a native loop if possible, otherwise XLA's loop. JAX differentiates XLA's loop, in any mode.

    Args:
      function: one step of one or many rows. It must treat every row the same.
      params: a pytree of arrays that all rows share.
      carry: an array `[*B, K]`, with any number of batch axes.
      inputs: a pytree of arrays `[T, *B, ...]`.
    """
    from jaxseq.kernels.native._scan_rows import scan_rows

    return scan_rows(function, params, carry, inputs, reverse=reverse)


def native_reason(cell: Cell, params: Params, xs: Inputs) -> str | None:
    """Returns why a cell has no native loop here, or None if it has one. Shapes may be passed in place of arrays."""
    from jaxseq.kernels.native._plan import native_reason

    return native_reason(cell, params, xs)


def native_step_bytes(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the number of bytes that a step stores for its gradient, in addition to ys."""
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
