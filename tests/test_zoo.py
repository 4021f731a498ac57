"""Nothing is missing from the laws: every cell, wrapper and kernel of the library stands in tests/zoo.py and is run."""

import inspect

import jax
import pytest

import jaxseq
from jaxseq import kernels
from tests import test_contract, zoo

TOLD = {"explain", "peak_bytes", "register"}  # functions of `kernels` that are none


def functions(module):
    return {name for name in dir(module) if name[0].islower() and callable(getattr(module, name))}


def test_every_cell_is_in_the_zoo():
    assert functions(jaxseq.cells) - set(zoo.CELLS) == set()


def test_every_wrapper_is_in_the_zoo():
    assert functions(jaxseq.wrappers) - {*zoo.WRAPPERS, *zoo.OTHER_WRAPPERS} == set()


def test_every_kernel_is_in_the_zoo():
    assert functions(jaxseq.kernels) - TOLD - {*zoo.KERNELS, *zoo.OTHER_KERNELS} == set()
    assert all(inspect.isfunction(getattr(jaxseq.kernels, name)) for name in TOLD)


def test_all_that_is_in_the_zoo_meets_the_oracle():
    nets = {row.net for row in test_contract.COMBINATIONS}
    assert nets >= zoo.CELLS.keys()
    assert {net.split("(")[0] for net in nets} >= zoo.WRAPPERS.keys()
    assert {row.kernel for row in test_contract.COMBINATIONS} == zoo.KERNELS.keys()


@pytest.mark.parametrize("part", ["ys", "gradient", "reverse"])
def test_a_kernel_that_is_wrong_fails_once_it_is_in_the_zoo(part, monkeypatch, x64):
    """By an entry of `KERNELS` alone, in the cases that `make test` has of it."""

    def broken(cell, params, carry, xs, *, reverse=False):
        carry, ys = kernels.scan(cell, params, carry, xs, reverse=reverse and part != "reverse")
        if part == "gradient":
            return carry, jax.lax.stop_gradient(ys)
        return carry, 2 * ys if part == "ys" else ys

    monkeypatch.setitem(zoo.KERNELS, "broken", broken)
    cases = [row for row in test_contract.combinations() if row.kernel == "broken"]
    assert (
        {row.reverse for row in cases}
        == {row.masked for row in cases}
        == {row.resets for row in cases}
        == {False, True}
    )
    case = next(row for row in cases if row.net == "lstm" and row.reverse == (part == "reverse"))
    with pytest.raises(AssertionError):
        test_contract.test_matches_the_oracle_and_padding_is_as_if_it_were_not_there(case)


def test_every_cell_whose_carry_is_an_array_says_what_its_weights_hear():
    """Recurrent dropout, which not every cell meets in `make test`, refuses it otherwise."""
    for name, entry in zoo.CELLS.items():
        if isinstance(entry.cell, jaxseq.Composite) or entry.cell.linear is not None:  # which refuse it
            continue
        carry = jax.eval_shape(lambda cell=entry.cell: cell.carry(cell.init(jax.random.key(0), 3), (2,)))
        assert entry.cell.hears is not None or not hasattr(carry, "shape"), name
