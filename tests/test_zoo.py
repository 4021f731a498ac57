"""Nothing is missing from the laws: every cell, wrapper and kernel of the library stands in tests/zoo.py."""

import inspect

import jaxseq
from tests import zoo

TOLD = {"compile_loops_whole", "explain", "peak_bytes", "register"}  # functions of `kernels` that are none


def functions(module):
    return {name for name in dir(module) if name[0].islower() and callable(getattr(module, name))}


def test_every_cell_is_in_the_zoo():
    assert functions(jaxseq.cells) - set(zoo.CELLS) == set()


def test_every_wrapper_is_in_the_zoo():
    assert functions(jaxseq.wrappers) - set(zoo.WRAPPERS) == set()


def test_every_kernel_is_in_the_zoo():
    assert functions(jaxseq.kernels) - TOLD - {*zoo.KERNELS, *zoo.OTHER_KERNELS} == set()
    assert all(inspect.isfunction(getattr(jaxseq.kernels, name)) for name in TOLD)
