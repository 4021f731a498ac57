"""Arguments that are none: the error names the argument, and is short."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import train
from jaxseq.train import adapters, callbacks, compression, curves, groups, losses, metrics
from tests.untyped import untyped

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
PARAMS = {"w": np.ones((3, 2), np.float32), "b": np.zeros(2, np.float32)}
SGD, KEY, A = optax.sgd(0.1), jax.random.key(0), np.ones((3, 1), np.float32)


class Long:
    def __repr__(self):
        return "x" * 1000


def loss_fn(params, batch, key):
    return jnp.sum(params["w"]), {}


def with_carry(params, batch, key, carry):
    return *loss_fn(params, batch, key), carry


@pytest.mark.parametrize(
    ("name", "call", "wrong"),
    [
        ("loss_fn", lambda x: train.make_step(x, SGD), [None, 3, "loss", {}, Long(), lambda: None]),
        ("loss_fn", lambda x: train.evaluator(x, [1.0]), [None, 3, "loss", {}, Long(), lambda: None]),
        ("ensemble", lambda x: train.make_step(loss_fn, SGD, ensemble=x), [None, 1, "no", np.ones(2), Long()]),
        ("optimizer", lambda x: train.init(PARAMS, x, KEY), [None, 1e-3, Long(), optax.adam]),
        ("carry", lambda x: train.init(PARAMS, SGD, KEY, carry=x), ["a", {"c": np.array([None])}, 2**40, Long()]),
        (
            "batches",
            lambda x: fit(batches=[x]),
            ["a", {"x": np.array(["a"])}, {"x": np.array([2**40])}, [None, np.array([1e300])]],
        ),
        ("batches", lambda x: train.evaluator(loss_fn, [x])(PARAMS), ["a", np.array([2**40]), Long()]),
        ("carry", lambda x: train.evaluator(with_carry, [1.0], carry=x), ["a", {"c": np.array([None])}, Long()]),
        ("step", lambda x: fit(step=x), [None, 3, lambda: None, Long()]),
        ("validate", lambda x: fit(validate=x), [3, lambda: None, Long()]),
        ("better", lambda x: fit(validate=print, better=x), [3, "", np.ones(2), Long()]),
        ("state", lambda x: train.fit(untyped(print), x, [1.0], epochs=1), [None, PARAMS, 3, Long()]),
        ("monitor", lambda x: fit(monitor=x), [None, 3, Long()]),
        ("checkpoints", lambda x: fit(checkpoints=x), ["folder", 3, Long()]),
        ("callbacks", lambda x: fit(callbacks=x), [None, print, [3], [Long()]]),
        ("sharding", lambda x: fit(sharding=x), ["d", 3, Long()]),
        ("key", lambda x: adapters.init(x, PARAMS, 1), [None, 0, "a", Long()]),
        ("params", lambda x: adapters.init(KEY, x, 1), [None, "a", {"w": np.array([["a"]])}, {}]),
        ("scale", lambda x: adapters.apply(PARAMS, {"w": None, "b": None}, scale=x), [None, True, "a", math.nan, X]),
        ("scale", lambda x: metrics.mase(X, X, x), [None, -1.0, -np.ones((2, 1)), X * 1j]),
        (
            "adapters",
            lambda x: adapters.apply(PARAMS, {"w": x, "b": None}),
            [adapters.Adapter(A * 1j, A[:2].T)],
        ),
        (
            "params",
            lambda x: adapters.apply({"w": x}, {"w": adapters.Adapter(A, A.T)}),
            [np.ones((3, 3), int), 1j * (A @ A.T)],
        ),
        (
            "adapters",
            lambda x: adapters.apply(PARAMS, x),
            [None, 3, X, {"w": None}, {"w": "a", "b": None}, [None, None]],
        ),
        ("params", compression.size, [None, "a", {"w": "a"}, [Long()]]),
        ("params", compression.sparse_size, [None, "a", {"w": np.array([None])}]),
        ("tree", compression.dequantize, [None, "a", {"w": np.array([None])}]),
        ("where", lambda x: compression.keep_zeros(where=x), [3, [], [3], Long()]),
        ("rows", lambda x: compression.quantize(PARAMS, rows=x), [3, [], [3], Long()]),
        ("where", lambda x: groups.matrices(PARAMS, x), [3, [], [3], Long(), "nothing", "b"]),
        ("rules", lambda x: groups.by_path(PARAMS, x, default=0), [3, {"nothing": 1}]),
        ("groups", lambda x: groups.per_group(x, default=None).init(PARAMS), [{"nothing": SGD}]),
        ("groups", lambda x: groups.per_group(x, default=None), [None, {"w": 3}, {1: SGD}, {"w": Long()}]),
        ("default", lambda x: groups.per_group({}, default=x), [3, "a", Long()]),
        ("path", callbacks.csv, [None, 3, {}, Long()]),
        ("file", callbacks.printing, [3, "log", Long()]),
        ("writer", callbacks.tensorboard, [None, "log", Long()]),
        (
            "history",
            curves.plot,
            [
                None,
                3,
                "a",
                [3],
                [{"loss": 1.0}],
                [{"step": 1, "loss": "0.5"}],
                [{"step": 1, "loss": None}],
                np.ones(2),
                Long(),
            ],
        ),
        ("names", lambda x: curves.plot([{"step": 1, "loss": 2.0}], names=x), [None, 3, "loss", [], [Long()]]),
        ("path", lambda x: curves.plot([{"step": 1, "loss": 2.0}], x), [3, {}, "", Long()]),
        ("monitor", lambda x: curves.plot([{"step": 1, "loss": 2.0}], monitor=x), [None, 3, Long()]),
        ("better", lambda x: curves.plot([{"step": 1, "loss": 2.0}], better=x), [3, "best", Long()]),
        ("predict", train.average, [None, 3, Long()]),
        ("targets", lambda x: losses.squared_error(X, x), [None, X * 1j, X[:1], "a"]),
        ("targets", lambda x: losses.quantile(X[..., None], x, [0.5]), [None, X * 1j, X[:1]]),
        ("levels", lambda x: losses.quantile(X[..., None], X, x), [None, "a", [None], {}, [0.0], [math.nan]]),
        ("std", lambda x: losses.gaussian_nll(X, x, X), [None, X * 1j, X[:1]]),
        ("delta", lambda x: losses.huber(X, X, delta=x), [None, "a", 0, -1.0, math.nan, True]),
        ("values", losses.mean, [None, X * 1j, "a"]),
        ("values", metrics.mean, [None, X * 1j, "a"]),
        ("params", losses.l2, [None, "a", {"w": "a"}, {"w": np.array([None])}, X * 1j]),
        ("axis", lambda x: metrics.naive_scale(X, axis=x), [None, 0.5, True, "a", 2, Long()]),
        ("tags", lambda x: metrics.spans(np.ones(2, int), np.ones(2, int), x), [None, 3, "O", [], [3], {}, Long()]),
        ("references", lambda x: metrics.word_error_rate(x, ["a"]), [None, 3, "a", {"a": 1}, [3], Long()]),
        (
            "metrics",
            metrics.compute,
            [None, 3, "a", {"a": None}, {"a": "b"}, {"a": Long()}, {"a": print}, {"a": 1j * X[0, 0]}],
        ),
        ("metrics", lambda x: metrics.compute({"a": metrics.Mean(x, untyped(1))}), [np.array("a"), np.array(1j)]),
        (
            "a",
            lambda x: metrics.merge(x, metrics.Mean(untyped(1.0), untyped(1))),
            [None, 3, metrics.Mean(untyped(np.array("a")), untyped(1))],
        ),
        ("logits", lambda x: losses.cross_entropy(x, np.zeros(2, int)), [None, X[:, :0], X[0]]),
    ],
)
def test_the_argument_is_named(name, call, wrong):
    for value in wrong:
        with pytest.raises((TypeError, ValueError)) as raised:
            call(value)
        assert f"`{name}" in str(raised.value), f"{value!r:.50}: {raised.value}"
        assert len(str(raised.value)) < 400


def fit(step=print, batches=(1.0,), **change):
    return train.fit(step, train.init(PARAMS, SGD, KEY), batches, epochs=1, **change)


def test_what_a_loss_raises_has_a_note_of_what_it_was_given():
    def wrong(params, batch, key, carry):
        return batch["x"].nothing, {}, carry

    state = train.init(PARAMS, SGD, KEY, carry=jnp.zeros(2))
    with pytest.raises(AttributeError) as raised:
        train.make_step(wrong, SGD)(state, {"x": X})
    given = "{'x': 'float32 (2, 3)'} and a `carry` of float32 (2,)"
    assert f"raised in `loss_fn`, which was given a `batch` of {given}" in raised.value.__notes__
