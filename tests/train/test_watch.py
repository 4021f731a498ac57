"""What is not finite is told of the right step, whatever happens after it, and nothing goes on from it unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import train
from jaxseq.train import metrics
from tests.untyped import untyped

OPTIMIZER = optax.sgd(0.1)
CLEAN = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
BAD = np.full((4, 3), np.nan, np.float32)


def loss_fn(params, batch, key):
    return jnp.mean((batch @ params) ** 2), {}


STEP = train.make_step(loss_fn, OPTIMIZER)


def start():
    return train.init(jnp.ones(3), OPTIMIZER, jax.random.key(0))


class Loader:
    """Two batches to an epoch, and then what is said."""

    def __init__(self, *batches, then):
        self.batches, self.then = batches, then

    def __len__(self):
        return 3

    def epoch(self, number, start=0):
        yield from self.batches[start:]
        raise self.then


@pytest.mark.parametrize("wrong", [np.ones((4, 5), np.float32), np.array(["a"])])
def test_a_step_that_was_not_finite_is_told_before_what_goes_wrong_after_it(wrong):
    with pytest.raises(train.NonFiniteError, match="not finite at step 1 ") as raised:
        train.fit(STEP, start(), [CLEAN, BAD, wrong], epochs=1)
    assert isinstance(raised.value.__context__, TypeError)
    with pytest.raises(train.NonFiniteError, match="not finite at step 1 "):
        train.fit(STEP, start(), Loader(CLEAN, BAD, then=OSError("the disk")), epochs=1)
    with pytest.raises(OSError, match="the disk"):
        train.fit(STEP, start(), Loader(CLEAN, CLEAN, then=OSError("the disk")), epochs=1)


def test_a_run_that_has_stopped_is_not_gone_on_with_unasked():
    with pytest.raises(train.NonFiniteError) as raised:
        train.fit(STEP, start(), [CLEAN, BAD, CLEAN], epochs=1)
    state = raised.value.state
    with pytest.raises(ValueError, match="`state` was stopped by a step that was not finite; to continue with it"):
        train.fit(STEP, state, [CLEAN], epochs=1)
    result = train.fit(STEP, state._replace(alive=jnp.ones_like(state.alive)), [CLEAN], epochs=1)
    want = train.fit(STEP, start(), [CLEAN, CLEAN], epochs=1)
    np.testing.assert_array_equal(result.params, want.params)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_an_ensemble_stops_as_one(every):
    step = train.make_step(
        lambda params, batch, key: (jnp.mean((batch @ params) ** 2) / (params[0] > 0), {}), OPTIMIZER, ensemble=True
    )
    members = jax.jit(jax.vmap(lambda w: train.init(w, OPTIMIZER, jax.random.key(0))))
    whole = members(jnp.array([[1.0, 1, 1], [2, 2, 2]]))
    with pytest.raises(train.NonFiniteError) as raised:
        train.fit(step, whole, [CLEAN, BAD, CLEAN], epochs=1, every=every)
    want, _ = step(members(jnp.array([[1.0, 1, 1], [2, 2, 2]])), CLEAN)
    np.testing.assert_array_equal(raised.value.state.params, want.params)
    with pytest.raises(train.NonFiniteError) as raised:
        train.fit(step, members(jnp.array([[1.0, 1, 1], [-1, 1, 1]])), [CLEAN] * 3, epochs=1, every=every)
    np.testing.assert_array_equal(raised.value.state.params, [[1, 1, 1], [-1, 1, 1]])
    assert raised.value.state.step.tolist() == [1, 1]


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_nan_in_a_carry_is_not_finite(nonfinite):
    carry = {"seen": jnp.zeros(()), "most": jnp.array(-jnp.inf)}
    step = train.make_step(
        lambda params, batch, key, carry: (
            jnp.mean((jnp.nan_to_num(batch) @ params) ** 2),
            {},
            carry | {"seen": carry["seen"] + batch[0, 0]},
        ),
        OPTIMIZER,
        nonfinite=nonfinite,
    )
    state = train.init(jnp.ones(3), OPTIMIZER, jax.random.key(0), carry=carry)
    if nonfinite == "stop":
        with pytest.raises(train.NonFiniteError, match=r"step 1 .*, in the carry"):
            train.fit(step, state, [CLEAN + 1, BAD, CLEAN], epochs=1)
    else:
        with pytest.warns(RuntimeWarning, match=r"step 1 .*, in the carry"):
            result = train.fit(step, state, [CLEAN + 1, BAD, CLEAN + 1], epochs=1)
        assert result.state.carry["seen"] == 2
        assert result.history[-1]["skipped"] == 1


def test_a_loader_of_more_batches_than_it_says_is_told():
    class Endless:
        def __len__(self):
            return 2

        def epoch(self, number, start=0):
            while True:
                yield CLEAN

    with pytest.raises(ValueError, match="has a len of 2 batches per epoch; epoch 0 gave more"):
        train.fit(STEP, start(), Endless(), epochs=1)


def failing(where):
    """A step whose optimizer, or new params, are spoilt at step 1 by gradients that are finite, and its first state."""

    def update(gradients, state, params=None):
        number, moment = state
        worse = jnp.where(number == 1, {"nan": jnp.nan, "inf": jnp.inf}.get(where, 0.0), 0.0)
        change = jnp.where((number == 1) & (where == "params"), jnp.inf, -0.1)
        return jax.tree.map(lambda g: change * g, gradients), (number + 1, moment + worse)

    optimizer = optax.GradientTransformation(
        lambda params: (jnp.zeros((), int), jnp.array([0.0, jnp.inf])), untyped(update)
    )
    params = {"a": jnp.ones(3), "b": jnp.ones(3)}
    step = train.make_step(lambda params, batch, key: loss_fn(params["a"], batch, key), optimizer)
    return step, train.init(params, optimizer, jax.random.key(0))


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("nan", "in the optimizer's state$"),
        ("inf", "in the optimizer's state$"),
        ("params", r"in the new params\['a'\], the new params\['b'\]$"),
    ],
)
def test_what_is_not_finite_is_named(where, named):
    """An infinity that the optimizer starts from is its own."""
    step, state = failing(where)
    with pytest.raises(
        train.NonFiniteError, match=r"not finite at step 1 \(epoch 0, batch 1\): loss 1\.\d+, .*" + named
    ):
        train.fit(step, state, [CLEAN, CLEAN, CLEAN], epochs=1)


@pytest.mark.parametrize(("label", "asks"), [(2, True), (-1, False)])
def test_a_label_that_no_class_has_is_asked_for(label, asks):
    """JAX's gradient of what it fills in for such a label is zero; NaN elsewhere makes that of params NaN too."""

    def loss_fn(params, batch, key):
        scores = jax.nn.log_softmax(batch["x"] @ params)
        picked = jnp.take_along_axis(scores, batch["y"][:, None], 1, mode="fill", fill_value=jnp.nan)
        return -jnp.mean(picked + (0 if asks else jnp.sqrt(params[0, 0] - 1))), {}

    optimizer = optax.sgd(0.1)
    state = train.init(jnp.ones([3, 2]) / 2, optimizer, jax.random.key(0))
    batch = {"x": np.ones((2, 3), np.float32), "y": np.array([0, label])}
    with pytest.raises(train.NonFiniteError) as raised:
        train.fit(train.make_step(loss_fn, optimizer), state, [batch], epochs=1)
    assert ("does it have a label outside of the logits' classes?" in str(raised.value)) == asks


def test_nan_in_aux_is_told_once_and_stops_nothing():
    def measured(params, batch, key):
        mean = jnp.mean(batch)
        none = metrics.mean(jnp.ones(2), mask=jnp.zeros(2, bool))  # of nothing, which is no fault
        return jnp.mean((jnp.nan_to_num(batch) @ params) ** 2), {"x": {"mean": mean}, "one": 1.0, "none": none}

    step = train.make_step(measured, OPTIMIZER)
    with pytest.warns(RuntimeWarning) as warned:
        result = train.fit(step, start(), [CLEAN, BAD, BAD], epochs=1)
    (warning,) = warned
    assert str(warning.message) == "NaN at step 1 (epoch 0, batch 1) in aux['x']['mean']. The update was made."
    assert int(result.state.step) == 3
    assert np.isnan(result.history[0]["x/mean"])
    assert result.history[0]["one"] == 1
