"""Associative recall: its data against a dictionary, and the example end to end."""

import re

import jax
import numpy as np
import pytest

from examples import recall
from examples.recall import KEYS, NETS, PAIRS, VALUES, T


def test_queries_ask_for_the_values_of_their_keys():
    xs, targets, asked = map(np.asarray, recall.draw(jax.random.key(0), 50))
    assert xs.shape == targets.shape == asked.shape == (50, T)
    for row, wanted, where in zip(xs.tolist(), targets.tolist(), asked.tolist(), strict=True):
        values = {row[t]: row[t + 1] - KEYS for t in range(0, 2 * PAIRS, 2)}
        assert len(values) == PAIRS
        assert all(0 <= value < VALUES for value in values.values())
        assert where == [False] * 2 * PAIRS + [True] * (T - 2 * PAIRS)
        assert wanted[2 * PAIRS :] == [values[key] for key in row[2 * PAIRS :]]


@pytest.mark.learn
def test_smoke_run(tmp_path, capsys):
    recall.main(["--smoke", "--out", str(tmp_path)])
    rows = re.findall(r"^(\w.*?) +([\d.]+)% +0.01 +0.01: [\d.]+%$", capsys.readouterr().out, re.M)
    assert [name for name, _ in rows] == list(NETS)
    assert all(float(share) < 30 for _, share in rows)  # after three steps
    assert (tmp_path / "loss.png").stat().st_size > 10_000
