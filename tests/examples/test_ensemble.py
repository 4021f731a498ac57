"""The example end to end on made-up waves; its scores against sums by hand."""

import re

import numpy as np
import pytest

from examples import ensemble
from examples.reports import calibration
from jaxseq import train


def test_score():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.55, 0.45], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    scores = calibration.score(probabilities, labels)
    assert scores["accuracy"] == 0.5
    np.testing.assert_allclose(scores["NLL"], -np.log([0.95, 0.08, 0.45, 0.7]).mean())
    # two in the highest bin, half of them right; one each in two others
    np.testing.assert_allclose(scores["ECE"], 0.5 * abs(0.935 - 0.5) + 0.25 * 0.55 + 0.25 * 0.3)
    share, confidence, accuracy = calibration.bins(np.array([[1.0, 0.0]]), np.array([0]))
    assert share.tolist() == confidence.tolist() == accuracy.tolist() == [0] * 9 + [1]


@pytest.mark.learn
def test_smoke_run_learns_and_goes_on(tmp_path, capsys):
    arguments = ["--smoke", "--members", "3", "--out", str(tmp_path)]
    ensemble.main(arguments)
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\S.*?\S) {2,}([\d.]+)% +([\d.]+) +([\d.]+)$", printed, re.M)
    accuracy, nll = ({row[0]: float(row[column]) for row in rows} for column in (1, 2))
    assert accuracy["ensemble of 3"] > 55  # of three classes
    assert nll["ensemble of 3"] <= nll["mean of the members"] < np.log(3)
    assert nll["the best in each column"] <= nll["mean of the members"]
    assert re.search(r"one step of 3 members: [\d.]+ ms; 3 steps of one: [\d.]+ ms", printed)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "curves.png", "model", "scores.png"}
    assert train.load_info(tmp_path / "model")["members"] == 3
    ensemble.main(arguments)
    again = capsys.readouterr().out
    assert again.splitlines()[:-2] == printed.splitlines()[:-2]  # all but the times
