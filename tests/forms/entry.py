"""A cell or net, and its equations in plain NumPy."""

from typing import NamedTuple

from jaxseq import Cell, Composite
from tests import reference, reference_nets

SIZE = 4


class Entry(NamedTuple):
    cell: Cell | Composite
    net: reference_nets.Net
    form: reference.Form | None = None  # of a cell


def cell_entry(cell: Cell, form: reference.Form, parts: int | list = 1) -> Entry:
    """A cell whose carry has `parts` of its outputs' size; or a list of them, of one row, such as np.zeros([2, 3])."""
    return Entry(cell, reference_nets.cell(form, [cell.size] * parts if isinstance(parts, int) else parts), form)
