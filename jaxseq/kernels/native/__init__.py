"""Time loops on a CPU as machine code of their own, from a cell's equations, by LLVM.

From a cell's functions to a result, in the order in which the files are best read:

    _graph        a function of one row, traced by JAX, as a graph of `_nodes`; `_moves` those that only move numbers
    _stages       in which order nodes are computed: barriers, and fused loops between them
    _elementwise  JAX's elementwise primitives on vectors; `_mathematics` those that are not one instruction
    _products     products of rows with weights, in tiles of registers
    _features     one step of a block of rows, written out by all of these
    _loop         all steps of a block, and a program of all blocks
    _ir, _values  the text of LLVM IR; `_machine` what processor it is for
    _call         machine code, and its call through XLA's FFI; `_runtime` XLA's side of it, and its threads
    _scan         `jax.lax.scan` of a function of one row, by such a program; `_two_forms` where XLA's is run instead
    _kernel       the kernel, its gradient and, in `_derived`, that of cells without one; `_plan` whether it runs
"""

from jaxseq.kernels.native._kernel import native as native
