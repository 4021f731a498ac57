"""Killed at any moment, a run goes on from its last checkpoint and ends with the same bits.

`JAXSEQ_KILLS=full` tries sixty kills of one process, thirty of them aimed at a checkpoint that is being written and ten
at two writers on one folder; otherwise six, two of them at two writers. And a hundred of processes that train together,
two or four, of one of them or of all; otherwise three.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.train.processes import run_module

FULL = os.environ.get("JAXSEQ_KILLS") == "full"


@pytest.mark.learn
def test_killed_runs_end_with_the_bits_of_one_that_was_not(tmp_path):
    runs, kills = (10, 6) if FULL else (1, 6)
    command = [sys.executable, "-m", "tests.train.killed", str(tmp_path / "runs"), str(runs), str(kills), "0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    happened = json.loads(result.stdout.splitlines()[-1])
    print(happened)
    assert happened["kills"] >= (50 if FULL else 4)
    assert happened["while_writing"] >= (10 if FULL else 1)
    assert happened["waited"] >= (4 if FULL else 1)


@pytest.mark.learn
@pytest.mark.parametrize(("count", "kills"), [(2, 60), (4, 40)] if FULL else [(2, 3)])
def test_processes_that_are_killed_end_with_the_bits_of_those_that_were_not(tmp_path, count, kills):
    """One of them, and the others end with an error, or all."""
    limit = 600 + 30 * kills
    output = run_module("tests.train.killed_ranks", tmp_path, count, kills, 0, limit=limit)
    happened = json.loads(output.splitlines()[-1])
    print(happened)
    assert happened["kills"] == kills
    assert 0 < happened["of one"] < kills
    if FULL:
        assert kills / 10 < happened["while writing"] < 0.9 * kills
