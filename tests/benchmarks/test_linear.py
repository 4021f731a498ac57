import importlib.util

import jax
import pytest

from benchmarks import linear
from jaxseq import kernels


def lines(capsys, *arguments, size="8,2,4"):
    linear.main([*arguments, "--sizes", size, "--rounds", "1"])
    return [line.split() for line in capsys.readouterr().out.splitlines() if size in line]


def test_a_line_for_each_mode_and_kernel_and_the_reason_where_there_is_none(capsys):
    kernels = ["None", "bptt", "native"]
    found = lines(capsys, "--cells", "lru", "--kernels", *kernels)
    assert [line[1] for line in found if line[3] != "memax"] == ["training"] * 3 + ["inference"] * 3
    assert {line[3] for line in found} - {"memax"} == {*kernels}
    refused = [" ".join(line) for line in found if line[3] == "native"]
    assert all("its numbers are complex" in line for line in refused)


def test_a_kernel_that_is_wrong_has_no_time(capsys, monkeypatch):
    def wrong(cell, params, carry, xs, *, reverse=False):
        carry, ys = kernels.scan(cell, params, carry, xs, reverse=reverse)
        return carry, 1.01 * ys

    monkeypatch.setitem(linear.KERNELS, "native", wrong)
    found = lines(capsys, "--cells", "min_gru", "--kernels", "scan", "native")
    assert [line[5] for line in found if line[3] == "native"] == ["differs"] * 2


@pytest.mark.parametrize("name", ["min_gru", "mamba2", "gated_delta_net"])
def test_pytorch_agrees_where_it_is_installed(name, capsys):
    """It is held against the first kernel, and has a time: over a chunk and a part of one, with all gradients."""
    found = lines(capsys, "--cells", name, "--kernels", "scan", size="70,2,4")
    times = [float(line[6]) for line in found if line[3] == "torch"]
    assert len(times) == (0 if importlib.util.find_spec("torch") is None else 2)
    assert all(time > 0 for time in times)


SOON = ("min_gru", "gla")


@pytest.mark.parametrize(
    "name", [name if name in SOON else pytest.param(name, marks=pytest.mark.learn) for name in linear.cells(1)]
)
def test_every_cell_runs_by_default(name, capsys):
    found = lines(capsys, "--cells", name)
    assert {line[3] for line in found} - {"memax", "torch"} == {*linear.KERNELS}
    assert not any("differs" in line for line in found)


@pytest.mark.parametrize("size", [1, 4, 128])
def test_heads_divide_every_size(size):
    for cell in linear.cells(size).values():
        params = jax.eval_shape(lambda cell=cell: cell.init(jax.random.key(0), size))
        assert cell.size == size
        assert jax.tree.leaves(params)
