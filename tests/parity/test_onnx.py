"""ONNX files by `interop.onnx`: ONNX Runtime in float32, ONNX's own evaluator in float64."""

import pickle
import random

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from hypothesis import strategies as some
from onnx.reference import ReferenceEvaluator

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, problem, run

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
    return zoo.params_of(net, D, dtype, seed=seed)


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
@hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(nets(), some.integers(0, 1000))
def test_random_nets_run_and_come_back(tmp_path, net, seed):
    path = tmp_path / "net.onnx"
    assert_runtime_agrees(net, seed, path)
    if not any(word in repr(net) for word in ("sigmoid", "relu", "soft")):
        assert_evaluator_agrees(net, seed, path)
    params = drawn(net, seed, jnp.float32)
    interop.onnx.export(net, params, path)
    loaded, again = interop.onnx.load(path)
    given = problem(net, params, D, seed, ragged=True)
    given = given._replace(xs=given.xs.astype(np.float32), carry=jax.tree.map(lambda x: x.astype("f4"), given.carry))
    same = run(net, params, given), run(loaded, again, given._replace(carry=like(loaded, again, given.carry)))
    for name in ("ys", "d_xs"):
        np.testing.assert_array_equal(*(getattr(results, name) for results in same))
    for name in ("last", "d_carry"):
        for pair in zip(*(jax.tree.leaves(getattr(results, name)) for results in same), strict=True):
            np.testing.assert_array_equal(*pair)
    if "stack" not in repr(net):
        assert_same_net((net, params), (loaded, again))


def like(net, params, carry):
    """A carry with the leaves of another, in the form of the net's: a stack may be within a stack."""
    form = jax.eval_shape(lambda params: net.carry(params, (3,)), params)
    return jax.tree.unflatten(jax.tree.structure(form), jax.tree.leaves(carry))


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


def test_sixteen_bits_have_no_nodes(tmp_path):
    with pytest.raises(ValueError, match="no recurrent nodes of bfloat16"):
        interop.onnx.export(jaxseq.gru(H), drawn(jaxseq.gru(H), 0, jnp.bfloat16), tmp_path / "net.onnx")


class Runs:
    """What would run, were it unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_pickle_is_not_run(tmp_path):
    (tmp_path / "net.onnx").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(ValueError, match=r"net\.onnx (is not an ONNX file, or is damaged|is damaged)"):
        interop.onnx.load(tmp_path / "net.onnx")


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
