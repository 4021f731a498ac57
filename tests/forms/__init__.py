"""Cells and wrappers, each beside its equations in plain NumPy: one family a file.

A file holds the NumPy form, and `CELLS` or `WRAPPERS` by the names of the tests: `CELLS = {name: Entry}`,
`WRAPPERS = {name: function of an entry of a cell}`. `tests/zoo.py` collects them all.
"""
