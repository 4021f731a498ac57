"""Equal layers over devices, chunk after chunk: the numbers are those of the layers one after the other."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxseq
from jaxseq import kernels
from jaxseq.wrappers._pipeline import best_chunk
from tests import zoo
from tests.compiled import text
from tests.untyped import untyped

T, B, D = 12, 2, 4


def stages(devices, axis_type=AxisType.Auto, beside=1):
    mesh = jax.make_mesh((devices, beside), ("stage", "data"), axis_types=(axis_type,) * 2)
    return NamedSharding(mesh, PartitionSpec("stage"))


def drawn(shapes, seed=0):
    return zoo.random_like(jax.eval_shape(shapes), seed)


def value_and_gradients(net, flags, reverse, kernel, of_last=True):
    """Of `stack` too: of layer after layer, with params as the pipeline's."""

    def loss(params, carry, xs, mask, reset):
        if net not in PIPELINES:
            params = tuple(jax.tree.map(lambda leaf, at=at: leaf[at], params) for at in range(len(carry)))
        options = {"mask": mask, "reset": reset} if flags else {}
        last, ys = jaxseq.unroll(net, params, xs, carry, reverse=reverse, kernel=kernel, **options)
        of_carry = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(last)) if of_last else 0
        return jnp.sum(jnp.sin(ys)) + of_carry, (last, ys)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


PIPELINES = set()


def both(layer, layers, sharding, chunk):
    net = jaxseq.pipeline(layer, layers, sharding, chunk=chunk)
    PIPELINES.add(net)
    return net, jaxseq.stack(*[layer] * layers)


def problem(net):
    random = np.random.default_rng(0)
    params = drawn(lambda: net.init(jax.random.key(0), D))
    carry = drawn(lambda: net.carry(params, (B,)), 1)
    return params, carry, random.normal(size=(T, B, D)), random.random((T, B)) < 0.7, random.random((T, B)) < 0.2


@pytest.mark.some(1, learn=6)
@pytest.mark.parametrize(
    ("layer", "layers", "devices", "chunk", "flags", "reverse", "kernel"),
    [
        (jaxseq.lstm(4), 2, 2, 3, True, True, kernels.bptt),
        *(
            pytest.param(*case, marks=pytest.mark.learn)
            for case in (
                (jaxseq.lstm(4), 4, 4, 1, False, False, None),
                (jaxseq.lstm(4), 4, 2, 3, False, False, kernels.bptt),  # two layers a device
                (jaxseq.gru(4), 2, 2, 5, False, False, kernels.bptt),  # the last chunk is filled up
                (jaxseq.gru(4), 2, 2, 5, True, False, kernels.remat(2)),
                (jaxseq.gru(4), 8, 8, 12, True, False, kernels.scan),  # one chunk
                (jaxseq.gru(4), 2, 1, None, True, True, None),  # one device
                (jaxseq.gated_delta_net(4, heads=2, key_size=2), 2, 2, 4, True, False, kernels.chunkwise(2)),
                (jaxseq.residual(jaxseq.stack(jaxseq.gru(3), jaxseq.lstm(4))), 2, 2, 4, True, True, kernels.bptt),
                (jaxseq.zoneout(jaxseq.learned_carry(jaxseq.lstm(4)), h=0.1), 2, 2, 4, True, False, kernels.bptt),
            )
        ),
    ],
)
def test_numbers_are_those_of_a_stack(layer, layers, devices, chunk, flags, reverse, kernel, x64):
    net, stack = both(layer, layers, stages(devices), chunk)
    arguments = problem(net)
    got = value_and_gradients(net, flags, reverse, kernel)(*arguments)
    zoo.assert_close(got, value_and_gradients(stack, flags, reverse, kernel)(*arguments), 1e-10)


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_numbers_on_a_mesh_of_two_axes(axis_type, x64):
    sharding = stages(2, axis_type, beside=2)
    net, stack = both(jaxseq.lstm(4), 2, sharding, 3)
    params, carry, *of_time = problem(net)
    batch = [NamedSharding(sharding.mesh, PartitionSpec(*axes)) for axes in (("data",), (None, "data"))]
    there = jax.device_put(params, sharding), jax.device_put(carry, batch[0]), *jax.device_put(of_time, batch[1])
    want = value_and_gradients(stack, True, False, None)(params, carry, *of_time)
    zoo.assert_close(value_and_gradients(net, True, False, None)(*there), want, 1e-10)


def test_a_tick_hands_on_one_chunk():
    """A step of training has one exchange in the loop forward, one in the loop back, and the sums of ys and of d_xs."""
    sharding = stages(2)
    net, _ = both(jaxseq.rnn(4), 2, sharding, 3)
    params = jax.device_put(drawn(lambda: net.init(jax.random.key(0), D)), sharding)
    xs = jax.device_put(np.zeros((T, B, D), np.float32), NamedSharding(sharding.mesh, PartitionSpec()))
    loss = lambda params, xs: jnp.sum(jnp.sin(jaxseq.unroll(net, params, xs, kernel=kernels.bptt)[1]))
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, xs).compile()
    exchanges = r"(all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
    assert dict(collections.Counter(re.findall(exchanges, text(compiled)))) == {
        "collective-permute": 2,
        "all-reduce": 2,
    }
    d_params, _ = compiled(params, xs)
    assert {leaf.sharding.spec[0] for leaf in jax.tree.leaves(d_params)} == {"stage"}


@pytest.mark.learn
def test_noise_is_drawn_for_each_layer_and_chunk(x64):
    net, _ = both(jaxseq.dropout(jaxseq.gru(4), inputs=0.5), 2, stages(2), 4)
    params, carry, xs, *_ = problem(net)
    key, layer = jax.random.key(3), jaxseq.dropout(jaxseq.gru(4), inputs=0.5)
    _, got = jaxseq.unroll(net, params, xs, carry, key=key)
    for place, of_layer in enumerate(jax.random.split(key, 2)):
        own, before, chunks = jax.tree.map(lambda leaf, at=place: leaf[at], params), carry[place], []
        for chunk in range(3):
            part, noise = xs[4 * chunk : 4 * chunk + 4], jax.random.fold_in(of_layer, chunk)
            before, ys = jaxseq.unroll(layer, own, part, before, key=noise)
            chunks.append(ys)
        xs = jnp.concatenate(chunks)
    zoo.assert_close(got, xs, 1e-12)


def test_of_no_rows_and_of_no_steps():
    net, _ = both(jaxseq.gru(4), 2, stages(2), 5)
    params = drawn(lambda: net.init(jax.random.key(0), D))
    for shape in ((T, 0, D), (0, B, D)):
        last, ys = jaxseq.unroll(net, params, jnp.zeros(shape))
        assert ys.shape == shape
        assert all(carry.shape == (shape[1], 4) for carry in last)
        assert "a pipeline over 2 devices" in kernels.explain(net, params, jnp.zeros(shape))


@pytest.mark.learn
def test_it_steps(x64):
    net, stack = both(jaxseq.gru(4), 2, stages(2), 4)
    params, carry, xs, *_ = problem(net)
    apart = tuple(jax.tree.map(lambda leaf, at=at: leaf[at], params) for at in range(2))
    zoo.assert_close(jaxseq.step(net, params, carry, xs[0]), jaxseq.step(stack, apart, carry, xs[0]), 1e-12)


def test_explained():
    net, _ = both(jaxseq.gru(4), 4, stages(2), 2)
    params, xs = jax.eval_shape(lambda: net.init(jax.random.key(0), D)), jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    lines = kernels.explain(net, params, xs, kernel=kernels.bptt).split("\n")
    assert lines[3] == (
        "[3] gru(4): a pipeline over 2 devices, each by kernels.bptt, by its hand-written backward; 6 segments of 2 "
        "steps: a bubble of 1 in 7 ticks, 14%; chunks of 3 steps may be best"
    )


@pytest.mark.parametrize(("steps", "devices"), [(64, 2), (512, 4), (1000, 8), (60, 3)])
def test_the_best_chunk_takes_the_least_time(steps, devices):
    """Of the chunks near it that divide T, where to start a chunk costs as much as a step."""
    time = lambda chunk: (steps // chunk + devices - 1) * (chunk + 1)
    best = best_chunk(steps, devices)
    assert steps % best == 0
    assert time(best) == min(time(chunk) for chunk in range(1, steps + 1) if steps % chunk == 0)


def test_what_does_not_fit_is_refused():
    sharding = stages(2)
    with pytest.raises(ValueError, match=r"`layers` must be a multiple of the 2 devices that `sharding` names; got 3"):
        jaxseq.pipeline(jaxseq.gru(4), 3, sharding)
    with pytest.raises(ValueError, match=r"this Composite is not causal"):
        jaxseq.pipeline(jaxseq.bidirectional(jaxseq.gru(4)), 2, sharding)
    with pytest.raises(ValueError, match=r"`pipeline` needs inputs with the 4 features .* got 3"):
        jaxseq.pipeline(jaxseq.gru(4), 2, sharding).init(jax.random.key(0), 3)
    with pytest.raises(TypeError, match=r"`layer` must be a jaxseq.Cell or a jaxseq.Composite"):
        jaxseq.pipeline(untyped(jaxseq.gru), 2, sharding)
    with pytest.raises(ValueError, match=r"`sharding` must split the first axis over one axis"):
        jaxseq.pipeline(jaxseq.gru(4), 2, NamedSharding(sharding.mesh, PartitionSpec(("stage", "data"))))
