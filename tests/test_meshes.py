"""Several devices: under `jax.shard_map` and on explicit axes, the values and gradients are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxseq
from jaxseq import _meshes, kernels, nn, train
from jaxseq.structured import crf, hmm
from tests import compiled, zoo
from tests.full import FULL

T, B, D = 5, 4, 3
SOME = [
    ("lstm", "bptt", False),
    ("lstm", "native", False),
    ("gru", "native", True),
    ("own", "scan", True),
    ("zoneout(gru)", "remat", True),
    ("learned_carry(rnn)", "bptt", True),
    ("rnn", "newton", True),
]
ALL = [
    (name, kernel, True)
    for name in zoo.CELLS
    for kernel in ("scan", "bptt", "remat", "native", "newton")
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
    params = zoo.params_of(cell, D)
    return params, np.random.default_rng(1).normal(size=(T, B, D)), MASK if masked else None


@pytest.mark.some(2)
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


@pytest.mark.learn
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_fit_with_batches_over_devices(axis_type):
    cell, optimizer = jaxseq.gru(2), optax.sgd(0.1)
    xs = np.random.default_rng(0).normal(size=(2, B, T, D)).astype(np.float32)
    batches = [{"x": x, "y": x.sum((1, 2))} for x in xs]

    def loss(params, batch, key):
        _, ys = jaxseq.unroll(cell, params, jnp.moveaxis(batch["x"], 1, 0))
        return train.metrics.mean((ys[-1].sum(-1) - batch["y"]) ** 2), {}

    def fitted(sharding):
        params = zoo.params_of(cell, D)
        state = train.init(params, optimizer, jax.random.key(0))
        return train.fit(train.make_step(loss, optimizer), state, batches, epochs=2, sharding=sharding).params

    zoo.assert_close(fitted(NamedSharding(mesh_of(axis_type), P("b"))), fitted(None), 1e-5)


@pytest.mark.learn
def test_fit_splits_a_carry_as_the_step_makes_it():
    """From the start, else JAX would warn that the first step cannot give the carry's buffers away."""
    cell, optimizer = jaxseq.gru(2), optax.sgd(0.1)
    batches = list(np.random.default_rng(0).normal(size=(3, T, B, D)).astype(np.float32))

    def loss(params, xs, key, carry):
        carry, ys = jaxseq.unroll(cell, params, xs, carry)
        return train.metrics.mean(ys**2), {}, carry

    def fitted(sharding, accumulate=1):
        params = zoo.params_of(cell, D)
        state = train.init(params, optimizer, jax.random.key(0), carry=np.zeros((B, 2), np.float32))
        step = train.make_step(loss, optimizer, accumulate=accumulate)
        some = batches if accumulate == 1 else [np.stack(batches)]
        return train.fit(step, state, some, epochs=2, sharding=sharding).state

    explicit = mesh_of(AxisType.Explicit)
    want, got = fitted(None), fitted(NamedSharding(explicit, P(None, "b")))
    zoo.assert_close((got.params, got.carry), (want.params, want.carry), 1e-5)
    assert got.carry.sharding.spec == P("b", None)
    want, got = fitted(None, 3), fitted(NamedSharding(explicit, P(None, None, "b")), 3)
    zoo.assert_close((got.params, got.carry), (want.params, want.carry), 1e-5)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_fit_names_the_leaf_that_a_sharding_does_not_fit(axis_type):
    cell, optimizer = jaxseq.gru(2), optax.sgd(0.1)
    step = train.make_step(lambda params, batch, key: (jnp.sum(batch["x"]), {}), optimizer)
    state = train.init(cell.init(jax.random.key(0), D), optimizer, jax.random.key(0))
    batch = {"x": np.ones((3, 4)), "real": np.ones(3)}
    mesh = mesh_of(axis_type)
    too_many = r"`batch\['real'\]` is \(3,\), and `sharding` splits it by .*None, 'b'.*which has 2 axes"
    with pytest.raises(ValueError, match=too_many):
        train.fit(step, state, [batch], epochs=1, sharding=NamedSharding(mesh, P(None, "b")))
    with pytest.raises(ValueError, match=r"`batch\['real'\]` is \(3,\).*axis 0 must be a multiple of the 2 devices"):
        train.fit(step, state, [batch], epochs=1, sharding=NamedSharding(mesh, P("b")))


IDS = np.random.default_rng(2).integers(0, 7, (B, T)).astype(np.int32)


def rngs():
    return nnx.Rngs(0)


MODELS = {
    "classifier": lambda: nn.SequenceClassifier(jaxseq.gru(4), 4, 2, vocabulary=7, pooling="mean_max", rngs=rngs()),
    "tagger": lambda: nn.SequenceTagger(jaxseq.gru(4), 4, 3, vocabulary=7, rngs=rngs()),
    "language_model": lambda: nn.LanguageModel(jaxseq.gru(4), 7, 4, tied=True, rngs=rngs()),
    "text_cnn": lambda: nn.TextCNN(4, 2, vocabulary=7, rngs=rngs()),
}


@pytest.mark.learn
@pytest.mark.parametrize("name", MODELS)
def test_models_with_a_vocabulary_on_explicit_axes(name):
    """Values and gradients; and predictions of split ids by params on one device, eager and jitted."""
    graph, params = nnx.split(MODELS[name](), nnx.Param)
    predict = lambda params, ids, mask: nnx.merge(graph, params)(ids, mask=mask)
    gradient = jax.jit(jax.grad(lambda *of: jnp.sum(jax.nn.log_softmax(predict(*of)) ** 2)))
    want = jax.jit(predict)(params, IDS, MASK.T), gradient(params, IDS, MASK.T)

    mesh = mesh_of(AxisType.Explicit)
    ids, mask = jax.device_put((IDS, MASK.T), NamedSharding(mesh, P("b")))
    zoo.assert_close(jax.jit(predict)(params, ids, mask), want[0], 1e-5)
    there = jax.device_put(params, NamedSharding(mesh, P()))
    got = predict(there, ids, mask), gradient(there, ids, mask)
    zoo.assert_close(got, want, 1e-5)
    assert jax.typeof(got[0]).sharding.spec[0] == "b"


def test_rows_of_a_table_on_explicit_axes_under_vmap():
    tables, mesh = np.random.default_rng(0).normal(size=(B, 7, D)), mesh_of(AxisType.Explicit)
    ids = jax.device_put(IDS, NamedSharding(mesh, P("b")))
    got = jax.vmap(lambda table: _meshes.rows(table, ids))(jax.device_put(tables, NamedSharding(mesh, P())))
    np.testing.assert_array_equal(got, tables.astype(np.float32)[:, IDS])
    got = jax.vmap(_meshes.rows)(jax.device_put(tables, NamedSharding(mesh, P("b"))), ids)
    np.testing.assert_array_equal(got, tables.astype(np.float32)[np.arange(B)[:, None], IDS])


CHAINS = {
    "crf.log_likelihood": lambda params, scores, mask: jax.value_and_grad(
        lambda params, scores: jnp.sum(crf.log_likelihood(params, scores, IDS.T % 3, mask=mask)), (0, 1)
    )(params, scores),
    "crf.viterbi": lambda params, scores, mask: crf.viterbi(params, scores, mask=mask),
    "crf.k_best": lambda params, scores, mask: crf.k_best(params, scores, 2, mask=mask),
    "crf.marginals": lambda params, scores, mask: crf.marginals(params, scores, mask=mask, parallel=True),
    "hmm.log_likelihood": lambda params, scores, mask: jax.value_and_grad(
        lambda params: jnp.sum(hmm.log_likelihood(params.start, params.transition, scores, mask=mask))
    )(params),
    "hmm.smooth": lambda params, scores, mask: hmm.smooth(params.start, params.transition, scores, mask=mask),
}


@pytest.mark.learn
@pytest.mark.parametrize("name", CHAINS)
def test_chains_on_explicit_axes(name):
    random = np.random.default_rng(0)
    params = crf.Params(*(random.normal(size=size).astype(np.float32) for size in ((3, 3), (3,), (3,))))
    scores = random.normal(size=(T, B, 3)).astype(np.float32)
    run, mesh = jax.jit(CHAINS[name]), mesh_of(AxisType.Explicit)
    there = jax.device_put((scores, MASK), NamedSharding(mesh, P(None, "b")))
    want = run(params, scores, MASK)
    zoo.assert_close(run(jax.device_put(params, NamedSharding(mesh, P())), *there), want, 1e-4)
    zoo.assert_close(run(params, *there), want, 1e-4)


def test_gradients_are_summed_over_devices_once():
    """The sums stand outside of all loops, one for an array of params."""
    cell = jaxseq.lstm(4)
    run = value_and_gradients(cell, kernels.remat(2))
    arguments = problem(cell, True)
    program = compiled.text(jax.jit(over_devices(run)).lower(*arguments).compile())
    before, _, entry = program.partition("\nENTRY ")
    assert "all-reduce(" in entry
    assert "all-reduce(" not in before


def test_what_is_not_split_yet_is_split_on_explicit_axes():
    """For what runs `jax.shard_map` itself: arrays of NumPy, and of a mesh, whole."""
    mesh = jax.make_mesh((2,), ("b",), axis_types=(AxisType.Explicit,))
    run = _meshes.map_over("b", mesh, lambda w, xs: w * xs + jax.lax.axis_index("b"), (P(), P("b")), P("b"))
    xs = np.arange(4.0, dtype=np.float32)
    for given in (xs, jax.device_put(xs, NamedSharding(mesh, P())), jax.device_put(xs, NamedSharding(mesh, P("b")))):
        ys = run(np.float32(2), given)
        np.testing.assert_array_equal(ys, 2 * xs + np.array([0, 0, 1, 1]))
        assert ys.sharding.spec == P("b")
