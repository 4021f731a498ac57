"""ONNX's nodes by `interop.onnx`: the project's own cases, every option by ONNX Runtime, and faulty files."""

import importlib
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import assert_same_net

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4


def node_cases():
    """The cases that the three modules add to the list when they are imported: the loader imports all 198."""
    from onnx.backend.test.case import node

    for kind in ("rnn", "lstm", "gru"):
        importlib.import_module(f"{node.__name__}.{kind}")
    return {case.name: case for case in node._NodeTestCases}


CASES = node_cases()


@pytest.mark.some(6)
@pytest.mark.parametrize("name", CASES)
def test_the_projects_own_cases(name, tmp_path):
    """Their weights are inputs, which stand in the data beside: here they become initializers."""
    case: Any = CASES[name]
    model, ((inputs, outputs),) = onnx.ModelProto.FromString(case.model.SerializeToString()), case.data_sets
    (node,) = model.graph.node
    given = dict(zip([each.name for each in model.graph.input], inputs, strict=True))
    slots: dict[str, str] = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
    model.graph.initializer.extend(
        numpy_helper.from_array(given[slots[slot]], slots[slot]) for slot in "WRBP" if slots.get(slot)
    )
    (tmp_path / "case.onnx").write_bytes(model.SerializeToString())
    net, params = interop.onnx.load(tmp_path / "case.onnx")
    layout = next((each.i for each in node.attribute if each.name == "layout"), 0)
    xs = given[slots["X"]]
    xs = np.swapaxes(xs, 0, 1) if layout else xs
    mask = jaxseq.lengths_to_mask(given[slots["lengths"]], len(xs)) if slots.get("lengths") else None
    starts = [given[slots[slot]] for slot in "hc" if slots.get(slot)]
    assert not any(np.any(start) for start in starts)
    last, ys = jax.jit(jaxseq.unroll, static_argnums=0)(net, params, xs, mask=mask)
    sides = last if isinstance(last, jaxseq.Bidirectional) else (last,)
    hs = [side.h if isinstance(side, jaxseq.LstmCarry) else side for side in sides]
    want: dict[str, Any] = dict(zip(node.output, [None] * len(node.output), strict=True))
    want |= dict(zip([each.name for each in model.graph.output], outputs, strict=True))
    whole, final = (want.get(name) for name in (*node.output, "")[:2])
    if whole is not None:
        whole = np.moveaxis(whole, 0, 2) if layout else whole  # [B, T, sides, H]
        whole = np.swapaxes(np.moveaxis(want[node.output[0]], 0, 1), 1, 2) if layout else whole
        theirs = np.moveaxis(whole, 1, 2).reshape(*ys.shape)
        zoo.assert_close(ys, theirs, 1e-6, "Y")
    if final is not None:
        zoo.assert_close(np.stack(hs), np.swapaxes(final, 0, 1) if layout else final, 1e-6, "Y_h")
    assert whole is not None or final is not None


def node_file(path, kind, sides=1, spoil=None, arrays=None, **attributes):
    """A model of one node with random weights, on which `spoil` acts."""
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind] * H
    generator = np.random.default_rng(0)
    shapes = {"W": (sides, rows, D), "R": (sides, rows, H), "B": (sides, 2 * rows)}
    shapes |= {"P": (sides, 3 * H)} if kind == "LSTM" and not attributes.get("without") else {}
    weights = {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= arrays or {}
    names = ["xs", "W", "R", "B", "", "", "", "P"] if "P" in weights else ["xs", "W", "R", "B"]
    nodes = [helper.make_node(kind, names, ["Y", "Y_h"], name="cell", hidden_size=H, **attributes)]
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("xs", float32, ["T", "B", D])],
        [helper.make_tensor_value_info("Y", float32, None)],
        [numpy_helper.from_array(leaf, name) for name, leaf in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if spoil:
        spoil(model)
    path.write_bytes(model.SerializeToString())
    return path


OPTIONS = [
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"clip": 0.3}),
    ("LSTM", {"activations": ["HardSigmoid", "LeakyRelu", "Tanh"]}),
    ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
    ("GRU", {"activations": ["Sigmoid", "ScaledTanh"], "activation_alpha": [1.5], "activation_beta": [0.5]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1], "clip": 2.0}),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [0.5]}),
    ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
]


@pytest.mark.some(3)
@pytest.mark.parametrize(("kind", "options"), OPTIONS, ids=str)
def test_options_of_nodes(kind, options, tmp_path):
    """Both directions by ONNX Runtime, whose two may have functions of their own."""
    twice = {name: value * 2 if isinstance(value, list) else value for name, value in options.items()}
    path = node_file(tmp_path / "one.onnx", kind, 2, direction="bidirectional", **twice)
    net, params = interop.onnx.load(path)
    xs = np.random.default_rng(1).normal(size=(5, 2, D)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["Y"], {"xs": xs})
    ys = jax.jit(jaxseq.unroll, static_argnums=0)(net, params, xs)[1]
    zoo.assert_close(ys, np.moveaxis(np.asarray(want), 1, 2).reshape(ys.shape), 2e-6)
    if "clip" not in options and "input_forget" not in options:
        interop.onnx.export(net, params, tmp_path / "again.onnx")
        assert_same_net((net, params), interop.onnx.load(tmp_path / "again.onnx"))
    if "activations" in options:
        interop.safetensors.save(tmp_path / "net", net, params)
        assert_same_net((net, params), interop.safetensors.load(tmp_path / "net"))


def with_node(operator, *inputs, **attributes):
    def spoil(model):
        model.graph.node.append(helper.make_node(operator, ["Y", *inputs], ["Z"], name="other", **attributes))

    return spoil


def without_weights(model):
    del model.graph.initializer[1:]


FAULTS = {
    "no equivalent of Softmax 'other'; choose a recurrent node": {"spoil": with_node("Softmax")},
    "`cell.R` must be an initializer": {"spoil": without_weights},
    "`cell.R` must be of the shape \\[1, 12, 4\\]": {"arrays": {"R": np.zeros([1, 16, 4], np.float32)}},
    "`cell.W` must be of the shape": {"arrays": {"W": np.zeros([1, 16, 4], np.float32)}},
    "`cell.B` holds NaN": {"arrays": {"B": np.full([1, 24], np.nan, np.float32)}},
    "`cell.W` must be an array of floats": {"arrays": {"W": np.zeros([1, 12, 3], np.int32)}},
    "`cell.activations` 'Sine'": {"activations": ["Sine", "Tanh"]},
    "`cell.activations` must be 2 names": {"activations": ["Tanh"]},
}


@pytest.mark.parametrize("words", FAULTS)
def test_faults_are_named(words, tmp_path):
    path = node_file(tmp_path / "one.onnx", "GRU", **FAULTS[words])
    with pytest.raises((TypeError, ValueError), match=words):
        interop.onnx.load(path)


def test_one_node_of_many(tmp_path):
    path = node_file(tmp_path / "one.onnx", "GRU", spoil=with_node("Softmax"))
    assert interop.onnx.load(path, node="cell")[0] is jaxseq.gru(H, reset_after=False)
    with pytest.raises(ValueError, match="no recurrent node other"):
        interop.onnx.load(path, node="other")
    lstm = node_file(tmp_path / "two.onnx", "LSTM", activations=["Sigmoid", "Tanh", "Relu"])
    with pytest.raises(ValueError, match="the memory's must be Tanh"):
        interop.onnx.load(lstm)
