"""Linear cells over time that is split over devices: the numbers are those of a plain loop on one, of one exchange."""

import collections
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxseq
from jaxseq import kernels, nn
from tests import zoo
from tests.untyped import untyped

T, B, D = 16, 4, 3
LINEAR = [name for name in zoo.CELLS if zoo.runs("associative", name)]
ALL = list(itertools.product(LINEAR, (True, False), (True, False)))
EXCHANGES = r"(all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("


def split(axis_type=AxisType.Auto, shape=(4,)):
    axes = ("time", "data")[: len(shape)]
    mesh = jax.make_mesh(shape, axes, axis_types=(axis_type,) * len(axes))
    return NamedSharding(mesh, PartitionSpec(*axes)), NamedSharding(mesh, PartitionSpec())


def exchanges(compiled):
    """The collectives of a compiled program, and how many of each."""
    return dict(collections.Counter(re.findall(EXCHANGES, compiled.as_text())))


def problem(cell):
    """Params, a first carry, inputs and flags; a row is all padding on a device, and sequences start at borders."""
    random = np.random.default_rng(0)
    params = zoo.params_of(cell, D)
    carry = zoo.random_like(jax.eval_shape(lambda: cell.carry(params, (B,))), 1)
    mask, reset = random.random((T, B)) < 0.7, random.random((T, B)) < 0.15
    mask[4:8, 0], reset[[4, 8], 1] = False, True
    return params, carry, random.normal(size=(T, B, D)), mask, reset


def value_and_gradients(cell, kernel, flags, reverse):
    def loss(params, carry, xs, mask, reset):
        options = {"mask": mask, "reset": reset} if flags else {}
        last, ys = jaxseq.unroll(cell, params, xs, carry, reverse=reverse, kernel=kernel, **options)
        weights = jnp.cos(jnp.arange(ys.size).reshape(ys.shape))
        return jnp.sum(ys * weights) + sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(last)), (last, ys)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


def placed(arguments, over_time, whole):
    params, carry, *of_time = arguments
    return *jax.device_put((params, carry), whole), *jax.device_put(of_time, over_time)


@pytest.mark.some(1, learn=8)
@pytest.mark.parametrize(("name", "flags", "reverse"), ALL)
def test_numbers_are_those_of_one_device_and_there_is_one_exchange(name, flags, reverse, x64):
    cell, (over_time, whole) = zoo.find(name).cell, split()
    arguments = problem(cell)
    kernel = kernels.sequence_parallel(over_time)
    run = value_and_gradients(cell, kernel, flags, reverse).lower(*placed(arguments, over_time, whole)).compile()
    got, want = (
        run(*placed(arguments, over_time, whole)),
        value_and_gradients(cell, kernels.scan, flags, reverse)(*arguments),
    )
    zoo.assert_close(got, want, 1e-10)
    assert got[0][1][1].sharding.spec[0] == "time"
    # one back, beside one for the sum of the loss and of the gradients of params; resets shift by a step backwards
    shift = {"collective-permute": 1} if flags and reverse else {}
    assert exchanges(run) == {"all-gather": 1, "all-reduce": 2, **shift}


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", ["rg_lru", "lru", "delta_net_negative"])
def test_numbers_beside_a_split_batch(name, axis_type, x64):
    cell, (over_time, whole) = zoo.find(name).cell, split(axis_type, (4, 2))
    arguments = problem(cell)
    run = value_and_gradients(cell, kernels.sequence_parallel(over_time), True, True)
    want = value_and_gradients(cell, kernels.scan, True, True)(*arguments)
    zoo.assert_close(run(*placed(arguments, over_time, whole)), want, 1e-10)


@pytest.mark.learn
@pytest.mark.parametrize("kernel", [kernels.bptt, kernels.associative, kernels.chunkwise(3), kernels.native])
def test_every_kernel_of_a_stretch(kernel, x64):
    cell, (over_time, whole) = jaxseq.gla(4, heads=2, key_size=2), split()
    arguments = problem(cell)
    run = value_and_gradients(cell, kernels.sequence_parallel(over_time, kernel=kernel), True, False)
    want = value_and_gradients(cell, kernels.scan, True, False)(*arguments)
    zoo.assert_close(run(*placed(arguments, over_time, whole)), want, 1e-10)


@pytest.mark.learn
@pytest.mark.parametrize("kernel", [kernels.bptt, kernels.native])
def test_gradients_of_rows_and_of_gradients(kernel):
    """What JAX maps and differentiates inside of `jax.shard_map` varies over its axes, also what starts as zeros."""
    cell, (over_time, _) = jaxseq.min_gru(4), split()
    params, _, xs, *_ = problem(cell)
    xs = xs.astype(np.float32)

    def of(kernel):
        loss = lambda params, xs: jnp.sum(jaxseq.unroll(cell, params, xs, kernel=kernel)[1] ** 2)
        rows = jax.vmap(jax.grad(loss), (None, 0))(params, np.stack([xs, 2 * xs]))
        along = lambda params: sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(jax.grad(loss)(params, xs)))
        return rows, jax.grad(along)(params)

    got, want = (
        jax.jit(of, static_argnums=0)(kernel)
        for kernel in (kernels.sequence_parallel(over_time, kernel=kernel), kernels.scan)
    )
    zoo.assert_close(got, want, 1e-4)


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("masked", [True, False])
def test_a_block(masked, axis_type, x64):
    """Convolution, cell, gate and norm; what is pointwise in time the compiler splits."""
    over_time, whole = split(axis_type)
    batch_major = NamedSharding(over_time.mesh, PartitionSpec(None, "time"))
    random = np.random.default_rng(0)
    xs, mask = random.normal(size=(B, T, 8)), random.random((B, T)) < 0.7 if masked else None

    def of(kernel):
        graph, params = nnx.split(nn.Mamba2Block(8, heads=2, state=4, kernel=kernel, rngs=nnx.Rngs(0)))
        loss = lambda params, xs, mask: jnp.sum(jnp.sin(nnx.merge(graph, params)(xs, mask=mask)))
        return jax.jit(jax.value_and_grad(loss, (0, 1))), params

    plain, params = of(kernels.scan)
    run, _ = of(kernels.sequence_parallel(over_time))
    there = jax.device_put(params, whole), *jax.device_put((xs, mask), batch_major)
    zoo.assert_close(run(*there), plain(params, xs, mask), 1e-10)


def test_what_travels_is_float32_at_least():
    cell, (over_time, _) = jaxseq.min_gru(4), split()
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), D, jnp.bfloat16))
    run = lambda params, xs: jaxseq.unroll(cell, params, xs, kernel=kernels.sequence_parallel(over_time))[1]
    program = jax.jit(run).lower(params, jax.ShapeDtypeStruct((T, B, D), jnp.bfloat16)).as_text()
    (gathered,) = re.findall(r"all_gather.*?\}.*?: \((.*?)\)", program, re.DOTALL)
    assert gathered == f"tensor<1x{B}x8xf32>"  # of a row 4 factors and 4 sums


def test_what_does_not_fit_is_refused():
    (over_time, whole), xs = split(), np.zeros((T, B, D), np.float32)
    kernel = kernels.sequence_parallel(over_time)
    gru, min_gru = jaxseq.gru(4), jaxseq.min_gru(4)
    params, of_gru = (zoo.params_of(cell, D) for cell in (min_gru, gru))
    with pytest.raises(ValueError, match=r"`kernels.sequence_parallel\(.*time.*runs cells whose step is linear"):
        jaxseq.unroll(gru, of_gru, xs, kernel=kernel)
    with pytest.raises(ValueError, match=r"a multiple of the 4 devices of `kernels.sequence_parallel.*`; got 15. Pad"):
        jaxseq.unroll(min_gru, params, xs[:15], kernel=kernel)
    inside = jax.shard_map(
        lambda xs: jaxseq.unroll(min_gru, params, xs, kernel=kernel)[1],
        mesh=over_time.mesh,
        in_specs=over_time.spec,
        out_specs=over_time.spec,
    )
    with pytest.raises(ValueError, match=r"runs `jax.shard_map` over 'time' itself"):
        inside(xs)
    no_devices = kernels.sequence_parallel(NamedSharding(over_time.mesh.abstract_mesh, over_time.spec))
    with pytest.raises(ValueError, match=r"`sharding` must be of a mesh of devices, .*'time' is set; got AbstractMesh"):
        jaxseq.unroll(min_gru, params, xs, kernel=no_devices)
    with pytest.raises(ValueError, match=r"`sharding` must split the first axis over one axis of its mesh"):
        kernels.sequence_parallel(whole)
    with pytest.raises(TypeError, match=r"`sharding` must be a jax.sharding.NamedSharding; got 'time'"):
        kernels.sequence_parallel(untyped("time"))


def test_explained():
    over_time, _ = split()
    cell = jaxseq.min_gru(4)
    params, xs = jax.eval_shape(lambda: cell.init(jax.random.key(0), D)), jax.ShapeDtypeStruct((T, B, D), jnp.float32)
    kernel = kernels.sequence_parallel(over_time, kernel=kernels.bptt)
    assert kernels.explain(cell, params, xs, kernel=kernel) == (
        "min_gru(4): kernels.sequence_parallel(P('time',)), each device by kernels.bptt, by the gradient of its "
        "algebra; 4 segments of 4 steps: a segment for each of 4 devices"
    )
