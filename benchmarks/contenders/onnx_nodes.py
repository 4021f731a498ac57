"""ONNX Runtime: one node `RNN`, `LSTM` or `GRU`, weights as initialisers, on the CPU; from and to NumPy arrays.

Time-major. Weights are `[1, G, D]` and `[1, G, H]`, biases `[1, 2 G]`, beside the input and the recurrent weights; the
gates of the LSTM are in the order i o f g, those of the GRU z r n. A stream is the same model of one step, whose
carry is an input. What it cost to make the session counts as compiling.
"""

import time
from typing import Any

import jax
import numpy as np
import onnx  # pyright: ignore[reportMissingImports]
import onnxruntime  # pyright: ignore[reportMissingImports]
from onnx import TensorProto, helper  # pyright: ignore[reportMissingImports]

from benchmarks import suite
from benchmarks.contenders._jax import reorder_gates
from benchmarks.suite import STREAMED, Call, Case

if jax.default_backend() != "cpu":
    raise ImportError("ONNX Runtime runs on the CPU here")

NODES = {"rnn": ("RNN", None, None), "lstm": ("LSTM", "iofg", "ifgo"), "gru": ("GRU", "zrn", "rzn")}


def contend(case: Case, params, xs) -> Call | None:
    """Every cell in float32, inference and streaming."""
    if case.mode == "training" or case.dtype != "float32":
        return None
    model = _model(case, params)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # between calls, where others have their turn
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = time.perf_counter() - start
    inputs = np.asarray(xs)
    carried = ["h", "c"] if case.cell == "lstm" else ["h"]
    zeros = {name: np.zeros((1, case.B, case.H), np.float32) for name in carried}

    def inference():
        return session.run(["ys"], {"xs": inputs, **zeros})[0]

    def stream():
        carry, ys = zeros, []
        for t in range(min(case.T, STREAMED)):
            y, *leaves = session.run(None, {"xs": inputs[t : t + 1], **carry})
            carry = dict(zip(carried, leaves, strict=True))
            ys.append(y)
        return ys

    def result(ys):
        return {"ys": np.concatenate(ys)[:, 0] if case.mode == "streaming" else ys[:, 0]}

    streaming = case.mode == "streaming"
    run, steps = (stream, min(case.T, STREAMED)) if streaming else (inference, 1)
    return Call(run, result, suite.twin(case, params), compile=made, steps=steps)


def _model(case, params):
    """A model `xs [T, B, D], h, c [1, B, H] -> ys [T, 1, B, H]`, and the carry of the last step."""
    node, order, ours = NODES[case.cell]
    leaves = {"w": params.w_x, "r": params.w_h, "b": params.b, "b_h": np.zeros_like(params.b)}
    if case.cell == "gru":
        leaves["b_h"][2 * case.H :] = params.b_hn
    if order is not None:
        leaves = {name: np.asarray(reorder_gates(leaf, order, ours)) for name, leaf in leaves.items()}
    weights = {
        "w": np.asarray(leaves["w"]).T[None],
        "r": np.asarray(leaves["r"]).T[None],
        "b": np.concatenate([leaves["b"], leaves["b_h"]])[None],
    }
    steps = 1 if case.mode == "streaming" else case.T
    carried = ["h", "c"] if case.cell == "lstm" else ["h"]
    options: dict[str, Any] = {"linear_before_reset": 1} if case.cell == "gru" else {}
    names = [f"last_{name}" for name in carried]
    nodes = [helper.make_node(node, ["xs", "w", "r", "b", "", *carried], ["ys", *names], hidden_size=case.H, **options)]

    def describe(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        case.cell,
        [describe("xs", steps, case.B, case.D), *(describe(name, 1, case.B, case.H) for name in carried)],
        [describe("ys", steps, 1, case.B, case.H), *(describe(name, 1, case.B, case.H) for name in names)],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(leaf), name) for name, leaf in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model
