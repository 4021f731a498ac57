"""LSTM with layer normalisation (Ba, Kiros & Hinton 2016, supplement). N (see `_normalise.py`) is over all gates.

    a_t = s_x ⊙ N(x_t W_x) + b + s_h ⊙ N(h_{t-1} W_h)          gates in the order  i f g o
    i_t, f_t, o_t = σ(a_i), σ(a_f), σ(a_o)                     g_t = tanh(a_g)       σ: the sigmoid, or another gate
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    h_t = o_t ⊙ tanh(s_c ⊙ N(c_t) + b_c)                       y_t = h_t

The paper adds a bias to each N(x W_x) and N(h W_h). They would add to b, so they are left out.
Backward, with q = s_c ⊙ N(c_t) + b_c:

    δq   = δh ⊙ o ⊙ (1 - tanh²(q))        δc += N' (s_c ⊙ δq)         δs_c = Σ δq ⊙ N(c_t)      δb_c = Σ δq
    δa, δc_{t-1} = the LSTM's, from δo = δh ⊙ tanh(q) and δc
    δp   = N' (s_h ⊙ δa)                  δh_{t-1} = δp W_hᵀ
    δW_h = Σ h_{t-1}ᵀ δp                  δs_h = Σ δa ⊙ N(h_{t-1} W_h)

`project` adds b_c to its part of the inputs, so the cotangent of b_c, δq, comes back with those of the inputs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells import _lstm_gates as gates
from jaxseq.cells._activation import Activation
from jaxseq.cells._dense import dense, dense_back, dense_weight, total, wide
from jaxseq.cells._lstm import LstmCarry
from jaxseq.cells._normalise import normalise, normalise_back
from jaxseq.typing import AnyArray, Backward, Cell, Initializer


class LayerNormLstmParams(NamedTuple):
    """`w_x [D, 4H]`, `w_h [H, 4H]`, `b [4H]`, `s_x [4H]`, `s_h [4H]`, gates i f g o; `s_c [H]`, `b_c [H]`."""

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray
    s_x: AnyArray
    s_h: AnyArray
    s_c: AnyArray
    b_c: AnyArray


class _Inputs(NamedTuple):
    a: jax.Array  # of the gates
    b_c: jax.Array


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    c: jax.Array  # c_{t-1}
    i: jax.Array | None
    f: jax.Array
    g: jax.Array
    o: jax.Array
    tanh_q: jax.Array
    n_h: jax.Array
    scale_h: jax.Array
    n_c: jax.Array
    scale_c: jax.Array
    a_gates: jax.Array | None


def layer_norm_lstm(
    size: int,
    *,
    gate: Activation = jax.nn.sigmoid,
    forget_bias: float | Initializer | None = 1.0,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the layer-normalised LSTM cell. Its carry is `LstmCarry(h, c)`.

    Args:
      size: H.
      gate: the activation of the gates i f o, any elementwise function.
      forget_bias: the value that `init` writes into the forget gate's part of `b`, as for `jaxseq.lstm`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, drawn separately for each gate.
        Defaults: Glorot-uniform, orthogonal, zeros.

    Raises:
      TypeError, ValueError: `size` is not a positive int, or `gate` or an initialiser is not a function.

    >>> cell = layer_norm_lstm(3)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 2), jnp.ones([5, 4, 2]))
    >>> ys.shape
    (5, 4, 3)
    """
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    check.function("gate", gate)
    return _layer_norm_lstm(check.positive_int("size", size), gate, check.bias("forget_bias", forget_bias), *inits)


@factory
def _layer_norm_lstm(size, gate, forget_bias, input_init, recurrent_init, bias_init):
    form = gates.GateForm(peephole=None, candidate=jnp.tanh, coupled=False, clip=None, gate=gate)
    inits = input_init, recurrent_init, bias_init
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 4) for initializer in inits)

    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h, key_b, key_f = jax.random.split(key, 4)
        return LayerNormLstmParams(
            w_x=input_init(key_x, (in_size, 4 * size), dtype),
            w_h=recurrent_init(key_h, (size, 4 * size), dtype),
            b=initializers.with_forget_bias(forget_bias, key_f, bias_init(key_b, (4 * size,), dtype), size),
            s_x=jnp.ones(4 * size, dtype),
            s_h=jnp.ones(4 * size, dtype),
            s_c=jnp.ones(size, dtype),
            b_c=jnp.zeros(size, dtype),
        )

    def carry(params, batch_shape=()):
        h, c = (jnp.zeros((*batch_shape, size), params.w_h.dtype) for _ in range(2))
        return LstmCarry(h, c)

    def project(params, xs):
        n, _ = normalise(dense(xs, params.w_x))
        a = (expand_rank(wide(params.s_x), n) * n + expand_rank(wide(params.b), n)).astype(xs.dtype)
        return _Inputs(a, jnp.broadcast_to(params.b_c, (*xs.shape[:-1], size)))

    def fwd(params, carry, u):
        h, c = carry
        u = wide(u)
        n_h, scale_h = normalise(dense(h, params.w_h))
        a = u.a + expand_rank(wide(params.s_h), n_h) * n_h
        c_new, (_, i, f, g, o, _, a_gates) = gates.forward(form, None, a, wide(c))
        n_c, scale_c = normalise(c_new)
        tanh_q = jnp.tanh(expand_rank(wide(params.s_c), n_c) * n_c + u.b_c)
        h_new = (o * tanh_q).astype(h.dtype)
        saved = _Saved(h, c, i, f, g, o, tanh_q, n_h, scale_h, n_c, scale_c, a_gates)
        saved = jax.tree.map(lambda x: x.astype(h.dtype), saved)
        return LstmCarry(h_new, c_new.astype(h.dtype)), h_new, saved

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, c, i, f, g, o, tanh_q, n_h, scale_h, n_c, scale_c, a_gates = saved
        d_h = d_carry.h + d_y
        d_q = d_h * o * (1 - tanh_q * tanh_q)
        d_c = d_carry.c + normalise_back(expand_rank(params.s_c, d_q) * d_q, n_c, scale_c)
        d_a, d_c = gates.backward(form, None, gates.GatesSaved(c, i, f, g, o, None, a_gates), d_h * tanh_q, d_c)
        d_p = normalise_back(expand_rank(params.s_h, d_a) * d_a, n_h, scale_h)
        return LstmCarry(dense_back(d_p, params.w_h).astype(h.dtype), d_c), _Inputs(d_a, d_q)

    def collect(params, saved, d_us):
        d_a, d_q = d_us
        d_p = normalise_back(expand_rank(params.s_h, d_a) * d_a, saved.n_h, saved.scale_h)
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros._replace(
            w_h=dense_weight(saved.h, d_p),
            s_h=total(d_a * saved.n_h, d_a.dtype),
            s_c=total(d_q * saved.n_c, d_q.dtype),
        )

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect))
