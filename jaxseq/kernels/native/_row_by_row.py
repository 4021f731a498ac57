"""Checks that a function treats the rows of a batch independently, as its native loop does.

A native loop is built from the function of one row. A function that mixes rows, such as a step that takes a mean over
the batch, would silently give other numbers. So it is also traced with a number of rows that no other axis has. Every
operation must then keep that axis, exactly once.
"""

from typing import Any

from jax.extend import core

from jaxseq.kernels.native._graph import CALLS

ROWS = 7919


def mixing(jaxpr: Any) -> str | None:
    """Returns the name of the first operation of a jaxpr that mixes rows, or None. Axes of size `ROWS` are rows."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            found = mixing(getattr(inner, "jaxpr", inner))
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
        return any(counts) and name not in ("broadcast_in_dim", "empty")  # for example an iota over the rows
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
