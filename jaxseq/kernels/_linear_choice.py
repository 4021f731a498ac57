"""Which kernel of linear cells runs a cell where none is asked for.

Measured by the gradient, on two cores of a CPU (docs/linear.md): chunks take a fifth to a tenth of the time of steps
where the state is a large matrix, also of native loops. Where a head's matrix has few numbers, a chunk's products of
steps by steps are more work than it: steps of the delta rule with 8 by 8 numbers were four times as fast. For a
diagonal cell there is nothing to gain: an associative scan does more work than a loop, and compiles for longer. On
accelerators, where a loop costs launches, nothing was measured.
"""

import functools
import itertools

import jax

from jaxseq.kernels._associative import associative
from jaxseq.kernels._bytes import sizes_are_known
from jaxseq.kernels._chunkwise import chunkwise
from jaxseq.recurrences import Delta, Diagonal, Outer, ScaledOuter
from jaxseq.typing import Cell, Inputs, Kernel, Params

_STEPS = 32  # in a chunk: on a CPU somewhat faster than 64, which make fewer states
_SHORT = 16  # steps; a chunk is filled up
_LARGE = {Outer: 128, ScaledOuter: 128, Delta: 512}  # numbers in a head's matrix


def linear_choice(cell: Cell, params: Params, xs: Inputs) -> Kernel | None:
    """Returns the kernel of linear cells that is fastest for a cell here; None: one that runs step by step is.

    Sizes that are symbols are run step by step, as chunks and scans need a number of steps.
    """
    if cell.linear is None or not sizes_are_known((params, xs)):
        return None
    if jax.default_backend() != "cpu":
        return associative
    leaves, tree = jax.tree.flatten((params, xs))
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    if jax.tree.leaves(xs)[0].shape[0] < _SHORT or not _has_large_state(cell, tree, shapes):
        return None
    return chunkwise(_STEPS)


@functools.lru_cache(maxsize=1024)
def _has_large_state(cell, tree, shapes):
    """Whether a head's state is a matrix that is worth chunks, from the shapes and dtypes of params and inputs."""

    def element(params, xs):
        return cell.linear.element(params, cell.project(params, xs))

    params, xs = jax.tree.unflatten(tree, itertools.starmap(jax.ShapeDtypeStruct, shapes))
    steps = jax.eval_shape(element, params, xs)
    if isinstance(steps, Diagonal):
        return False
    return type(steps) not in _LARGE or steps.k.shape[-1] * steps.v.shape[-1] >= _LARGE[type(steps)]
