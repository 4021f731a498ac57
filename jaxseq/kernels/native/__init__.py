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
    _two_forms    where that is run, and where XLA's loop is
    _kernel       the kernel; `_gradient` that of a cell, of one step and of all; `_plan` how it runs, in words
"""

from jaxseq.kernels.native._kernel import native as native
