"""Every contender that is installed, on the same weights: loss and gradients, and a stream."""

import importlib.util
import os

import pytest

from benchmarks import suite
from benchmarks.suite import Case

os.environ.setdefault("KERAS_BACKEND", "jax")  # read when keras is imported
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
NEEDS = {
    "flax_nnx": "flax",
    "flax_linen": "flax",
    "haiku": "haiku",
    "equinox": "equinox",
    "keras": "keras",
    "torch": "torch",
    "onnx": "onnxruntime",
}
INSTALLED = [name for name, package in NEEDS.items() if importlib.util.find_spec(package) is not None]
ABSENT = {("equinox", "rnn"), ("onnx", "training")}


@pytest.mark.parametrize("cell", suite.CELLS)
@pytest.mark.parametrize("name", INSTALLED)
def test_agrees(name, cell):
    contender = suite.load(name)
    for mode in ("training", "streaming") if name != "onnx" else suite.MODES:
        case = Case(cell, mode, "float32", 2, 3, 4, 5)
        params, xs = suite.problem(case)
        call = contender(case, params, xs)
        if ABSENT & {(name, cell), (name, mode)}:
            assert call is None
        else:
            assert call is not None
            assert suite.check(case, name, contender, call, params, xs) < 1e-4
