"""Several devices: under `jax.shard_map` and on explicit axes, the values and gradients are those of one device."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxseq
from jaxseq import kernels, train
from tests import zoo

T, B, D = 5, 4, 3
FULL = os.environ.get("JAXSEQ_LAWS") == "full"
SOME = [
    ("lstm", "bptt", False),
    ("lstm", "native", False),
    ("gru", "native", True),
    ("own", "scan", True),
    ("zoneout(gru)", "remat", True),
    ("learned_carry(rnn)", "bptt", True),
]
ALL = [
    (name, kernel, True)
    for name in zoo.CELLS
    for kernel in ("scan", "bptt", "remat", "native")
    if zoo.runs(kernel, name)
]

MASK = np.arange(T)[:, None] < np.array([3, 5, 1, 4])
AXES = (P(), P(None, "b"), P(None, "b"))  # params are everywhere, sequences split by the batch


def mesh_of(axis_type):
    return jax.make_mesh((2,), ("b",), axis_types=(axis_type,))


def value_and_gradients(cell, kernel):
    def loss(params, xs, mask):
        _, ys = jaxseq.unroll(cell, params, xs, mask=mask, reset=None if mask is None else ~mask, kernel=kernel)
        return jnp.sum(ys**2)

    return jax.value_and_grad(loss, (0, 1))


def over_devices(run):
    def of_device(params, xs, mask):
        value, gradients = run(params, xs, mask)
        return jax.lax.psum(value, "b"), gradients

    return jax.shard_map(of_device, mesh=mesh_of(AxisType.Auto), in_specs=AXES, out_specs=(P(), AXES[:2]))


def problem(cell, masked):
    params = zoo.random_like(jax.eval_shape(lambda: cell.init(jax.random.key(0), D)), 0)
    return params, np.random.default_rng(1).normal(size=(T, B, D)), MASK if masked else None


@pytest.mark.parametrize(("name", "kernel", "masked"), ALL + SOME if FULL else SOME)
def test_values_and_gradients_are_those_of_one_device(name, kernel, masked, x64):
    cell = zoo.find(name).cell
    run = value_and_gradients(cell, zoo.KERNELS[kernel])
    arguments = problem(cell, masked)
    want = jax.jit(run)(*arguments)
    zoo.assert_close(jax.jit(over_devices(run))(*arguments), want, 1e-12)

    explicit = mesh_of(AxisType.Explicit)
    there = [
        jax.device_put(argument, NamedSharding(explicit, axes)) for argument, axes in zip(arguments, AXES, strict=True)
    ]
    got = jax.jit(run)(*there)
    zoo.assert_close(got, want, 1e-12)
    assert jax.typeof(got[1][1]).sharding.spec[1] == "b"


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_fit_with_batches_over_devices(axis_type):
    cell, optimizer = jaxseq.gru(2), optax.sgd(0.1)
    xs = np.random.default_rng(0).normal(size=(2, B, T, D)).astype(np.float32)
    batches = [{"x": x, "y": x.sum((1, 2))} for x in xs]

    def loss(params, batch, key):
        _, ys = jaxseq.unroll(cell, params, jnp.moveaxis(batch["x"], 1, 0))
        return train.metrics.mean((ys[-1].sum(-1) - batch["y"]) ** 2), {}

    def fitted(sharding):
        params = zoo.random_like(jax.eval_shape(lambda: cell.init(jax.random.key(0), D)), 0)
        state = train.init(params, optimizer, jax.random.key(0))
        return train.fit(train.make_step(loss, optimizer), state, batches, epochs=2, sharding=sharding).params

    zoo.assert_close(fitted(NamedSharding(mesh_of(axis_type), P("b"))), fitted(None), 1e-5)


def test_gradients_are_summed_over_devices_once():
    """The sums stand outside of all loops, one for an array of params."""
    cell = jaxseq.lstm(4)
    run = value_and_gradients(cell, kernels.remat(2))
    arguments = problem(cell, True)
    program = jax.jit(over_devices(run)).lower(*arguments).compile().as_text()
    before, _, entry = program.partition("\nENTRY ")
    assert "all-reduce(" in entry
    assert "all-reduce(" not in before
