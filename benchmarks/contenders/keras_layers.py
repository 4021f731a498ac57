"""Keras 3 on JAX: `SimpleRNN`, `LSTM` and `GRU` by `stateless_call`, batch-major, as Keras takes nothing else.

A stream calls the layer's cell. The gates of its GRU are in the order z r n, and its bias is `[2, G]`, beside the input
and the recurrent weights.
"""

import jax.numpy as jnp
import keras  # pyright: ignore[reportMissingImports]

import jaxseq
from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call, reorder_gates
from benchmarks.suite import Call, Case

LAYERS = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}

if keras.backend.backend() != "jax":
    raise ImportError(f"KERAS_BACKEND is {keras.backend.backend()!r}, and must be 'jax'")


def contend(case: Case, params, xs) -> Call | None:
    """In every cell, mode and dtype."""
    layer = LAYERS[case.cell](case.H, return_sequences=True, recurrent_initializer="zeros", dtype=case.dtype)
    layer.build((case.B, case.T, case.D))
    state, cell_state = ([v.value for v in part.non_trainable_variables] for part in (layer, layer.cell))

    def unroll(weights, xs):
        return layer.stateless_call(weights, state, xs)[0]

    def step(weights, carry, x):
        (y, carry), _ = layer.cell.stateless_call(weights, cell_state, x, carry)
        return carry, y

    def convert(params):
        weights = [params.w_x, params.w_h, params.b]
        if case.cell == "gru":
            weights = [reorder_gates(leaf, "zrn", "rzn") for leaf in weights]
            weights[2] = jnp.stack([weights[2], jnp.zeros_like(params.b).at[2 * case.H :].set(params.b_hn)])
        return weights

    def restore(weights):
        if case.cell != "gru":
            return type(params)(*weights)
        w_x, w_h, biases = (reorder_gates(leaf, "rzn", "zrn") for leaf in weights)
        return jaxseq.GruParams(w_x, w_h, biases[0], biases[1, 2 * case.H :])

    carry = [jnp.zeros((case.B, case.H), case.dtype) for _ in range(2 if case.cell == "lstm" else 1)]
    net = Net(convert(params), unroll, restore, step, carry, batch_major=True)
    return make_call(case, net, xs, suite.twin(case, params))
