"""Haiku: `hk.dynamic_unroll` of `hk.LSTM`, `hk.GRU` and `hk.VanillaRNN`, time-major.

Its GRU resets before the product, lets z write, and has its gates in the order z r n; its vanilla cell takes ReLU: each
is held against our cell of that convention. Its LSTM, gates i g f o, adds 1 to the forget gate, taken off `b` here.
"""

import haiku as hk  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp

import jaxseq
from benchmarks import suite
from benchmarks.contenders._jax import Net, make_call, reorder_gates
from benchmarks.suite import Call, Case, Twin

CORES = {"rnn": lambda H: hk.VanillaRNN(H, double_bias=False), "lstm": hk.LSTM, "gru": hk.GRU}


def contend(case: Case, params, xs) -> Call | None:
    """In every cell, mode and dtype."""
    twin = suite.twin(case, params)
    if case.cell == "rnn":
        twin = Twin(jaxseq.rnn(case.H, activation=jax.nn.relu), params)
    elif case.cell == "gru":
        twin = Twin(jaxseq.gru(case.H, reset_after=False, update_writes=True), params._replace(b_hn=None))

    def initial(core):
        return jax.tree.map(lambda leaf: leaf.astype(case.dtype), core.initial_state(case.B))

    def layer(xs):
        core = CORES[case.cell](case.H)
        return hk.dynamic_unroll(core, xs, initial(core))[0]

    def apply(function):
        return hk.without_apply_rng(hk.transform(function)).apply

    one_step = apply(lambda x, carry: CORES[case.cell](case.H)(x, carry))

    def step(weights, carry, x):
        y, carry = one_step(weights, x, carry)
        return carry, y

    convert, restore = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}[case.cell](case)
    carry = apply(lambda: initial(CORES[case.cell](case.H)))({})
    return make_call(case, Net(convert(params), apply(layer), restore, step, carry), xs, twin)


def _rnn(case):
    def convert(params):
        return {"vanilla_rnn/linear": {"w": params.w_x, "b": params.b}, "vanilla_rnn/linear_1": {"w": params.w_h}}

    def restore(weights):
        linear = weights["vanilla_rnn/linear"]
        return jaxseq.RnnParams(linear["w"], weights["vanilla_rnn/linear_1"]["w"], linear["b"])

    return convert, restore


def _lstm(case):
    def convert(params):
        forget = jnp.repeat(jnp.array([0, 1, 0, 0], case.dtype), case.H)
        w, b = jnp.concatenate([params.w_x, params.w_h]), params.b - forget
        return {"lstm/linear": {"w": reorder_gates(w, "igfo", "ifgo"), "b": reorder_gates(b, "igfo", "ifgo")}}

    def restore(gradients):
        w, b = (reorder_gates(gradients["lstm/linear"][name], "ifgo", "igfo") for name in "wb")
        return jaxseq.LstmParams(w[: case.D], w[case.D :], b)

    return convert, restore


def _gru(case):
    def convert(params):
        leaves = {"w_i": params.w_x, "w_h": params.w_h, "b": params.b}
        return {"gru": {name: reorder_gates(leaf, "zrn", "rzn") for name, leaf in leaves.items()}}

    def restore(weights):
        return jaxseq.GruParams(*(reorder_gates(weights["gru"][name], "rzn", "zrn") for name in ("w_i", "w_h", "b")))

    return convert, restore
