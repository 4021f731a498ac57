"""Flax Linen: `nn.RNN` around `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`, time-major.

Each gate has weights of its own, `i` and `h` with the gate's letter; the LSTM's biases stand beside `h`, those of the
others beside `i`, and `b_hn` beside `hn`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call
from benchmarks.suite import Call, Case

CELLS = {"rnn": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
LETTERS = {"rnn": ("",), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}


def contend(case: Case, params, xs) -> Call | None:
    """In every cell, mode and dtype."""
    cell = CELLS[case.cell](case.H, dtype=jnp.dtype(case.dtype), param_dtype=jnp.dtype(case.dtype))
    layer = nn.RNN(cell, time_major=True)
    letters = LETTERS[case.cell]
    side = "h" if case.cell == "lstm" else "i"

    def convert(params):
        weights = {}
        parts = (jnp.split(leaf, len(letters), axis=-1) for leaf in (params.w_x, params.w_h, params.b))
        for letter, w_x, w_h, b in zip(letters, *parts, strict=True):
            weights[f"i{letter}"], weights[f"h{letter}"] = {"kernel": w_x}, {"kernel": w_h}
            weights[f"{side}{letter}"]["bias"] = b
        if case.cell == "gru":
            weights["hn"]["bias"] = params.b_hn
        return weights

    def restore(weights):
        def together(side, name):
            return jnp.concatenate([weights[f"{side}{letter}"][name] for letter in letters], axis=-1)

        extra = {"b_hn": weights["hn"]["bias"]} if case.cell == "gru" else {}
        return type(params)(together("i", "kernel"), together("h", "kernel"), together(side, "bias"), **extra)

    net = Net(
        convert(params),
        lambda weights, xs: layer.apply({"params": {"cell": weights}}, xs),
        restore,
        lambda weights, carry, x: cell.apply({"params": weights}, carry, x),
        cell.initialize_carry(jax.random.key(0), (case.B, case.D)),
    )
    return make_call(case, net, xs, suite.twin(case, params))
