"""The example end to end on a made-up wave; its parts on series whose answers are plain."""

import re

import numpy as np
import pytest

from examples import anomaly_detection
from examples.baselines import naive
from examples.data import blood_pressure
from examples.reports import anomalies
from jaxseq import train


def test_parse():
    values, labels = blood_pressure.parse("timestamp,value,is_anomaly\n0,63.5,0\n1,-2e1,1\n2,7,0\n")
    assert values.tolist() == [63.5, -20.0, 7.0]
    assert labels.tolist() == [False, True, False]


def test_find_period():
    steps = np.arange(400)
    assert naive.find_period(5 + np.sin(2 * np.pi * steps / 37)) == 37
    assert naive.find_period(np.sin(2 * np.pi * steps / 25) ** 3) == 25


def test_naive_forecasts():
    forecasts = naive.naive_forecasts(np.array([1.0, 3.0, 7.0, 8.0]), 3)
    nan = np.nan
    np.testing.assert_array_equal(forecasts["last value"], [nan, 1, 3, 7])
    np.testing.assert_array_equal(forecasts["straight line"], [nan, nan, 5, 11])
    np.testing.assert_array_equal(forecasts["3 steps before"], [nan, nan, nan, 1])


def test_smooth():
    np.testing.assert_allclose(anomalies.smooth(np.eye(1, 9, 4)[0]), [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0])


def test_runs():
    flags = np.array([True, True, False, True, False, False, True])
    assert anomalies.runs(flags) == [slice(0, 2), slice(3, 4), slice(6, 7)]
    assert anomalies.runs(np.zeros(3, bool)) == []


def test_hit():
    """The contest's rule: min(begin - L, begin - 100) < P < max(end + L, end + 100), L the length of the anomaly."""
    for anomaly, length in ((slice(300, 310), 10), (slice(300, 450), 150)):
        begin, end = anomaly.start, anomaly.stop - 1
        low, high = min(begin - length, begin - 100), max(end + length, end + 100)
        for place in (low, low + 1, 350, high - 1, high):
            assert anomalies.hit(np.eye(1, 800, place)[0], anomaly) == (low < place < high)


@pytest.mark.learn
def test_smoke_run_finds_it_and_goes_on(tmp_path, capsys):
    anomaly_detection.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("LSTM"))
    precision, recall, f1 = map(float, re.findall(r"([\d.]+)%", row))
    assert recall == 100
    assert precision > 40
    np.testing.assert_allclose(f1, 2 * precision * recall / (precision + recall), atol=0.1)
    assert " yes " in row
    assert "labelled: 300 … 311, 12 of 600 steps" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "curves.png", "model", "scores.png"}
    assert len(train.load_info(tmp_path / "model")["mean"]) == 2
    anomaly_detection.main(["--smoke", "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]  # all but the time
