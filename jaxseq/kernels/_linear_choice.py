"""The default kernel of a linear cell.

The choice follows times of the gradient on two cores of a CPU (docs/linear.md). If the state is a large matrix, chunks
take a fifth to a tenth of the time of single steps, even of native loops. If a head's matrix is small, the products of
steps by steps in a chunk are more work than the matrix itself: for the delta rule with 8 by 8 numbers, single steps
were four times as fast. A diagonal cell gains nothing: an associative scan does more work than a loop, and takes longer
to compile. Accelerators, where each iteration of a loop costs launches, were not measured.
"""

import functools
import itertools

import jax

from jaxseq.kernels._associative import associative
from jaxseq.kernels._bytes import sizes_are_known
from jaxseq.kernels._chunkwise import chunkwise
from jaxseq.recurrences import Delta, Diagonal, Outer, ScaledOuter
from jaxseq.typing import Cell, Inputs, Kernel, Params

_STEPS = 32  # in a chunk: on a CPU somewhat faster than 64, which needs fewer states
_SHORT = 16  # steps; a chunk is padded
_LARGE = {Outer: 128, ScaledOuter: 128, Delta: 512}  # numbers in a head's matrix


def linear_choice(cell: Cell, params: Params, xs: Inputs) -> Kernel | None:
    """Returns the fastest kernel for a linear cell on this machine. None: a kernel that runs step by step is fastest.

    If sizes are symbols, the cell runs step by step, because chunks and scans need a known number of steps.
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
    """Returns whether a head's state is a matrix large enough for chunks, given the shapes of params and inputs."""

    def element(params, xs):
        return cell.linear.element(params, cell.project(params, xs))

    params, xs = jax.tree.unflatten(tree, itertools.starmap(jax.ShapeDtypeStruct, shapes))
    steps = jax.eval_shape(element, params, xs)
    if isinstance(steps, Diagonal):
        return False
    return type(steps) not in _LARGE or steps.k.shape[-1] * steps.v.shape[-1] >= _LARGE[type(steps)]
