"""Flax NNX: `nnx.RNN` around `OptimizedLSTMCell`, `GRUCell` and `SimpleCell`, time-major, split and merged under jit.

Its GRU has no bias beside the recurrent weights of the candidate: it is held against ours with `b_hn` zero.
"""

import jax.numpy as jnp
from flax import nnx

from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call
from benchmarks.suite import Call, Case

CELLS = {"rnn": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}


def contend(case: Case, params, xs) -> Call | None:
    """In every cell, mode and dtype."""
    # The orthogonal matrices that it would start from cannot be drawn in bfloat16.
    dtype, zeros = jnp.dtype(case.dtype), nnx.initializers.zeros_init()
    options = {"dtype": dtype, "param_dtype": dtype, "recurrent_kernel_init": zeros, "rngs": nnx.Rngs(0)}
    cell = CELLS[case.cell](case.D, case.H, **options)
    graph, _, other = nnx.split(nnx.RNN(cell, time_major=True), nnx.Param, ...)
    cell_graph, _, cell_other = nnx.split(cell, nnx.Param, ...)
    twin = suite.twin(case, params)
    if case.cell == "gru":
        twin = twin._replace(params=params._replace(b_hn=jnp.zeros_like(params.b_hn)))

    # The bias stands beside the recurrent weights of the LSTM, and beside the input weights of the others.
    side, other_side = ("dense_h", "dense_i") if case.cell == "lstm" else ("dense_i", "dense_h")
    kernels = {"dense_i": params.w_x, "dense_h": params.w_h}
    weights = {side: {"kernel": kernels[side], "bias": params.b}, other_side: {"kernel": kernels[other_side]}}

    def unroll(weights, xs):
        return nnx.merge(graph, nnx.State({"cell": weights}), other, copy=True)(xs)

    def step(weights, carry, x):
        return nnx.merge(cell_graph, nnx.State(weights), cell_other, copy=True)(carry, x)

    def restore(weights):
        leaves = weights["dense_i"]["kernel"], weights["dense_h"]["kernel"], weights[side]["bias"]
        return type(params)(*leaves, **({"b_hn": None} if case.cell == "gru" else {}))

    carry = cell.initialize_carry((case.B, case.D), nnx.Rngs(0))
    return make_call(case, Net(weights, unroll, restore, step, carry), xs, twin)
