"""Selective copying: its data against a plain loop, and the example end to end."""

import re

import jax
import numpy as np
import pytest

from examples import selective_copying
from examples.selective_copying import ASK, BLANK, KINDS, SYMBOLS, T


def test_symbols_are_asked_for_in_their_order():
    xs, targets, asked = map(np.asarray, selective_copying.draw(jax.random.key(0), 100))
    assert xs.shape == targets.shape == asked.shape == (100, T)
    places = set()
    for row, wanted, where in zip(xs.tolist(), targets.tolist(), asked.tolist(), strict=True):
        symbols = [(t, symbol) for t, symbol in enumerate(row[:-SYMBOLS]) if symbol != BLANK]
        assert len(symbols) == SYMBOLS
        assert all(0 <= symbol < KINDS for _, symbol in symbols)
        assert row[-SYMBOLS:] == [ASK] * SYMBOLS
        assert wanted[-SYMBOLS:] == [symbol for _, symbol in symbols]
        assert where == [False] * (T - SYMBOLS) + [True] * SYMBOLS
        places.update(t for t, _ in symbols)
    assert len(places) > 0.9 * (T - SYMBOLS)


def test_gates_start_by_keeping():
    b = np.asarray(selective_copying.min_gru(64).init(jax.random.key(0), 3).b)
    keep = 1 / (1 + np.exp(b[:64]))  # σ(-u_z)
    steps = 1 / (1 - keep)
    assert 2 <= steps.min() < 10
    assert 200 < steps.max() <= T
    assert not b[64:].any()


@pytest.mark.learn
def test_smoke_run(tmp_path, capsys):
    selective_copying.main(["--smoke", "--nets", "min_gru, 1 layer", "--out", str(tmp_path)])
    rows = re.findall(r"^(\w.*?) {2,}([\d.]+)% +([\d.]+)% +([\d.]+)% +\d+$", capsys.readouterr().out, re.M)
    assert [name for name, *_ in rows] == ["min_gru, 1 layer"]
    assert all(float(share) < 30 for _, *shares in rows for share in shares)  # after three steps
    assert (tmp_path / "loss.png").stat().st_size > 10_000
