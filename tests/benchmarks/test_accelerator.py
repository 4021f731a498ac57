"""The command for accelerators, on a CPU: its parts, its files, its time, and what it says of what fails."""

import faulthandler
import json
import re

import pytest

from benchmarks import accelerator, accelerator_laws, linear, results
from benchmarks.accelerator_laws import Law
from benchmarks.suite import Case
from jaxseq import kernels
from tests import zoo

LAWS = [Law("rnn", "scan", "reverse"), Law("lstm", "bptt", "forward")]


@pytest.fixture
def quick(monkeypatch):
    """Cells and contenders that compile fast, in a process that is not to end itself."""
    monkeypatch.setattr(accelerator, "CONTENDERS", ("jaxseq", "jaxseq_scan", "cudnn"))
    monkeypatch.setattr(accelerator, "KINDS", [("rnn", "training")])
    monkeypatch.setattr(accelerator_laws, "cases", lambda: LAWS)
    monkeypatch.setattr(linear, "KERNELS", {"None": None, "bptt": kernels.bptt})
    watch = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: watch.append(seconds))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: watch.append("over"))
    return watch


def smoke(folder, *arguments):
    accelerator.main(["--smoke", "--out", str(folder), *arguments])
    return json.loads((folder / "results.json").read_text()), (folder / "tables.md").read_text()


def test_smoke_has_all_parts_and_says_what_it_left_out(tmp_path, quick, capsys):
    stored, page = smoke(tmp_path)
    assert stored["header"] == results.describe()
    assert [tuple(law[name] for name in Law._fields) for law in stored["laws"]] == LAWS
    assert all(0 < law["error"] < 1e-4 for law in stored["laws"])
    found = {(record["cell"], record["mode"], record["contender"]) for record in stored["records"]}
    of_linear = {("min_gru", "training", name) for name in ("None", "bptt", "torch")}
    assert {("rnn", "training", name) for name in ("jaxseq", "jaxseq_scan")} == found - of_linear
    assert stored["wrong"] == []
    assert "cudnn is left out: cuDNN runs on NVIDIA GPUs" in stored["left_out"]
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Laws: the largest error of any leaf's largest entry",
        "## Recurrent cells: median ms, and in brackets how many times jaxseq's",
        "## Linear cells: median ms, and in brackets how many times bptt's",
        "## Left out",
    ]
    assert page in capsys.readouterr().out
    assert quick == [accelerator.SECONDS + accelerator.GRACE, "over"]
    assert quick[0] < 8 * 60


def test_what_there_is_no_time_for_is_said(tmp_path, quick, capsys):
    stored, _ = smoke(tmp_path, "--seconds", "0")
    assert stored["records"] == stored["laws"] == []
    assert [line for line in stored["left_out"] if "no time" in line] == [
        "laws: no time for 2 of 2 cases: rnn scan reverse; lstm bptt forward",
        "recurrent: no time for 1 of 1 cases: rnn training float32 2 6 3 4",
        "linear: no time for 1 of 1 cases: min_gru training",
    ]


def test_a_case_starts_where_there_is_time_for_one_as_long_as_the_longest(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(accelerator.time, "perf_counter", lambda: now[0])
    within = accelerator.Within([3, 1, 3, 1, 1], end=10)
    done = []
    for seconds in within:
        now[0] += seconds
        done.append(seconds)
    assert done == [3, 1, 3, 1]  # after 7 seconds there is time for another one of 3; after 8 there is not
    assert within.left == [1]


def test_a_case_that_goes_on_for_too_long_has_no_more_contenders(tmp_path, quick, capsys):
    run = accelerator.Run(tmp_path, smoke=True)
    contend = accelerator.in_time(run, "it", lambda *given: given)
    assert contend(1, 2, 3) == (1, 2, 3)
    run.end = 0
    assert contend(1, 2, 3) is None
    assert run.left_out == ["it in 1: no time"]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("laws", r"left out: laws, lstm bptt forward: it.* differs from the NumPy loop by"),
        ("recurrent", r"left out: it in Case.cell='rnn', .*: it's result is wrong"),
        ("linear", r"min_gru +training +6,2,4 +None +None.* differs from bptt by"),
    ],
)
def test_what_is_wrong_has_no_time_and_the_exit_code_says_so(part, told, tmp_path, quick, monkeypatch):
    def wrong(cell, params, carry, xs, *, reverse=False):
        carry, ys = kernels.scan(cell, params, carry, xs, reverse=reverse)
        return carry, 1.01 * ys

    def fails(*_):
        raise AssertionError("it's result is wrong")

    monkeypatch.setitem(zoo.KERNELS, "bptt", wrong)
    monkeypatch.setitem(linear.KERNELS, "None", wrong)
    monkeypatch.setattr(accelerator, "load", lambda *_: {"it": fails})
    with pytest.raises(SystemExit, match="1 results were wrong"):
        smoke(tmp_path, "--parts", part)
    stored = json.loads((tmp_path / "results.json").read_text())
    for lines in (stored["wrong"], stored["left_out"]):
        assert len(lines) == 1
        assert re.search(told.removeprefix("left out: "), lines[0])
    assert all(record["contender"] not in ("it", "None") for record in stored["records"])


@pytest.mark.parametrize("alone", [True, False])
def test_what_raises_is_left_out(alone, tmp_path, quick, monkeypatch):
    """A contender, or all of a case."""
    if alone:
        monkeypatch.setattr(accelerator, "load", lambda *_: {"it": lambda *_: 1 / 0})
    else:
        monkeypatch.setattr(accelerator, "run_case", lambda *_: 1 / 0)
    stored, _ = smoke(tmp_path, "--parts", "recurrent")
    case = Case("rnn", "training", "float32", 2, 6, 3, 4)
    what = f"it in {case}" if alone else f"recurrent, {' '.join(map(str, case))}"
    assert f"left out: {what}: division by zero" in stored["left_out"]
    assert stored["wrong"] == []


def test_a_cpu_alone_is_no_accelerator(tmp_path, quick):
    with pytest.raises(SystemExit, match="--smoke"):
        accelerator.main(["--out", str(tmp_path)])
    assert quick == [accelerator.SECONDS + accelerator.GRACE, "over"]


def test_the_laws_have_every_cell_before_a_second_kernel_of_one_and_all_that_runs():
    cases = accelerator_laws.cases()
    assert [law.cell for law in cases[: len(zoo.CELLS)]] == list(zoo.CELLS)
    everything = {(name, kernel) for name in zoo.CELLS for kernel in accelerator_laws.KERNELS if zoo.runs(kernel, name)}
    assert {(law.cell, law.kernel) for law in cases} == everything
    assert len(cases) == len(everything)
