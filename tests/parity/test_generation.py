"""All that is installed writes the same tokens, on the same weights, and the table says how fast."""

import importlib.util
import re

import pytest

from benchmarks import generation


@pytest.mark.parametrize("net", generation.NETS)
def test_everybody_writes_the_same(net, capsys):
    generation.main(["--nets", net, "--sizes", "2,16", "--length", "6", "--rounds", "1"])
    rows = re.findall(rf"^{net} +2 +16 +(\w+) +([\d,]+) +([\d,]+) +([\d.]+)$", capsys.readouterr().out, re.M)
    peers = ["torch"] if importlib.util.find_spec("torch") else []
    assert [name for name, *_ in rows] == ["jaxseq", "flax_nnx", *peers]
    assert float(rows[0][3]) == 1
    assert all(int(median.replace(",", "")) <= int(fastest.replace(",", "")) for _, median, fastest, _ in rows)
