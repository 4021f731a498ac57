"""Flax's recurrent modules by `interop.flax`, NNX's and Linen's: values and gradients, in float64, and back."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import strategies as some

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, problem, run
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4
NNX = {"lstm": nnx.LSTMCell, "optimised": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}
LINEN = {"lstm": linen.LSTMCell, "optimised": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}
MERGES = {"concat": None, "sum": jnp.add, "mul": lambda ys, zs: ys * zs, "mean": lambda ys, zs: (ys + zs) / 2}
OPTIONS = {
    "lstm": [{}, {"gate_fn": jax.nn.hard_sigmoid}],
    "optimised": [{}, {"gate_fn": jax.nn.hard_sigmoid}],
    "gru": [{}, {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.relu}],
    "rnn": [{}, {"activation_fn": jax.nn.relu}],
}
FLOAT64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def layers():
    """Kinds of cells with options, and a merge where there are two directions; one to three."""
    layer = some.one_of(
        *[
            some.tuples(some.just(kind), some.sampled_from(options), some.sampled_from([False, *MERGES]))
            for kind, options in OPTIONS.items()
        ]
    )
    return some.lists(layer, min_size=1, max_size=3)


def make(library, layers):
    """A module of Flax, its params as a tree, and a function `(params, xs, carries, lengths) -> (last carries, ys)`."""
    is_nnx, size, modules = library is nnx, D, []
    for kind, options, merge in layers:

        def rnn(kind=kind, options=options, size=size):
            options = {**options, **FLOAT64}
            cell = NNX[kind](size, H, **options, rngs=nnx.Rngs(0)) if is_nnx else LINEN[kind](H, **options)
            return library.RNN(cell, time_major=True)

        more = {} if MERGES.get(merge) is None else {"merge_fn": MERGES[merge]}
        modules.append(library.Bidirectional(rnn(), rnn(), **more, time_major=True) if merge else rnn())
        size = 2 * H if merge == "concat" else H
    module = modules[0] if len(modules) == 1 else (nnx.Sequential(*modules) if is_nnx else linen.Sequential(modules))
    return module, modules


def unroller(library, module, modules):
    if library is nnx:
        graph, params, rest = nnx.split(module, nnx.Param, ...)

        def nnx_parts(params):
            whole = nnx.merge(graph, params, rest, copy=True)
            return [(each, {}) for each in ([whole] if len(modules) == 1 else whole.layers)]

        parts = nnx_parts
    else:
        params = module.init(jax.random.key(0), jnp.zeros([2, 1, D]))["params"]

        def linen_parts(params):
            own = [params] if len(modules) == 1 else [params[f"layers_{place}"] for place in range(len(modules))]
            return [(each, {"params": mine}) for each, mine in zip(modules, own, strict=True)]

        parts = linen_parts

    def unroll(params, xs, starts, lengths):
        last = []
        for (each, variables), start in zip(parts(params), starts, strict=True):
            options = {"initial_carry": start, "seq_lengths": lengths, "return_carry": True}
            carry, xs = each(xs, **options) if library is nnx else each.apply(variables, xs, **options)
            last.append(carry)
        return last, xs

    return params, unroll


def theirs(carry):
    """A carry of ours as Flax has it: (c, h)."""
    if isinstance(carry, jaxseq.Bidirectional):
        return tuple(map(theirs, carry))
    return (carry.c, carry.h) if isinstance(carry, jaxseq.LstmCarry) else carry


def assert_agrees(library, layers, ragged, seed):
    module, modules = make(library, layers)
    params, unroll = unroller(library, module, modules)
    params = zoo.random_like(params, seed)
    if library is nnx:
        nnx.update(module, params)

    def back(params):
        if library is linen:
            return interop.flax.from_module(module, {"params": params})
        nnx.update(module, params)
        return interop.flax.from_module(module)

    net, ours = back(params)
    given = problem(net, ours, D, seed, ragged)
    got = run(net, ours, given)
    many = len(layers) > 1
    mask = 1 if given.lengths is None else np.asarray(jaxseq.lengths_to_mask(given.lengths, len(given.xs)))[..., None]

    @jax.jit
    def gradients(params, starts, xs):
        def loss(params, starts, xs):
            last, ys = unroll(params, xs, starts, given.lengths)
            ys = jnp.where(mask, ys, 0)
            return jnp.vdot(ys, given.d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), (ys, last)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, starts, xs)

    starts = [theirs(carry) for carry in (given.carry if many else [given.carry])]
    (_, (ys, last)), (d_params, d_starts, d_xs) = gradients(params, starts, given.xs)
    zoo.assert_close(got.ys, ys, 1e-12, "ys")
    for mine, other in ((got.last, last), (got.d_carry, d_starts)):
        zoo.assert_close([theirs(carry) for carry in (mine if many else [mine])], other, 1e-12, "carry")
    zoo.assert_close(got.d_xs, d_xs, 1e-12, "d_xs")
    d_ours = got.d_params
    if library is nnx:  # whose GRU has no b_hn
        d_ours = jax.tree.map(
            lambda leaf: (
                leaf._replace(b_hn=jnp.zeros_like(untyped(leaf.b_hn))) if isinstance(leaf, jaxseq.GruParams) else leaf
            ),
            d_ours,
            is_leaf=lambda leaf: isinstance(leaf, jaxseq.GruParams),
        )
    zoo.assert_close(d_ours, back(d_params)[1], 1e-12, "d_params")
    again = interop.flax.to_linen(net, ours)
    assert_same_net((net, ours), interop.flax.from_module(*again))
    if library is nnx:
        assert_same_net((net, ours), interop.flax.from_module(interop.flax.to_nnx(net, ours)))
    else:
        jax.tree.map(np.testing.assert_array_equal, again[1], {"params": params})


@pytest.mark.some(1)
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("library", [nnx, linen], ids=["nnx", "linen"])
def test_modules_agree(library, ragged):
    layers = [("optimised", {}, "concat"), ("gru", OPTIONS["gru"][1], False)]
    assert_agrees(library, layers, ragged, 0)


@pytest.mark.learn
@pytest.mark.parametrize("library", [nnx, linen], ids=["nnx", "linen"])
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(layers=layers(), ragged=some.booleans(), seed=some.integers(0, 1000))
def test_random_modules_agree(library, layers, ragged, seed):
    assert_agrees(library, layers, ragged, seed)


@pytest.mark.parametrize(("window", "use_bias"), [((3, 2), True), ((3,), False), ((1, 2, 2), True)])
def test_convolutions_agree(window, use_bias):
    shape, T, B = (4, 3, 2)[: len(window)], 3, 2
    module = linen.RNN(linen.ConvLSTMCell(2, window, use_bias=use_bias, **FLOAT64), time_major=True)
    xs = np.random.default_rng(0).normal(size=(T, B, *shape, 3))
    params = zoo.random_like(jax.eval_shape(lambda: module.init(jax.random.key(0), xs)), 1)
    net, ours = interop.flax.from_module(module, params, shape=shape)
    _, ys = jax.jit(jaxseq.unroll, static_argnums=0)(net, ours, xs.reshape(T, B, -1))
    zoo.assert_close(ys.reshape(T, B, *shape, 2), jax.jit(module.apply)(params, xs), 1e-12)
    assert_same_net((net, ours), interop.flax.from_module(*interop.flax.to_linen(net, ours), shape=shape))


@pytest.mark.parametrize("write", [interop.flax.to_nnx, interop.flax.to_linen])
def test_backwards(write):
    net = jaxseq.stack(jaxseq.rnn(H), jaxseq.backwards(jaxseq.gru(H)))
    params = zoo.params_of(net, D)
    params = (params[0], params[1]._replace(b_hn=0 * params[1].b_hn))
    made = write(net, params)
    made = made if isinstance(made, tuple) else (made,)
    assert_same_net((net, params), interop.flax.from_module(*made))
    xs = np.random.default_rng(0).normal(size=(4, 2, D))
    ys = made[0](xs) if len(made) == 1 else made[0].apply(made[1], xs)
    zoo.assert_close(jaxseq.unroll(net, params, xs)[1], ys, 1e-12)


def gru(**options):
    return linen.GRUCell(H, **options)


def drawn(module):
    xs = jnp.zeros([2, 3, D], jnp.float32)
    return zoo.random_like(jax.eval_shape(lambda: module.init(jax.random.key(0), xs)), 0)


FAULTS = {
    "`variables` must be given": lambda: (linen.RNN(gru()),),
    "`variables` must be a dict": lambda: (linen.RNN(gru()), 3),
    "`variables` of `module` must have 'cell'": lambda: (linen.RNN(gru()), {"params": {"rnn": {}}}),
    "`variables` must have 'hn/kernel'": lambda: (
        gru(),
        drawn(linen.RNN(linen.OptimizedLSTMCell(H)))["params"]["cell"],
    ),
    "'ir/kernel'\\]` must be of the shape": lambda: (
        gru(),
        jax.tree.map(lambda leaf: leaf[..., :2], drawn(linen.RNN(gru()))["params"]["cell"]),
    ),
    "'hn/kernel'\\]` holds NaN": lambda: (
        gru(),
        jax.tree.map(lambda leaf: leaf.at[..., 0].set(jnp.nan), drawn(linen.RNN(gru()))["params"]["cell"]),
    ),
    "must be a module of Flax": lambda: (jaxseq.gru(3),),
    "no equivalent of `module.cell`, a MGUCell": lambda: (
        linen.RNN(linen.MGUCell(H)),
        drawn(linen.RNN(linen.MGUCell(H))),
    ),
    "`module.reverse` without `keep_order`": lambda: (linen.RNN(gru(), reverse=True), drawn(linen.RNN(gru()))),
    "`module.cell.carry_init`": lambda: (linen.RNN(gru(carry_init=linen.initializers.ones)), drawn(linen.RNN(gru()))),
    "`module.cell.dtype`, .* is bfloat16": lambda: (linen.RNN(gru(dtype=jnp.bfloat16)), drawn(linen.RNN(gru()))),
    "`module.cell.residual`": lambda: (
        linen.RNN(linen.SimpleCell(H, residual=True)),
        drawn(linen.RNN(linen.SimpleCell(H))),
    ),
    "`module.cell.activation_fn`": lambda: (nnx.RNN(nnx.LSTMCell(D, H, activation_fn=jax.nn.relu, rngs=nnx.Rngs(0))),),
    "`module.merge_fn`": lambda: (
        nnx.Bidirectional(*[nnx.RNN(nnx.SimpleCell(D, H, rngs=nnx.Rngs(0)))] * 2, merge_fn=jnp.maximum),
    ),
    "`module.layers\\[0\\]`, a Dropout": lambda: (nnx.Sequential(nnx.Dropout(0.1)),),
    "`shape` of the images": lambda: (linen.ConvLSTMCell(2, (3, 3)), {}),
    "`module.padding`": lambda: (linen.ConvLSTMCell(2, (3, 3), padding="VALID"), {}),
    "`module.strides`": lambda: (linen.ConvLSTMCell(2, (3, 3), strides=(2, 2)), {}),
}


@pytest.mark.parametrize("words", FAULTS)
def test_faults_are_named(words):
    options = {} if "shape" in words else {"shape": (4, 4)}
    with pytest.raises((TypeError, ValueError), match=words):
        interop.flax.from_module(*FAULTS[words](), **options)


WITHOUT_EQUAL = {
    "peephole='new'": jaxseq.lstm(H, peephole="new"),
    "projection=2": jaxseq.lstm(H, projection=2),
    "candidate=sigmoid": jaxseq.lstm(H, candidate=jax.nn.sigmoid),
    "reset_after=False": jaxseq.gru(H, reset_after=False),
    "learned_carry": jaxseq.learned_carry(jaxseq.gru(H)),
    "residual": jaxseq.residual(jaxseq.rnn(D)),
    "slstm": jaxseq.slstm(H),
    "dilation=2": jaxseq.conv_lstm((3,), 2, dilation=2),
    "merge='concat'` of jaxseq.conv_lstm": jaxseq.bidirectional(jaxseq.conv_lstm((3,), 2)),
    "NNX.*conv_lstm": jaxseq.conv_lstm((3,), 2),
    "NNX.*b_hn": jaxseq.gru(H),
}


@pytest.mark.parametrize("words", WITHOUT_EQUAL)
def test_what_flax_has_no_equal_of_is_named(words):
    net = WITHOUT_EQUAL[words]
    params = zoo.params_of(net, D)
    with pytest.raises(ValueError, match=words):
        (interop.flax.to_nnx if "NNX" in words else interop.flax.to_linen)(net, params)
