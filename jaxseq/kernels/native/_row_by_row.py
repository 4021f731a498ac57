"""Whether a cell treats the rows of a batch one by one, as its native loop does.

A loop is made of the cell's functions as they are for one row. A cell whose step looks across the batch, such as one
that takes a mean over its rows, would give other numbers there without a word. So its step is traced for a number of
rows that no other axis has, and each of its operations must keep that axis, and no more than one of it.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxseq.kernels.native._graph import CALLS

ROWS = 7919


def mixing(function: Callable, *arguments: Any) -> str | None:
    """Names the first operation of `function` that looks across rows, None where none does.

    Args:
      function: of `arguments`, a cell's step.
      arguments: pytrees of shapes; axes of `ROWS` are those of rows.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr):
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            found = _of_jaxpr(getattr(inner, "jaxpr", inner))
        else:
            found = name if _mixes(equation) else None
        if found is not None:
            return found
    return None


def _mixes(equation):
    name, options = equation.primitive.name, equation.params
    operands = [atom.aval.shape for atom in equation.invars if not isinstance(atom, core.Literal)]
    of_rows = [shape for shape in operands if ROWS in shape]
    counts = [variable.aval.shape.count(ROWS) for variable in equation.outvars]
    if not of_rows:
        return any(counts) and name not in ("broadcast_in_dim", "empty")  # such as the numbers of the rows
    if any(count != 1 for count in counts) or (name in _ORDERED and _axis_of(options) == of_rows[0].index(ROWS)):
        return True
    if name == "rev":
        return of_rows[0].index(ROWS) in options["dimensions"]
    if name == "gather":
        row = operands[0].index(ROWS) if ROWS in operands[0] else None
        numbers = options["dimension_numbers"]
        return row is not None and options["slice_sizes"][row] != ROWS and row not in numbers.operand_batching_dims
    return False


_ORDERED = {"cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort"}


def _axis_of(options):
    return options.get("axis", options.get("dimension"))


def with_rows(leaf: Any, axis: int) -> jax.ShapeDtypeStruct:
    """The shape of an array with `ROWS` in place of its rows, which stand at `axis`."""
    shape = np.array(leaf.shape)
    shape[axis] = ROWS
    return jax.ShapeDtypeStruct(tuple(shape.tolist()), leaf.dtype)
