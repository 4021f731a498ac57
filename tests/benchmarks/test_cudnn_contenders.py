"""What a machine with a GPU runs of cuDNN, with JAX's own reference in its place."""

import sys

import jax
import pytest

from benchmarks import accelerator_laws, suite
from benchmarks.accelerator_laws import Law
from benchmarks.suite import Case
from tests.test_cudnn import stand_in as stand_in


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_both_ways_to_cudnn_are_right(mode, stand_in, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    case = Case("lstm", mode, "float32", 2, 6, 3, 4)
    params, xs = suite.problem(case)
    try:
        for name in ("cudnn", "jaxseq_cudnn"):
            contender = suite.load(name)
            call = contender(case, params, xs)
            assert call is not None
            assert suite.check(case, name, contender, call, params, xs) < 1e-5
            others = [case._replace(cell="gru"), case._replace(dtype="bfloat16"), case._replace(mode="streaming")]
            assert [contender(other, params, xs) for other in others] == [None] * 3
    finally:
        sys.modules.pop("benchmarks.contenders.cudnn_lstm", None)  # which here is none, without a GPU


def test_the_laws_hold_it_first_in_both_directions(stand_in):
    assert accelerator_laws.cases()[:2] == [Law("lstm", "cudnn", way) for way in accelerator_laws.DIRECTIONS]
    for law in accelerator_laws.cases()[:2]:
        assert 0 < accelerator_laws.run(law)["error"] < 1e-5
