"""Whether a function treats the rows of a batch one by one, as its native loop does.

A loop is made of a function as it is for one row. One that looks across the batch, such as a step that takes a mean
over its rows, would give other numbers there without a word. So it is traced for a number of rows that no other axis
has, too, and each of its operations must keep that axis, and no more than one of it.
"""

from typing import Any

from jax.extend import core

from jaxseq.kernels.native._graph import CALLS

ROWS = 7919


def mixing(jaxpr: Any) -> str | None:
    """Names the first operation of a jaxpr that looks across rows, None where none does; axes of `ROWS` are rows."""
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
