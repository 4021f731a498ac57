"""Keras's recurrent layers by `interop.keras`: values and gradients, in float64, and back; recurrent dropout too.

Keras's own tanh rounds to float32 on its way, in float64 too; JAX's functions keep the gates at full precision.
"""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import strategies as some

import jaxseq
from jaxseq import interop
from tests import zoo
from tests.interop.problem import EXAMPLES, assert_same_net, carries, problem, run
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

D, H = 3, 4
layers = keras.layers
HARD = {"recurrent_activation": "hard_sigmoid"}
OPTIONS = {
    "SimpleRNN": [{}, {"activation": "relu"}, {"use_bias": False}],
    "LSTM": [{}, HARD, {"use_bias": False}],
    "GRU": [{}, HARD, {"reset_after": False}, {"use_bias": False}, {"activation": "relu"}],
}
CELLS = [(kind, options) for kind, choices in OPTIONS.items() for options in choices]
MERGES = ["concat", "sum", "ave", "mul"]


def exact(layer):
    """Puts JAX's functions where Keras's would round."""
    if hasattr(layer, "forward_layer"):
        exact(layer.forward_layer)
        exact(layer.backward_layer)
        return
    for cell in getattr(layer.cell, "cells", [layer.cell]):
        for name, theirs, ours in (
            ("activation", keras.activations.tanh, jnp.tanh),
            ("recurrent_activation", keras.activations.sigmoid, jax.nn.sigmoid),
        ):
            if getattr(cell, name, None) is theirs:
                setattr(cell, name, ours)


def make(cells, merge):
    """A layer of one cell or a stack of them, in both directions where `merge` says how."""
    sequences = {"return_sequences": True, "return_state": True, "dtype": "float64"}
    if len(cells) == 1:
        ((kind, options),) = cells
        layer = getattr(layers, kind)(H, **options, **sequences)
    else:
        made = [getattr(layers, f"{kind}Cell")(H, **options, dtype="float64") for kind, options in cells]
        layer = layers.RNN(layers.StackedRNNCells(made, dtype="float64"), **sequences)
    layer = layers.Bidirectional(layer, merge_mode=merge, dtype="float64") if merge else layer
    layer.build((None, None, D))
    exact(layer)
    return layer


def flat(carry):
    """A carry as Keras lists states."""
    return [leaf for part in carries(carry) for leaf in jax.tree.leaves(part)]


def assert_agrees(cells, merge, ragged, seed):
    layer = make(cells, merge)
    drawn = zoo.random_like([weight.value for weight in layer.weights], seed)
    layer.set_weights(drawn)
    net, params = interop.keras.from_layer(layer)
    given = problem(net, params, D, seed, ragged)
    ours = run(net, params, given)

    mask = None if given.lengths is None else np.asarray(jaxseq.lengths_to_mask(given.lengths, len(given.xs))).T
    buffers = [variable.value for variable in layer.non_trainable_variables]

    @jax.jit
    def gradients(weights, states, xs):
        def loss(weights, states, xs):
            nested = states
            if len(cells) > 1:  # a list for each cell
                counts = np.cumsum([0, *(1 + (kind == "LSTM") for kind, _ in cells * (2 if merge else 1))])
                nested = [states[a:b] for a, b in itertools.pairwise(counts)]
            options = {"mask": mask, "initial_state": nested}
            (ys, *last), _ = untyped(layer).stateless_call(weights, buffers, jnp.swapaxes(xs, 0, 1), **options)
            ys = jnp.swapaxes(ys if mask is None else jnp.where(mask[..., None], ys, 0), 0, 1)
            leaves = jax.tree.leaves(last)
            return jnp.vdot(ys, given.d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves), (ys, leaves)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(weights, states, xs)

    (_, (ys, last)), (d_weights, d_states, d_xs) = gradients(drawn, flat(given.carry), given.xs)
    zoo.assert_close(ours.ys, ys, 1e-12, "ys")
    zoo.assert_close(flat(ours.last), last, 1e-12, "last")
    zoo.assert_close(flat(ours.d_carry), d_states, 1e-12, "d_carry")
    zoo.assert_close(ours.d_xs, d_xs, 1e-12, "d_xs")
    again = iter(interop.keras.to_weights(net, ours.d_params))
    for kind, options in cells * (2 if merge else 1):
        for _ in range(2 if not options.get("use_bias", True) else 3):
            value, want = next(again), d_weights.pop(0)
            if kind == "GRU" and want.shape == (2, 3 * H):  # second biases are added but that of the candidate
                value, want = (jnp.r_[leaf[0], leaf[1, 2 * H :]] for leaf in (value, want))
            zoo.assert_close(value, want, 1e-12, f"d_params of {kind}")
        if not options.get("use_bias", True):
            next(again)
    if not any("activation" in options and "reset_after" not in options for _, options in cells):
        assert_same_net((net, params), interop.keras.from_layer(interop.keras.to_layer(net, params)))


@pytest.mark.parametrize(
    ("cells", "merge", "ragged"),
    [([CELLS[0], CELLS[6]], "concat", True), ([CELLS[8]], "ave", False), ([CELLS[3]], None, True)],
    ids=str,
)
def test_layers_agree(cells, merge, ragged):
    assert_agrees(cells, merge, ragged, 0)


@pytest.mark.learn
@hypothesis.settings(max_examples=EXAMPLES)
@hypothesis.given(
    some.lists(some.sampled_from(CELLS), min_size=1, max_size=3),
    some.sampled_from([None, *MERGES]),
    some.booleans(),
    some.integers(0, 1000),
)
def test_random_layers_agree(cells, merge, ragged, seed):
    assert_agrees(cells, merge, ragged, seed)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (1, {"strides": 2}),
        (2, {"padding": "valid", "dilation_rate": (1, 2), "kernel_size": (3, 2)}),
        (2, {"padding": "valid", "strides": 2, "kernel_size": 2, "use_bias": False}),
        (3, {"recurrent_activation": "hard_sigmoid"}),
    ],
    ids=str,
)
def test_convolutions_agree(axes, options):
    """Over images whose size the convolution of the inputs changes."""
    shape, T, B = (5, 6, 3)[:axes], 3, 2
    options = {"kernel_size": 3, "padding": "same", **options}
    layer = getattr(layers, f"ConvLSTM{axes}D")(2, **options, dtype="float64", return_sequences=True)
    layer.build((None, None, *shape, 2))
    exact(layer)
    drawn = zoo.random_like([weight.value for weight in layer.weights], 0)
    layer.set_weights(drawn)
    net, params = interop.keras.from_layer(layer)
    xs, buffers = (
        np.random.default_rng(1).normal(size=(T, B, *shape, 2)),
        [v.value for v in layer.non_trainable_variables],
    )

    def of_theirs(weights, xs):
        ys = layer.stateless_call(weights, buffers, jnp.swapaxes(xs, 0, 1))[0]
        return jnp.sum(jnp.sin(ys)), jnp.swapaxes(ys, 0, 1).reshape(T, B, -1)

    def of_ours(params, xs):
        ys = jaxseq.unroll(net, params, xs.reshape(T, B, -1))[1]
        return jnp.sum(jnp.sin(ys)), ys

    (_, ours), d_ours = jax.jit(jax.value_and_grad(of_ours, (0, 1), has_aux=True))(params, xs)
    (_, theirs), d_theirs = jax.jit(jax.value_and_grad(of_theirs, (0, 1), has_aux=True))(drawn, xs)
    zoo.assert_close(ours, theirs, 1e-12, "ys")
    zoo.assert_close(d_ours[1], d_theirs[1], 1e-12, "d_xs")
    zoo.assert_close(interop.keras.to_weights(net, d_ours[0])[: len(drawn)], d_theirs[0], 1e-12, "d_params")
    assert_same_net((net, params), interop.keras.from_layer(interop.keras.to_layer(net, params)))


def built(layer, shape=(None, None, D)):
    layer.build(shape)
    return layer


IMAGES = (None, None, 4, 4, 2)
FAULTS = {
    "must be a layer of Keras": lambda: 3,
    "a ConvLSTMish": lambda: type("ConvLSTMish", (layers.Dense,), {})(3),
    "`go_backwards`": lambda: built(layers.GRU(3, go_backwards=True)),
    "`merge_mode=None`": lambda: built(
        layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode=untyped(None))
    ),
    "`activation` of layer .* except tanh": lambda: built(layers.LSTM(3, activation="relu")),
    "`recurrent_activation='gelu'`": lambda: built(layers.LSTM(3, recurrent_activation="gelu")),
    "must have 3 arrays; it has 0": lambda: layers.GRU(3),
    "`data_format='channels_first'`": lambda: built(layers.ConvLSTM2D(3, 2, data_format="channels_first"), IMAGES),
    "`merge_mode='concat'` for images": lambda: built(
        layers.Bidirectional(layers.ConvLSTM2D(3, 2, return_sequences=True)), IMAGES
    ),
}


@pytest.mark.parametrize("words", FAULTS)
def test_faults_are_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.keras.from_layer(FAULTS[words]())


@pytest.mark.some(1)
@pytest.mark.parametrize("kind", OPTIONS)
def test_recurrent_dropout_under_the_same_mask_agrees(kind):
    """Keras's mask is of numbers, 0 and 1 / (1 - rate); one for all gates, as in Gal & Ghahramani's tied form."""
    theirs = getattr(layers, kind)(H, dtype="float64", recurrent_dropout=0.5)
    theirs.build((None, None, D))
    exact(theirs)
    dropped, params = interop.keras.from_layer(theirs)
    given, key = problem(dropped, params, D, 0, ragged=False), jax.random.key(4)
    assert isinstance(dropped, jaxseq.Cell)
    assert dropped.noise is not None
    mask = dropped.noise(key, params, given.xs)[0].extra / 0.5
    assert 0 < np.mean(mask) < 2
    cell = theirs.cell
    gates = getattr(cell, "dropout_mask_count", None)
    buffers = [variable.value for variable in cell.non_trainable_variables]

    def run_theirs(weights, states, xs):
        cell._recurrent_dropout_mask = mask if gates is None else [mask] * gates
        ys = []
        for x in xs:
            (y, states), _ = cell.stateless_call(weights, buffers, x, states, training=True)
            ys.append(y)
        return jnp.vdot(jnp.stack(ys), given.d_ys), jnp.stack(ys)

    def run_ours(params, carry, xs):
        ys = jaxseq.unroll(dropped, params, xs, carry, key=key)[1]
        return jnp.vdot(ys, given.d_ys), ys

    weights, states = [weight.value for weight in cell.weights], flat(given.carry)
    (_, got), d_ours = jax.jit(jax.value_and_grad(run_ours, (0, 1, 2), has_aux=True))(params, given.carry, given.xs)
    (_, ys), d_theirs = jax.jit(jax.value_and_grad(run_theirs, (0, 1, 2), has_aux=True))(weights, states, given.xs)
    zoo.assert_close(got, ys, 1e-12, "ys")
    zoo.assert_close([*flat(d_ours[1]), d_ours[2]], [*d_theirs[1], d_theirs[2]], 1e-12, "d_carry, d_xs")
    zoo.assert_close(interop.keras.to_weights(dropped, d_ours[0])[:2], d_theirs[0][:2], 1e-12, "d_params")
