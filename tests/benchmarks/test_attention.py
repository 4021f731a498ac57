"""Both ways to attention do the same, and the table says how fast."""

import re

import pytest

from benchmarks import attention


def test_a_row_for_each_task(capsys):
    attention.main(["--sizes", "2,5,2,4", "--rounds", "1"])
    rows = re.findall(
        r"^2, 5, 2, 4 +(\w+) +[\d.]+ \( *[\d.]+\) +[\d.]+ \( *[\d.]+\) +[\d.]+$", capsys.readouterr().out, re.M
    )
    assert rows == ["pass", "gradient", "step"]


def test_another_result_stops_the_run(monkeypatch):
    monkeypatch.setitem(attention.WAYS, "products", lambda *given: attention.WAYS["jax.nn"](*given) * 1.01)
    with pytest.raises(AssertionError, match=r"products differs from jax\.nn"):
        attention.compare("pass", (2, 3, 1, 4), rounds=1)
