"""The demo end to end on made-up weather, and its part that needs nothing else."""

import re

import pytest

from examples import demo


def test_packed_sequences_are_those_apart(capsys):
    demo.packed((5, 3, 2), 6)
    printed = capsys.readouterr().out
    assert "3 sequences of 2 to 5 steps in 2 rows of 6" in printed
    assert "padding: 17% of the steps, 33% without packing" in printed


@pytest.mark.learn
def test_end_to_end(tmp_path, capsys):
    demo.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.count("=> ") == 3
    assert len(re.findall(r"jaxseq +[\d.]+ ms   Flax NNX +[\d.]+ ms", printed)) == 6
    assert (tmp_path / "forecasts.png").stat().st_size > 10_000
