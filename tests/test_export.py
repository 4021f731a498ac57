"""Programs for processes without jaxseq: the numbers of the model, any B and T, containers of JAX's own alone."""

import importlib.util
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import export, nn
from tests import zoo
from tests.interop.test_safetensors import NETS, fits
from tests.nn.drawn import drawn
from tests.nn.stock import LAYERS, MODELS, ONE_WAY, D, V
from tests.untyped import untyped

TWO_WAYS = jaxseq.bidirectional(jaxseq.lstm(4))
TWO_WAYS = jaxseq.bidirectional(jaxseq.lstm(4))
CHILD = """if True:
    import pathlib, sys
    sys.modules["jaxseq"] = None  # to import it is an error
    import jax, jax.numpy as jnp, numpy as np
    folder, results = pathlib.Path(sys.argv[1]), {}
    read = lambda name: jax.export.deserialize((folder / name).read_bytes())
    given = dict(np.load(folder / "given.npz"))

    classifier, net, step = read("classifier"), read("net"), read("step")
    for steps, rows in ((5, 4), (3, 2)):
        results[f"logits {steps}"] = classifier.call(given["xs"][:rows, :steps], mask=given["mask"][:rows, :steps])
    params = {name.removeprefix("params."): given[name] for name in given if name.startswith("params.")}
    last, results["ys"] = net.call(params, jnp.swapaxes(given["xs"], 0, 1))
    results["c"] = last["backward"]["c"]

    (carry, _), _ = jax.tree.unflatten(step.in_tree, step.in_avals)
    carry = jax.tree.map(lambda leaf: jnp.zeros((4, *leaf.shape[1:]), leaf.dtype), carry)
    ids, ys = given["ids"], []
    for t in range(5):
        carry, y = step.call(carry, ids[:, t], reset=given["reset"][:, t])
        ys.append(y)
    results["step"] = jnp.stack(ys, 1)
    results["h"] = carry[0]["h"]
    np.savez(folder / "results.npz", **results)
    assert not any(name.startswith("jaxseq.") for name in sys.modules)
"""


def weights(net, size=D):
    return zoo.params_of(net, size)


@pytest.mark.learn
def test_a_fresh_process_without_jaxseq_has_the_same_numbers(tmp_path):
    random, params = np.random.default_rng(0), weights(TWO_WAYS)
    xs, ids = random.normal(size=(4, 5, D)).astype(np.float32), random.integers(0, V, (4, 5)).astype(np.int32)
    mask, reset = np.arange(5) < np.array([[5], [1], [3], [4]]), np.zeros((4, 5), bool)
    reset[:, 0], reset[2, 3] = True, True
    classifier = drawn(nn.SequenceClassifier, jaxseq.lstm(4), D, 2)
    language = drawn(nn.LanguageModel, ONE_WAY, V, D)
    export.save(tmp_path / "classifier", export.unroll(classifier, xs, mask=True))
    export.save(tmp_path / "net", export.unroll((TWO_WAYS, params), xs, params=True))
    export.save(tmp_path / "step", export.step(language, ids[:, 0]))
    named: dict[str, Any] = {f"params.{name}": leaf for name, leaf in export.params((TWO_WAYS, params)).items()}
    np.savez(tmp_path / "given.npz", xs=xs, ids=ids, mask=mask, reset=reset, **named)
    subprocess.run([sys.executable, "-I", "-c", CHILD, str(tmp_path)], check=True, cwd=tmp_path)
    with np.load(tmp_path / "results.npz") as results:
        got = dict(results)

    last, ys = jaxseq.unroll(TWO_WAYS, params, np.swapaxes(xs, 0, 1))
    carry, logits = language.unroll(ids, reset=reset)
    want = {"ys": ys, "c": last.backward.c, "step": logits, "h": carry[0].h}
    want |= {f"logits {T}": classifier(xs, mask=mask & (np.arange(5) < T))[:B] for T, B in ((5, 4), (3, 2))}
    zoo.assert_close(got, {name: np.asarray(leaf) for name, leaf in want.items()}, 1e-5)


def test_parts_of_a_stream_are_the_whole(tmp_path):
    params, xs = weights(ONE_WAY), np.random.default_rng(0).normal(size=(6, 2, D)).astype(np.float32)
    reset = np.zeros((6, 2), bool)
    reset[[0, 4], [1, 0]] = True
    program = export.unroll((ONE_WAY, params), xs, carry=True)
    carry, ys = jax.tree.map(jnp.asarray, ({"h": np.ones((2, 4)), "c": np.ones((2, 4))}, np.ones((2, 3)))), []
    start = jaxseq.LstmCarry(carry[0]["h"], carry[0]["c"]), carry[1]
    carry = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), carry)
    for part in (slice(0, 1), slice(1, 6)):
        carry, y = program.call(xs[part], carry, reset=reset[part])
        ys.append(y)
    last, want = jaxseq.unroll(ONE_WAY, params, xs, start, reset=reset)
    zoo.assert_close((jnp.concatenate(ys), carry), (want, ({"h": last[0].h, "c": last[0].c}, last[1])), 1e-5)


def test_what_does_not_fit_is_named(tmp_path, monkeypatch):
    model, xs = drawn(nn.SequenceClassifier, jaxseq.lstm(4), D, 2), np.ones((2, 5, D), np.float32)
    text = drawn(nn.TextCNN, D, 2, vocabulary=V)
    for call, words in (
        (lambda: export.unroll(model, xs[0, 0]), r"`xs` must be \[B, T, ...\]; got float32 \(3,\)"),
        (lambda: export.unroll((ONE_WAY, None), 3), "`xs` must be an array or a jax.ShapeDtypeStruct; got 3"),
        (lambda: export.unroll(jaxseq.lstm, xs), r"`model` must be an nnx.Module or a pair \(net, params\)"),
        (lambda: export.unroll((jaxseq.lstm, None), xs), r"`model\[0\]` must be a jaxseq.Cell"),
        (lambda: export.unroll(model, xs, mask=untyped(1)), "`mask` must be True or False; got 1"),
        (
            lambda: export.unroll(text, xs, carry=True),
            "`model` must have `unroll` to run on parts of .*; TextCNN",
        ),
        (
            lambda: export.step(text, xs[:, 0]),
            "`model` must have `step` to run on parts of .*; TextCNN",
        ),
        (lambda: export.step((TWO_WAYS, weights(TWO_WAYS)), xs[:, 0]), "causal"),
        (lambda: export.params(3), r"`model` must be an nnx.Module or a pair"),
        (lambda: export.unroll(model, xs, platforms=("gpu",)), "`platforms` must be of 'cpu', 'cuda', 'tpu', 'rocm'"),
        (lambda: export.unroll(model, xs, platforms="cpu"), "`platforms` must be a sequence of names; got 'cpu'"),
        (lambda: export.params((ONE_WAY, {"a.b": xs, "a": {"b": xs}})), "must have params of one path each; .* 'a.b'"),
        (
            lambda: export.unroll((ONE_WAY, jax.eval_shape(lambda: weights(ONE_WAY))), xs),
            "`model` must hold arrays to stand in a program, not only their shapes; or give params=True",
        ),
        (
            lambda: export.save(tmp_path / "a", untyped(model)),
            "`program` must be a result of export.unroll or export.step",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    program = export.step((jaxseq.rnn(2), weights(jaxseq.rnn(2))), xs[:, 0])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"writing a program needs flatbuffers: pip install 'jaxseq\[export\]'"):
        export.save(tmp_path / "a", program)
    assert [*tmp_path.iterdir()] == []


def again(program):
    """The program as it is in a file; it holds nothing but containers of JAX's own."""
    assert program.platforms == ("cpu", "cuda", "tpu")
    for tree in (program.in_tree, program.out_tree):
        assert "namedtuple" not in str(tree), tree
    return jax.export.deserialize(program.serialize())


def by_steps(program, xs):
    """The outputs of a step program for `xs`, a list of steps, each row a sequence of its own."""
    (carry, _), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    carry = jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape[1:]), leaf.dtype), carry)
    ys = []
    for t, x in enumerate(xs):
        carry, y = program.call(carry, x, reset=np.full(2, t == 0))
        ys.append(y)
    return jnp.stack(ys)


@pytest.mark.some(0, learn=12)
@pytest.mark.parametrize("name", [*MODELS, *LAYERS])
def test_modules(name):
    model, random = drawn({**MODELS, **LAYERS}[name]), np.random.default_rng(0)
    size = getattr(model, "in_features", D)
    reads_ids = getattr(model, "embedding", None) is not None
    xs = random.integers(0, V, (2, 5)) if reads_ids else random.normal(size=(2, 5, size)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [3]])
    got = again(export.unroll(model, xs[:1, :3], mask=True)).call(xs, mask=mask)
    zoo.assert_close(got, model(xs, mask=mask), 1e-5)
    if hasattr(model, "step") and getattr(model, "recurrent", model).causal:
        ys = by_steps(again(export.step(model, xs[:1, 0])), np.moveaxis(xs, 1, 0))
        last = ys[-1:] if isinstance(model, nn.SequenceClassifier | nn.Forecaster) else ys
        zoo.assert_close(last, jnp.moveaxis(model.unroll(xs)[1].reshape(2, len(last), *ys.shape[2:]), 1, 0), 1e-4)


@pytest.mark.some(0, learn=20)
@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.step is not None])
def test_steps_of_nets(name):
    net = NETS[name]
    size = next(size for size in (3, 4, 12, 27, 18) if fits(net, size))
    params, xs = weights(net, size), np.random.default_rng(0).normal(size=(5, 2, size)).astype(np.float32)
    ys = by_steps(again(export.step((net, params), xs[0, :1])), xs)
    zoo.assert_close(ys, jaxseq.unroll(net, params, xs)[1], 1e-4)
