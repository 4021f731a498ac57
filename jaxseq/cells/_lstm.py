"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).

    a_t = x_t W_x + b + h_{t-1} W_h               gates in the order  i f g o
    i_t = σ(a_i [+ w_i ⊙ c_{t-1}])
    f_t = σ(a_f [+ w_f ⊙ c_{t-1}])
    g_t = candidate(a_g)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    o_t = σ(a_o [+ w_o ⊙ c_t  if peephole is "new",  + w_o ⊙ c_{t-1}  if "old"])
    h_t = o_t ⊙ tanh(c_t)                         y_t = h_t

The terms in brackets are the peepholes w_c = (w_i, w_f, w_o) (Gers, Schraudolph & Schmidhuber 2002; Graves 2013).

Backward, with δh and δc the cotangents of h_t and c_t from the output and from step t+1:

    δa_o = δh ⊙ tanh(c_t) ⊙ o (1 - o)
    δc  += δh ⊙ o ⊙ (1 - tanh²(c_t))  [+ δa_o ⊙ w_o  if "new"]
    δa_i = δc ⊙ g ⊙ i (1 - i)         δa_f = δc ⊙ c_{t-1} ⊙ f (1 - f)         δa_g = δc ⊙ i ⊙ candidate'(a_g)
    δc_{t-1} = δc ⊙ f  [+ δa_i ⊙ w_i + δa_f ⊙ w_f  [+ δa_o ⊙ w_o  if "old"]]
    δh_{t-1} = δa W_hᵀ
    δW_h = Σ_t h_{t-1}ᵀ δa_t          δw_i = Σ_t δa_i ⊙ c_{t-1}, and so on
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq.cells._activation import Activation, activation_back, remember, sigmoid
from jaxseq.cells._dense import dense, dense_back, dense_weight, total
from jaxseq.typing import Backward, Cell


class LstmParams(NamedTuple):
    """`w_x [D, 4H]`, `w_h [H, 4H]`, `b [4H]`, gates i f g o; `w_c [3, H]`, the peepholes of i f o, or None."""

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    w_c: jax.Array | None = None


class LstmCarry(NamedTuple):
    """The output `h [B, H]` and the memory `c [B, H]`."""

    h: jax.Array
    c: jax.Array


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    c: jax.Array  # c_{t-1}
    i: jax.Array
    f: jax.Array
    g: jax.Array
    o: jax.Array
    tanh_c: jax.Array  # of c_t
    a_g: jax.Array | None


def lstm(size: int, *, peephole: str | None = None, candidate: Activation = jnp.tanh, forget_bias: float = 1.0) -> Cell:
    """Returns the LSTM cell; its carry is `LstmCarry(h, c)`.

    Args:
      size: H.
      peephole: None; "new": the gates see the memory, the output gate c_t (Gers, Graves, ONNX); "old": the output gate
        sees c_{t-1}.
      candidate: the activation of the candidate g, any elementwise function; some textbooks print a sigmoid.
      forget_bias: what `init` writes into the forget gate's part of `b`; the equations add nothing.

    Raises:
      TypeError, ValueError: `size` is not a positive int, `peephole` unknown, `candidate` not a function.

    >>> cell = lstm(3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> params.w_x.shape, params.b.tolist()
    ((2, 12), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    """
    check.one_of("peephole", peephole, (None, "new", "old"))
    check.function("candidate", candidate)
    return _lstm(check.positive_int("size", size), peephole, candidate, float(forget_bias))


@functools.cache
def _lstm(size, peephole, candidate, forget_bias):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h, key_c = jax.random.split(key, 3)
        glorot = initializers.glorot_uniform()
        return LstmParams(
            w_x=initializers.per_gate(glorot, 4)(key_x, (in_size, 4 * size), dtype),
            w_h=initializers.per_gate(initializers.orthogonal(), 4)(key_h, (size, 4 * size), dtype),
            b=jnp.zeros(4 * size, dtype).at[size : 2 * size].set(forget_bias),
            w_c=None if peephole is None else glorot(key_c, (3, size), dtype),
        )

    def carry(params, batch_shape=()):
        h, c = (jnp.zeros((*batch_shape, size), params.w_h.dtype) for _ in range(2))  # two buffers, for donation
        return LstmCarry(h, c)

    def project(params, xs):
        return (dense(xs, params.w_x) + params.b).astype(xs.dtype)

    def peepholes(w_c, c):
        """What the gates see of c_{t-1}, in the order of the gates."""
        none = jnp.zeros_like(c)
        return jnp.concatenate([w_c[0] * c, w_c[1] * c, none, w_c[2] * c if peephole == "old" else none], axis=-1)

    def fwd(params, carry, u):
        h, c = carry
        a = u + dense(h, params.w_h)
        if peephole is not None:
            a = a + peepholes(params.w_c, c)
        i, f, _, o = jnp.split(sigmoid(a), 4, axis=-1)  # one pass over the whole block is faster than one a gate
        _, _, a_g, a_o = jnp.split(a, 4, axis=-1)
        g = candidate(a_g)
        c_new = f * c + i * g
        if peephole == "new":
            o = sigmoid(a_o + params.w_c[2] * c_new)
        tanh_c = jnp.tanh(c_new)
        h_new = (o * tanh_c).astype(h.dtype)
        saved = _Saved(h, c, i, f, g, o, tanh_c, remember(candidate, a_g))
        saved = jax.tree.map(lambda x: x.astype(h.dtype), saved)
        return LstmCarry(h_new, c_new.astype(h.dtype)), h_new, saved

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        w_c = params.w_c
        h, c, i, f, g, o, tanh_c, a_g = saved
        d_h = d_carry.h + d_y
        d_o = d_h * tanh_c * o * (1 - o)
        d_c = d_carry.c + d_h * o * (1 - tanh_c * tanh_c)
        if peephole == "new":
            d_c = d_c + d_o * w_c[2]
        d_i = d_c * g * i * (1 - i)
        d_f = d_c * c * f * (1 - f)
        d_g = activation_back(candidate, d_c * i, g, a_g)
        d_c_before = d_c * f
        if peephole is not None:
            d_c_before = d_c_before + d_i * w_c[0] + d_f * w_c[1]
        if peephole == "old":
            d_c_before = d_c_before + d_o * w_c[2]
        d_a = jnp.concatenate([d_i, d_f, d_g, d_o], axis=-1)
        d_h_before = dense_back(d_a, params.w_h).astype(h.dtype)
        return LstmCarry(d_h_before, d_c_before), d_a

    def collect(params, saved, d_us):
        return LstmParams(
            w_x=jnp.zeros_like(params.w_x),
            w_h=dense_weight(saved.h, d_us),
            b=jnp.zeros_like(params.b),
            w_c=None if peephole is None else peephole_gradient(saved, d_us),
        )

    def peephole_gradient(saved, d_us):
        d_i, d_f, _, d_o = jnp.split(d_us, 4, axis=-1)
        seen = saved.f * saved.c + saved.i * saved.g if peephole == "new" else saved.c
        rows = (d_i * saved.c, d_f * saved.c, d_o * seen)
        return jnp.stack([total(row, row.dtype) for row in rows])

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect))
