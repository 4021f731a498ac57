"""Training on 1, 2 and 8 devices: the same numbers, one program, one sum over the devices a step."""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from numpy.typing import DTypeLike

import jaxseq
from jaxseq import data, train
from jaxseq.train import losses, metrics
from tests import zoo
from tests.untyped import untyped

N, T, B, D, H = 40, 5, 16, 3, 16
CELL = jaxseq.gru(H)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03))
AXES = [AxisType.Auto, AxisType.Explicit]


def arrays(dtype):
    xs = np.random.default_rng(0).normal(size=(N, T, D)).astype(dtype)
    return {"xs": xs, "y": xs.sum((1, 2)) > 0}


def loss_fn(params, batch, key):
    cell, w = params
    _, ys = jaxseq.unroll(CELL, cell, jnp.moveaxis(batch["xs"], 1, 0))
    logits, real = ys[-1] @ w, batch["real"]
    values = losses.cross_entropy(logits, batch["y"].astype(int), mask=real)
    right = metrics.confusion(logits.argmax(-1), batch["y"].astype(int), 2, mask=real)
    return metrics.mean(values, mask=real), {"confusion": right, "size": jnp.mean(logits**2)}


STEP = train.make_step(loss_fn, OPTIMIZER)


def sharding_of(devices, axis_type):
    return NamedSharding(jax.make_mesh((devices,), ("b",), axis_types=(axis_type,)), P("b"))


def start(dtype: DTypeLike = np.float32):
    shapes = jax.eval_shape(lambda: (CELL.init(jax.random.key(0), D), jnp.zeros((H, 2))))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), zoo.random_like(shapes, 0))
    return train.init(params, OPTIMIZER, jax.random.key(0))


def fit(sharding, dtype: DTypeLike = np.float32, state=None, **options):
    loader = data.batches(arrays(dtype), B, seed=0, last="pad")
    validate = train.evaluator(loss_fn, loader, sharding=sharding)
    state = start(dtype) if state is None else state
    return train.fit(STEP, state, loader, epochs=2, validate=validate, sharding=sharding, **options)


def rows(result):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]


def assert_same_numbers(got, want, tolerance):
    zoo.assert_close((got.params, got.state.opt_state), (want.params, want.state.opt_state), tolerance)
    for one, other in zip(rows(got), rows(want), strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance)


@pytest.mark.some(1)
@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("axis_type", AXES)
def test_the_numbers_are_those_of_one_device(axis_type, split, devices, x64):
    sharding = sharding_of(devices, axis_type)
    state = train.shard_state(start(np.float64), sharding, smallest=H) if split else None
    assert_same_numbers(fit(sharding, np.float64, state), on_one_device(), 1e-12)


@functools.cache
def on_one_device():
    return fit(None, np.float64)


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", AXES)
def test_the_numbers_of_float32_are_those_of_one_device_but_for_the_order_of_sums(axis_type):
    want = fit(None)
    for devices in (2, 8):
        assert_same_numbers(fit(sharding_of(devices, axis_type)), want, 2e-5)


def collectives(step, state, sharding):
    """How often each is in the program of a step, and how often in its loops."""
    batch = next(data.batches(arrays(np.float32), B, last="pad").epoch(0))
    text = step.lower(state, jax.device_put(batch, sharding)).compile().as_text()
    pattern = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
    before, _, entry = text.partition("\nENTRY ")
    return Counter(re.findall(pattern, entry)), Counter(re.findall(pattern, before))


@pytest.mark.some(1)
@pytest.mark.parametrize("axis_type", AXES)
def test_a_step_sums_over_the_devices_once(axis_type):
    """All floats, gradients, loss and metrics, together; and all integers, which count rows."""
    sharding = sharding_of(8, axis_type)
    state = jax.device_put(start(), NamedSharding(sharding.mesh, P()))
    assert collectives(STEP, state, sharding) == ({"all-reduce": 2}, {})

    def without_counts(params, batch, key):
        loss, aux = loss_fn(params, batch, key)
        return loss.total / B, {"size": aux["size"]}

    assert collectives(train.make_step(without_counts, OPTIMIZER), state, sharding) == ({"all-reduce": 1}, {})


@pytest.mark.parametrize("axis_type", AXES)
def test_split_params_are_gathered_once_before_all_loops(axis_type):
    sharding = sharding_of(8, axis_type)
    state = train.shard_state(start(), sharding, smallest=H)
    split = sum(not leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    entry, loops = collectives(STEP, state, sharding)
    assert loops == {}
    assert entry["all-gather"] == split == 5


def shardings(tree):
    return [(leaf.sharding.mesh, leaf.sharding.spec) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize("axis_type", AXES)
def test_a_split_state_stays_split_through_one_program_and_gives_its_buffers_away(axis_type, count_compilations):
    sharding = sharding_of(8, axis_type)
    state = train.shard_state(start(), sharding, smallest=H)
    where, bytes_before = shardings(state.params), train.bytes_per_device(state)
    assert state.params[0].w_x.sharding.spec == P(None, "b")  # [3, 48]
    assert state.params[0].w_h.addressable_data(0).shape == (H, 3 * H // 8)
    assert state.opt_state[1][0].mu[0].w_h.addressable_data(0).shape == (H, 3 * H // 8)
    numbers = [leaf.size for leaf in jax.tree.leaves(state.params)]
    assert bytes_before == 3 * 4 * sum(numbers) // 8 + 2 * 4 + 1 + 8  # thrice the params; two counts; alive; the key
    step = jax.jit(untyped(STEP).__wrapped__, donate_argnums=0)
    batch = jax.device_put(next(data.batches(arrays(np.float32), B, last="pad").epoch(0)), sharding)
    first, _ = step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert shardings(first.params) == where
    assert count_compilations(lambda: step(first, batch)[0].step) == 0


def test_params_that_were_split_by_hand_stay_where_they_are():
    """Also on a mesh of other axes over the same devices."""
    sharding = sharding_of(8, AxisType.Auto)
    by_hand = NamedSharding(jax.make_mesh((2, 4), ("a", "m"), axis_types=(AxisType.Auto,) * 2), P(None, "m"))
    params = {"w": jax.device_put(jnp.ones((4, 8)), by_hand), "b": np.zeros(8, np.float32)}
    step = train.make_step(lambda params, x, key: (jnp.mean((x @ params["w"] + params["b"]) ** 2), {}), OPTIMIZER)
    state = train.init(params, OPTIMIZER, jax.random.key(0))
    state = train.fit(step, state, [np.ones((8, 4), np.float32)] * 3, epochs=1, sharding=sharding).state
    assert state.params["w"].sharding == state.opt_state[1][0].mu["w"].sharding == by_hand
    assert state.params["b"].is_fully_replicated


@pytest.mark.parametrize("axis_type", AXES)
def test_a_carry_stays_split_and_a_second_fit_compiles_nothing(axis_type, count_compilations):
    """The carry is on the devices of its rows, and one program steps from the first to the last."""

    def with_carry(params, batch, key, carry):
        carry = 0.9 * carry + batch["xs"].mean(1) @ params
        return metrics.mean(jnp.sum((carry - 1) ** 2, -1)), {}, carry

    step, sharding = train.make_step(with_carry, OPTIMIZER), sharding_of(8, axis_type)
    loader = data.batches({"xs": arrays(np.float32)["xs"]}, B, seed=0)
    make = lambda: train.init(jnp.ones((D, 2)), OPTIMIZER, jax.random.key(0), carry=jnp.zeros((B, 2)))
    run = lambda sharding: train.fit(step, make(), loader, epochs=3, sharding=sharding).state
    got, want = run(sharding), run(None)
    zoo.assert_close((got.params, got.carry), (want.params, want.carry), 1e-5)
    assert got.carry.addressable_data(0).shape == (B // 8, 2)
    assert count_compilations(lambda: run(sharding).step) == 0


def test_small_arrays_stay_whole_and_the_largest_axis_is_split():
    sharding = sharding_of(8, AxisType.Auto)
    params = {
        "small": np.zeros((8, 8)),
        "odd": np.zeros((65, 63)),
        "large": np.zeros((24, 16, 32)),
        "tall": np.zeros((64, 63)),
    }
    state = train.shard_state(train.init(params, optax.sgd(0.1), jax.random.key(0)), sharding, smallest=100)
    specs = {name: leaf.sharding.spec for name, leaf in state.params.items()}
    assert specs == {"small": P(), "odd": P(), "large": P(None, None, "b"), "tall": P("b")}
    names = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    state = train.shard_state(state, NamedSharding(names, P(None, ("a", "b"))), smallest=100)
    assert state.params["large"].addressable_data(0).shape == (24, 16, 4)


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", AXES)
def test_members_of_an_ensemble_are_split_within(axis_type, count_compilations):
    sharding, keys = sharding_of(8, axis_type), jax.random.split(jax.random.key(0), 8)
    make = lambda key: train.init((CELL.init(key, D), jax.random.normal(key, (H, 2))), OPTIMIZER, key)
    step, batch = (
        train.make_step(loss_fn, OPTIMIZER, ensemble=True),
        next(data.batches(arrays(np.float32), B, last="pad").epoch(0)),
    )
    want, _ = step(jax.jit(jax.vmap(make))(keys), batch)
    state = train.shard_state(jax.jit(jax.vmap(make))(keys), sharding, smallest=H)
    assert state.params[0].w_h.addressable_data(0).shape == (8, H, 3 * H // 8)
    where = shardings(state.params)
    there = jax.device_put(batch, sharding)
    got, _ = step(state, there)
    zoo.assert_close(got.params, want.params, 1e-5)
    assert [spec for _, spec in shardings(got.params)] == [spec for _, spec in where]
    assert count_compilations(lambda: step(got, there)[0].step) == 0


def interrupt(so_far):
    """Before the checkpoint of the second row."""
    if len(so_far.history) == 2:
        raise InterruptedError


@pytest.mark.learn
@pytest.mark.parametrize(("first", "second"), [(8, 2), (2, None), (None, 8)])
def test_a_run_goes_on_on_another_number_of_devices(tmp_path, first, second, x64):
    """Without a warning of another program, start or batch."""

    def on(devices, *callbacks):
        sharding = None if devices is None else sharding_of(devices, AxisType.Auto)
        state = None if sharding is None else train.shard_state(start(np.float64), sharding, smallest=H)
        options = {"every": 2, "callbacks": callbacks, "checkpoints": train.Checkpoints(tmp_path)}
        return fit(sharding, np.float64, state, **options)

    with pytest.raises(InterruptedError):
        on(first, interrupt)
    assert_same_numbers(on(second), fit(None, np.float64, every=2), 1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: train.shard_state(untyped(None), s),
            TypeError,
            "`state` must be a state from train.init; got NoneType",
        ),
        (
            lambda s: train.shard_state(start(), untyped(None)),
            TypeError,
            "`sharding` must be the NamedSharding of the batches",
        ),
        (
            lambda s: train.shard_state(start(), NamedSharding(s.mesh, P())),
            ValueError,
            "must split batches over an axis",
        ),
        (lambda s: train.shard_state(start(), s, smallest=-1), ValueError, "`smallest` must be an int, 0 or more"),
        (
            lambda s: train.evaluator(loss_fn, [1], sharding=untyped("b")),
            TypeError,
            "`sharding` must be a jax.sharding.Sharding",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(sharding_of(2, AxisType.Auto))
