"""What is not finite is told of the right step, whatever happens after it, and nothing goes on from it unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseq import train

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
    with pytest.raises(ValueError, match="`state` has stopped at a step that was not finite; to go on with it"):
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

    with pytest.raises(ValueError, match="has 2 batches an epoch by its len; epoch 0 gave more"):
        train.fit(STEP, start(), Endless(), epochs=1)
