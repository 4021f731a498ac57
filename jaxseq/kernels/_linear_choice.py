"""Which kernel of linear cells runs a cell where none is asked for.

Measured by the gradient, on two cores of a CPU (docs/linear.md): chunks take a fifth to a tenth of the time of steps
where the state is a matrix, also of native loops. For a diagonal cell there is nothing to gain: an associative scan
does more work than a loop, and compiles for longer. On accelerators, where a loop costs launches, nothing was measured.
"""

import functools
import itertools

import jax

from jaxseq.kernels._associative import associative
from jaxseq.kernels._bytes import sizes_are_known
from jaxseq.kernels._chunkwise import chunkwise
from jaxseq.recurrences import Diagonal
from jaxseq.typing import Cell, Inputs, Kernel, Params

_STEPS = 32  # in a chunk: on a CPU somewhat faster than 64, which make fewer states
_SHORT = 16  # steps; a chunk is filled up


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
    if jax.tree.leaves(xs)[0].shape[0] < _SHORT or _is_diagonal(cell, tree, shapes):
        return None
    return chunkwise(_STEPS)


@functools.lru_cache(maxsize=1024)
def _is_diagonal(cell, tree, shapes):
    """Whether a cell's state is a vector, from the shapes and dtypes of params and inputs."""

    def element(params, xs):
        return cell.linear.element(params, cell.project(params, xs))

    params, xs = jax.tree.unflatten(tree, itertools.starmap(jax.ShapeDtypeStruct, shapes))
    return isinstance(jax.eval_shape(element, params, xs), Diagonal)
