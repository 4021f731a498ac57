"""The benchmark of generation times nothing that writes another text; tests/parity has all that write the same."""

import pytest

from benchmarks import generation


def test_another_text_stops_the_run(monkeypatch):
    def other(model, B, length):
        return lambda: generation.by_jaxseq(model, B, length)() + 1

    monkeypatch.setattr(generation, "by_flax", other)
    with pytest.raises(AssertionError, match="flax_nnx differs from jaxseq"):
        generation.main(["--nets", "gru", "--sizes", "1,8", "--length", "3", "--rounds", "1"])
