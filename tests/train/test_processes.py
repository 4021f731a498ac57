"""Two and four processes that train together: their numbers are those of one device, what fails in one fails in all."""

import json

import pytest

from jaxseq import train
from tests.train import trained
from tests.train.processes import run_module


def run(count, folder, what):
    run_module("tests.train.trained", count, folder, what, limit=600)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


def assert_same_numbers(got, want):
    assert got["sums"] == pytest.approx(want["sums"], rel=1e-12)
    for one, other in zip(got["rows"], want["rows"], strict=True):
        assert one == pytest.approx(other, rel=1e-12)


@pytest.fixture
def alone(x64):
    """The numbers of one device, by the number of epochs."""
    return lambda epochs: trained.told(trained.fit(None, epochs=epochs, progress=False))


@pytest.mark.learn
def test_two_processes_train_save_and_fail_together(tmp_path, alone):
    first, second = run(2, tmp_path, "together")
    for each in (first, second):
        assert_same_numbers(each["run"], alone(2))
        assert each["loaded"] == [{"by": "all"}, True]
        kind, message, _ = each["full disk"]
        assert kind == "OSError"
        assert "version 21 could not be saved; earlier versions are not changed. Free some space." in message
        assert_same_numbers(each["goes on"], alone(3))
        assert each["callback"][:2] == ["RuntimeError", "of my own"]
        assert each["seeds"][0] == "ValueError"
        assert each["seeds"][1].startswith("process 1 started with other initial params, optimizer state, key or carry")
        assert each["locked"][0] == "BlockingIOError"
    assert first["run"] == second["run"]
    assert first["bytes"] == second["bytes"]
    assert first["bytes"][0] < first["bytes"][1] / 3  # of four devices; small arrays are whole on each
    assert first["callback"][2] == ["raised in process 1 of 2"]
    assert (first["own"], second["own"][0]) == ([0, 0, 0], "ValueError")
    assert [(tmp_path / f"history-{rank}.csv").exists() for rank in (0, 1)] == [True, False]
    assert "step 4, epoch 0.4" in (tmp_path / "rank-0.txt").read_text()
    assert "step " not in (tmp_path / "rank-1.txt").read_text()
    # on one device
    assert train.load_info(tmp_path / "run")["position"] == 30
    stored = train.load(tmp_path / "model", trained.start().params).tree
    assert trained.sums(stored) == pytest.approx(first["run"]["sums"], rel=1e-15)


@pytest.mark.some(0, learn=1)
@pytest.mark.parametrize("count", [2, 4])
def test_processes_give_the_numbers_of_one_device(tmp_path, alone, count):
    """On auto and explicit axes, of whole batches and of parts, the state whole and split; and of one process alone."""
    names = ["auto, parts, split", "explicit, parts", *["auto", "explicit, split", "alone"] * (count == 2)]
    for each in run(count, tmp_path, "numbers"):
        want = alone(2)
        for name in names:
            assert_same_numbers(each[name], want)
        best = min(want["rows"], key=lambda row: row["validation/loss"])
        assert each["validated"]["loss"] == pytest.approx(best["validation/loss"], rel=1e-12)
        assert each["inf"][0] == "NonFiniteError"
        assert each["inf"][1].startswith("not finite at step 1 (epoch 0, batch 1): loss inf")
        if count == 4:
            assert each["some"][1].startswith("`sharding` must use devices of all 4 processes, or of this one only")
        assert each["parts"][1].startswith("`batches` gives one part of 2 of every batch")
