"""Keras's recurrent layers on the same weights: values and gradients, and recurrent dropout under the same mask.

Keras keeps `kernel [D, G]`, `recurrent_kernel [H, G]` and `bias [G]`, `[2, G]` of a GRU with the reset after. The gates
of its LSTM are in our order, those of its GRU are z r h.
"""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import jaxseq
from tests import zoo

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 4, 3, 4, 5
# Keras's own tanh rounds to float32 on its way, in float64 too; JAX's functions keep the gates at full precision.
FULL = {"dtype": "float64", "activation": jnp.tanh}
GATED = {**FULL, "recurrent_activation": jax.nn.sigmoid}
CASES = {
    "rnn": (jaxseq.rnn(H), lambda **options: keras.layers.SimpleRNNCell(H, **FULL, **options)),
    "lstm": (jaxseq.lstm(H), lambda **options: keras.layers.LSTMCell(H, **GATED, **options)),
    "gru_before": (
        jaxseq.gru(H, reset_after=False),
        lambda **options: keras.layers.GRUCell(H, reset_after=False, **GATED, **options),
    ),
    "gru_after": (
        jaxseq.gru(H),
        lambda **options: keras.layers.GRUCell(H, reset_after=True, **GATED, **options),
    ),
    "lstm_hard": (
        jaxseq.lstm(H, gate=jax.nn.hard_sigmoid),
        lambda **options: keras.layers.LSTMCell(H, **FULL, recurrent_activation="hard_sigmoid", **options),
    ),
    "gru_hard": (
        jaxseq.gru(H, gate=jax.nn.hard_sigmoid),
        lambda **options: keras.layers.GRUCell(
            H, reset_after=True, **FULL, recurrent_activation="hard_sigmoid", **options
        ),
    ),
}


def in_keras_order(array):
    """Gates r z n as z r n, and back."""
    r, z, n = jnp.split(array, 3, axis=-1)
    return jnp.concatenate([z, r, n], axis=-1)


def keras_weights(params):
    """Our params as Keras lists them."""
    weights = [params.w_x, params.w_h, params.b]
    if isinstance(params, jaxseq.GruParams):
        weights = [in_keras_order(weight) for weight in weights]
        if params.b_hn is not None:
            weights[2] = jnp.stack([weights[2], jnp.zeros(3 * H).at[2 * H :].set(params.b_hn)])
    return weights


def run_keras(make, params, xs, carry, dropped=None):
    """Unrolls the Keras cell by hand; `dropped` is the mask of what its recurrent weights see."""
    cell = make(recurrent_dropout=0.0 if dropped is None else 0.5)
    cell.build((B, D))
    weights = keras_weights(params)

    def step(states, x):
        if dropped is not None:
            gates = getattr(cell, "dropout_mask_count", None)
            cell._recurrent_dropout_mask = dropped if gates is None else [dropped] * gates
        (y, states), _ = cell.stateless_call(weights, buffers, x, states, training=dropped is not None)
        return states, y

    buffers = [variable.value for variable in cell.non_trainable_variables]
    ys = []
    states = jax.tree.leaves(carry)
    for x in xs:
        states, y = step(states, x)
        ys.append(y)
    return states, jnp.stack(ys)


def make_problem(cell):
    params = zoo.random_like(cell.init(jax.random.key(0), D), 0)
    carry = zoo.random_like(cell.carry(params, (B,)), 1)
    xs, d_ys = (jnp.asarray(np.random.default_rng(seed).normal(size=(T, B, size))) for seed, size in ((2, D), (3, H)))
    return params, carry, xs, d_ys


def assert_agree(run_ours, run_theirs, params, carry, xs, d_ys):
    def loss(run):
        def of(params, carry, xs):
            last, ys = run(params, carry, xs)
            return jnp.vdot(ys, d_ys) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(last)), ys

        return jax.jit(jax.value_and_grad(of, (0, 1, 2), has_aux=True))(params, carry, xs)

    zoo.assert_close(loss(run_ours), loss(run_theirs), 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 1)},
        {"padding": "valid", "dilation": (1, 2), "window": (3, 2)},
        {"padding": "valid", "strides": 2, "window": 2},
    ],
    ids=str,
)
def test_convolutions_agree(options):
    """Over images whose size the convolution of the inputs changes, and from a carry."""
    cell = jaxseq.conv_lstm((5, 6), 2, **options)
    params = zoo.random_like(jax.eval_shape(lambda: cell.init(jax.random.key(0), 5 * 6 * 3)), 0)
    names = {"window": "kernel_size", "dilation": "dilation_rate"}
    theirs = keras.layers.ConvLSTM2D(
        2,
        **{"kernel_size": 3, "padding": "same", **{names.get(name, name): value for name, value in options.items()}},
        **GATED,
        return_sequences=True,
    )
    xs = np.random.default_rng(1).normal(size=(B, T, 5, 6, 3))
    theirs.build(xs.shape)
    buffers = [variable.value for variable in theirs.non_trainable_variables]
    d_ys = np.random.default_rng(2).normal(size=(B, T, cell.size))

    def run_theirs(params, xs):
        ys, _ = theirs.stateless_call([params.w_x, params.w_h, params.b], buffers, xs)
        return ys.reshape(B, T, -1)

    def run_ours(params, xs):
        return jnp.moveaxis(jaxseq.unroll(cell, params, jnp.moveaxis(xs.reshape(B, T, -1), 0, 1))[1], 0, 1)

    def loss(run):
        return jax.jit(jax.value_and_grad(lambda *given: jnp.vdot(run(*given), d_ys), (0, 1)))(params, xs)

    zoo.assert_close(loss(run_ours), loss(run_theirs), 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_agree(name):
    cell, make = CASES[name]
    problem = make_problem(cell)
    assert_agree(
        lambda params, carry, xs: jaxseq.unroll(cell, params, xs, carry),
        lambda params, carry, xs: run_keras(make, params, xs, carry),
        *problem,
    )


@pytest.mark.parametrize("name", CASES)
def test_recurrent_dropout_under_the_same_mask_agrees(name):
    """Keras's mask is of numbers, 0 and 1 / (1 - rate); one for all gates, as in Gal & Ghahramani's tied form."""
    cell, make = CASES[name]
    params, *rest = make_problem(cell)
    dropped = jaxseq.dropout(cell, recurrent=0.5)
    key = jax.random.key(4)
    noisy, _ = dropped.noise(key, params, rest[1])
    assert 0 < np.mean(noisy.extra) < 1
    assert_agree(
        lambda params, carry, xs: jaxseq.unroll(dropped, params, xs, carry, key=key),
        lambda params, carry, xs: run_keras(make, params, xs, carry, noisy.extra / 0.5),
        params,
        *rest,
    )
