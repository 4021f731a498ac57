"""ONNX files by `interop.onnx`: ONNX Runtime in float32, ONNX's own evaluator in float64, the project's own cases."""

import random
import warnings

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import strategies as some
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import assert_same_net

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4


def cells():
    hard = jax.nn.hard_sigmoid
    return some.sampled_from(
        [
            jaxseq.rnn(H),
            jaxseq.rnn(H, activation=jax.nn.relu),
            jaxseq.rnn(H, activation=jax.nn.soft_sign),
            jaxseq.lstm(H),
            jaxseq.lstm(H, peephole="new"),
            jaxseq.lstm(H, gate=hard, candidate=jax.nn.sigmoid),
            jaxseq.gru(H),
            jaxseq.gru(H, reset_after=False),
            jaxseq.gru(H, gate=hard, candidate=jax.nn.softplus),
        ]
    )


def wrapped(cell):
    return some.one_of(cell, cell.map(jaxseq.learned_carry))


def nets():
    """Of wrapped cells: stacked, in both directions, backwards, residual, two deep."""
    both = some.builds(
        lambda ahead, back, merge: jaxseq.bidirectional(ahead, back, merge=merge),
        wrapped(cells()),
        wrapped(cells()),
        some.sampled_from(["concat", "sum", "mean", "mul"]),
    )
    layer = some.one_of(wrapped(cells()), both, wrapped(cells()).map(jaxseq.backwards))
    deep = some.lists(layer, min_size=1, max_size=2).map(lambda layers: jaxseq.stack(*layers))
    return some.one_of(
        layer,
        deep,
        some.builds(lambda first, cell: jaxseq.stack(first, jaxseq.residual(cell)), wrapped(cells()), cells()),
        some.builds(lambda a, b: jaxseq.bidirectional(jaxseq.stack(a, b)), cells(), cells()),
    )


def drawn(net, seed, dtype):
    return zoo.random_like(jax.eval_shape(lambda: net.init(jax.random.key(0), D, dtype)), seed)


def carry_as(names, carry):
    """The leaves of a carry by the names of the file, which are in their order: h before c, layer by layer."""
    return dict(zip(names, map(np.asarray, jax.tree.leaves(carry)), strict=True))


def assert_runtime_agrees(net, seed, path):
    """Over lengths, from a carry, at two sizes."""
    params = drawn(net, seed, jnp.float32)
    interop.onnx.export(net, params, path, lengths=True, carry=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    starts = [each.name for each in session.get_inputs() if each.name.startswith("carry")]
    lasts = [each.name for each in session.get_outputs()][1:]
    generator = np.random.default_rng(seed)
    for T, B in ((5, 3), (1, 1)):
        xs = generator.normal(size=(T, B, D)).astype(np.float32)
        lengths = np.array([T, *generator.integers(1, T + 1, B - 1)], np.int32)
        carry = zoo.random_like(jax.eval_shape(lambda params: net.carry(params, (B,)), params), seed)  # noqa: B023
        ys, *last = session.run(["ys", *lasts], {"xs": xs, "lengths": lengths, **carry_as(starts, carry)})
        mask = jaxseq.lengths_to_mask(lengths, T)
        ours, want = jax.jit(jaxseq.unroll, static_argnums=0)(net, params, xs, carry, mask=mask)
        zoo.assert_close(want, ys, 2e-5, "ys")
        zoo.assert_close(jax.tree.leaves(ours), last, 2e-5, "last")


def assert_evaluator_agrees(net, seed, path):
    """ONNX's own, in float64: it knows neither lengths nor activations but the usual ones."""
    params = drawn(net, seed, jnp.float64)
    interop.onnx.export(net, params, path)
    xs = np.random.default_rng(seed).normal(size=(4, 2, D))
    ys, *last = ReferenceEvaluator(str(path)).run(None, {"xs": xs})
    ours, want = jax.jit(jaxseq.unroll, static_argnums=0)(net, params, xs)
    zoo.assert_close(want, ys, 1e-12, "ys")
    zoo.assert_close(jax.tree.leaves(ours), last, 1e-12, "last")


EXACT = [
    jaxseq.stack(jaxseq.learned_carry(jaxseq.lstm(H, peephole="new")), jaxseq.residual(jaxseq.gru(H))),
    jaxseq.bidirectional(jaxseq.stack(jaxseq.rnn(H), jaxseq.gru(H, reset_after=False)), merge="mean"),
]


@pytest.mark.parametrize("net", EXACT, ids=str)
def test_files_run_and_come_back(net, tmp_path):
    assert_runtime_agrees(net, 0, tmp_path / "net.onnx")
    assert_evaluator_agrees(net, 0, tmp_path / "net.onnx")
    params = drawn(net, 1, jnp.float32)
    interop.onnx.export(net, params, tmp_path / "net.onnx", lengths=True)
    assert_same_net((net, params), interop.onnx.load(tmp_path / "net.onnx"))


@pytest.mark.learn
@hypothesis.settings(max_examples=200, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(nets(), some.integers(0, 1000))
def test_random_nets_run_and_come_back(tmp_path, net, seed):
    path = tmp_path / "net.onnx"
    assert_runtime_agrees(net, seed, path)
    if not any(word in repr(net) for word in ("sigmoid", "relu", "soft")):
        assert_evaluator_agrees(net, seed, path)
    params = drawn(net, seed, jnp.float32)
    interop.onnx.export(net, params, path)
    loaded, again = interop.onnx.load(path)
    xs = np.random.default_rng(seed).normal(size=(3, 2, D)).astype(np.float32)
    run = jax.jit(jaxseq.unroll, static_argnums=0)
    np.testing.assert_array_equal(run(loaded, again, xs)[1], run(net, params, xs)[1])
    if "stack" not in repr(net):
        assert_same_net((net, params), (loaded, again))


def node_cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cases of other operators
        cases = load_model_tests(kind="node")
    return {case.name: case for case in cases if any(kind in case.name for kind in ("_rnn", "_lstm", "_gru"))}


CASES = node_cases()


@pytest.mark.some(6)
@pytest.mark.parametrize("name", CASES)
def test_the_projects_own_cases(name, tmp_path):
    """Their weights are inputs, which stand in the data beside: here they become initializers."""
    case = CASES[name]
    model, ((inputs, outputs),) = onnx.ModelProto.FromString(case.model.SerializeToString()), case.data_sets
    (node,) = model.graph.node
    given = dict(zip([each.name for each in model.graph.input], inputs, strict=True))
    slots = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
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
    want = dict(zip(node.output, [None] * len(node.output), strict=True))
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
    zoo.assert_close(ys, np.moveaxis(want, 1, 2).reshape(ys.shape), 2e-6)
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
    "no equal of Softmax 'other'; choose a recurrent node": {"spoil": with_node("Softmax")},
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
    with pytest.raises(ValueError, match="no recurrent nodes of bfloat16"):
        interop.onnx.export(jaxseq.gru(H), drawn(jaxseq.gru(H), 0, jnp.bfloat16), tmp_path / "net.onnx")
    lstm = node_file(tmp_path / "two.onnx", "LSTM", activations=["Sigmoid", "Tanh", "Relu"])
    with pytest.raises(ValueError, match="that of the memory must be Tanh"):
        interop.onnx.load(lstm)


WITHOUT_EQUAL = {
    "projection=2": jaxseq.lstm(H, projection=2),
    "clip=1.0": jaxseq.lstm(H, clip=1),
    "peephole='old'": jaxseq.lstm(H, peephole="old"),
    "candidate=gelu": jaxseq.gru(H, candidate=jax.nn.gelu),
    "conv_lstm": jaxseq.conv_lstm((D,), 1),
    "zoneout": jaxseq.zoneout(jaxseq.gru(H), h=0.1),
    "lru": jaxseq.lru(H),
}


@pytest.mark.parametrize("words", WITHOUT_EQUAL)
def test_what_onnx_has_no_equal_of_is_named(words, tmp_path):
    net = WITHOUT_EQUAL[words]
    with pytest.raises(ValueError, match=words):
        interop.onnx.export(net, drawn(net, 0, jnp.float32), tmp_path / "net.onnx")


@pytest.mark.learn
def test_a_thousand_mutated_files(tmp_path):
    """Each gives a net or one error; nothing else."""
    interop.onnx.export(EXACT[0], drawn(EXACT[0], 0, jnp.float32), tmp_path / "net.onnx")
    data, draw, refused = (tmp_path / "net.onnx").read_bytes(), random.Random(0), 0
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 9)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (tmp_path / "net.onnx").write_bytes(changed[: draw.choice([len(changed), draw.randrange(len(changed))])])
        try:
            net, _ = interop.onnx.load(tmp_path / "net.onnx")
        except ValueError:
            refused += 1
        else:
            assert isinstance(net, jaxseq.Cell | jaxseq.Composite)
    assert refused > 300
