"""Equinox: `eqx.nn.LSTMCell` and `eqx.nn.GRUCell` of one sequence under `jax.lax.scan`, and `jax.vmap` over the batch.

Time-major: the batch is mapped over as the second axis. Weights are `[G, D]` and `[G, H]`. It has no vanilla cell.
"""

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp

from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call
from benchmarks.suite import Call, Case

CELLS = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}


def contend(case: Case, params, xs) -> Call | None:
    """LSTM and GRU, in every mode and dtype."""
    if case.cell == "rnn":
        return None
    cell = CELLS[case.cell](case.D, case.H, dtype=jnp.dtype(case.dtype), key=jax.random.key(0))

    def leaves(cell):
        return [cell.weight_ih, cell.weight_hh, cell.bias, *([cell.bias_n] if case.cell == "gru" else [])]

    def restore(weights):
        w_x, w_h, *biases = leaves(weights)
        return type(params)(w_x.T, w_h.T, *biases)

    def step_one(cell, carry, x):
        carry = cell(x, carry)
        return carry, (carry[0] if case.cell == "lstm" else carry)

    def unroll_one(cell, xs):
        h = jnp.zeros(case.H, xs.dtype)
        carry = (h, h) if case.cell == "lstm" else h
        return jax.lax.scan(lambda carry, x: step_one(cell, carry, x), carry, xs)[1]

    h = jnp.zeros((case.B, case.H), case.dtype)
    biases = [params.b, *([params.b_hn] if case.cell == "gru" else [])]
    net = Net(
        eqx.tree_at(leaves, cell, [params.w_x.T, params.w_h.T, *biases]),
        jax.vmap(unroll_one, in_axes=(None, 1), out_axes=1),
        restore,
        jax.vmap(step_one, in_axes=(None, 0, 0)),
        (h, h) if case.cell == "lstm" else h,
    )
    return make_call(case, net, xs, suite.twin(case, params))
