"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).

    a_t = x_t W_x + b + h_{t-1} W_h               gates in the order  i f g o
    i_t = σ(a_i [+ w_i ⊙ c_{t-1}])                coupled:  i_t = 1 - f_t,  gates f g o
    f_t = σ(a_f [+ w_f ⊙ c_{t-1}])
    g_t = candidate(a_g)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t               clipped to ±clip
    o_t = σ(a_o [+ w_o ⊙ c_t  if peephole is "new",  + w_o ⊙ c_{t-1}  if "old"])
    m_t = o_t ⊙ tanh(c_t)
    h_t = m_t,  projected:  m_t W_p               y_t = h_t

σ is the sigmoid, or another elementwise function passed as `gate`.
The terms in brackets are the peepholes w_c = (w_i, w_f, w_o) (Gers, Schraudolph & Schmidhuber 2002; Graves 2013).
Coupled gates are the CIFG of Greff et al. 2017. Projection and clipping are those of Sak, Senior & Beaufays 2014.

Backward, with δh and δc the cotangents of h_t and c_t from the output and from step t+1. The gates' part is in
`_lstm_gates.py`:

    δm   = δh,  projected:  δh W_pᵀ
    δo   = δm ⊙ tanh(c_t)             δc += δm ⊙ o ⊙ (1 - tanh²(c_t))
    δa, δc_{t-1} = gates backward of δo, δc
    δh_{t-1} = δa W_hᵀ
    δW_h = Σ_t h_{t-1}ᵀ δa_t          δW_p = Σ_t m_tᵀ δh_t          δw_i = Σ_t δa_i ⊙ c_{t-1}, and so on

δW_p needs the δh_t of every step. The projection therefore has an input too: v_t = 0 in h_t = m_t W_p + v_t. The
cotangent of v_t is δh_t, and it comes back with those of the other inputs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq.cells import _lstm_gates as gates
from jaxseq.cells._activation import Activation
from jaxseq.cells._dense import affine_back, dense, dense_back, dense_weight, wide
from jaxseq.typing import AnyArray, Backward, Cell, Initializer


class LstmParams(NamedTuple):
    """`w_x [D, 4H]`, `w_h [H, 4H]`, `b [4H]`, gates i f g o; `w_c [3, H]`, the peepholes of i f o, or None.

    With a projection to P features, `w_h` is `[P, 4H]` and `w_p` is `[H, P]`. With coupled gates, there are 3H gate
    features, f g o, and two peepholes, f o.
    """

    w_x: AnyArray
    w_h: AnyArray
    b: AnyArray
    w_c: AnyArray | None = None
    w_p: AnyArray | None = None


class LstmCarry(NamedTuple):
    """The output `h [B, H]`, or `[B, P]` if projected, and the memory `c [B, H]`."""

    h: AnyArray
    c: AnyArray


class _Projected(NamedTuple):
    """The inputs of a step: those of the gates `[..., 4H]`, and zeros for the projection `[..., P]`."""

    a: jax.Array
    v: jax.Array


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    c: jax.Array  # c_{t-1}
    i: jax.Array | None
    f: jax.Array
    g: jax.Array
    o: jax.Array
    tanh_c: jax.Array  # of c_t
    a_g: jax.Array | None
    a_gates: jax.Array | None


def lstm(
    size: int,
    *,
    peephole: str | None = None,
    candidate: Activation = jnp.tanh,
    gate: Activation = jax.nn.sigmoid,
    projection: int | None = None,
    coupled: bool = False,
    clip: float | None = None,
    forget_bias: float | Initializer | None = 1.0,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the LSTM cell. Its carry is `LstmCarry(h, c)`.

    Args:
      size: H, the number of features of the memory, and of the output unless it is projected.
      peephole: None; "new": the gates see the memory and the output gate sees c_t (Gers, Graves, ONNX); "old": the
        output gate sees c_{t-1}.
      candidate: the activation of the candidate g, any elementwise function. Some textbooks print a sigmoid.
      gate: the activation of the gates i f o, any elementwise function. Keras 1 and 2 had a hard sigmoid.
      projection: P, the number of features of the output, which the gates see too (PyTorch's `proj_size`). None: H.
      coupled: True: one gate forgets what the other writes, i = 1 - f.
      clip: the memory is clipped to ±clip. None: it is not clipped.
      forget_bias: the value that `init` writes into the forget gate's part of `b`; the equations add nothing. An
        initialiser, such as `initializers.chrono(T)`, draws it, and the input gate gets its negative. None keeps the
        value of `bias_init`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, drawn separately for each gate.
        Defaults: Glorot-uniform, orthogonal, zeros. `input_init` also draws `w_c` and `w_p`.

    Raises:
      TypeError, ValueError: `size` or `projection` is not a positive int, `peephole` is unknown, `coupled` is not a
        bool, `clip` is not positive, or `candidate`, `gate` or an initialiser is not a function.

    >>> cell = lstm(3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> params.w_x.shape, params.b.tolist()
    ((2, 12), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    >>> def hard_sigmoid(a):                                   # of Keras 1 and 2; Keras 3's is jax.nn.hard_sigmoid
    ...     return jnp.clip(0.2 * a + 0.5, 0, 1)
    >>> old = lstm(3, gate=hard_sigmoid)
    >>> carry, y = jaxseq.step(old, params, None, jnp.ones(2))
    """
    check.one_of("peephole", peephole, (None, "new", "old"))
    check.function("candidate", candidate)
    check.function("gate", gate)
    check.one_of("coupled", coupled, (True, False))
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    size = check.positive_int("size", size)
    projection = None if projection is None else check.positive_int("projection", projection)
    clip = None if clip is None else check.positive("clip", clip)
    forget_bias = check.bias("forget_bias", forget_bias)
    return _lstm(size, peephole, candidate, gate, projection, bool(coupled), clip, forget_bias, *inits)


@factory
def _lstm(
    size, peephole, candidate, gate, projection, coupled, clip, forget_bias, input_init, recurrent_init, bias_init
):
    form = gates.GateForm(peephole, candidate, coupled, clip, gate)
    out = size if projection is None else projection

    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h, key_c = jax.random.split(key, 3)
        key_b, key_f, key_p = jax.random.split(jax.random.fold_in(key, 3), 3)
        b = initializers.per_gate(bias_init, form.gates)(key_b, (form.gates * size,), dtype)
        peepholes = form.gates - 1
        return LstmParams(
            w_x=initializers.per_gate(input_init, form.gates)(key_x, (in_size, form.gates * size), dtype),
            w_h=initializers.per_gate(recurrent_init, form.gates)(key_h, (out, form.gates * size), dtype),
            b=initializers.with_forget_bias(forget_bias, key_f, b, size),
            w_c=None if form.peephole is None else input_init(key_c, (peepholes, size), dtype),
            w_p=None if projection is None else input_init(key_p, (size, projection), dtype),
        )

    def carry(params, batch_shape=()):
        h, c = (jnp.zeros((*batch_shape, features), params.w_h.dtype) for features in (out, size))
        return LstmCarry(h, c)

    def project(params, xs):
        a = dense(xs, params.w_x, params.b).astype(xs.dtype)
        return a if projection is None else _Projected(a, jnp.zeros((*xs.shape[:-1], projection), xs.dtype))

    def project_back(params, xs, d_us):
        return affine_back(params, xs, d_us if projection is None else d_us.a)

    def fwd(params, carry, u):
        a, v = wide(u if isinstance(u, _Projected) else (u, None))
        h, c = carry
        a = a + dense(h, params.w_h)
        c_new, (_, i, f, g, o, *rest) = gates.forward(form, wide(params.w_c), a, wide(c))
        tanh_c = jnp.tanh(c_new)
        m = (o * tanh_c).astype(h.dtype)
        h_new = m
        if projection is not None:
            h_new = dense(m, params.w_p)
            h_new = (h_new if v is None else h_new + v).astype(h.dtype)
        saved = jax.tree.map(lambda x: x.astype(h.dtype), _Saved(h, c, i, f, g, o, tanh_c, *rest))
        return LstmCarry(h_new, c_new.astype(h.dtype)), h_new, saved

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, c, i, f, g, o, tanh_c, *rest = saved
        d_h = d_carry.h + d_y
        d_m = d_h if projection is None else dense_back(d_h, params.w_p).astype(h.dtype)
        d_c = d_carry.c + d_m * o * (1 - tanh_c * tanh_c)
        d_a, d_c = gates.backward(form, params.w_c, gates.GatesSaved(c, i, f, g, o, *rest), d_m * tanh_c, d_c)
        d_before = LstmCarry(dense_back(d_a, params.w_h).astype(h.dtype), d_c)
        return d_before, d_a if projection is None else _Projected(d_a, d_h)

    def collect(params, saved, d_us):
        d_a, d_h = d_us if isinstance(d_us, _Projected) else (d_us, None)
        h, c, i, f, g, o, tanh_c, *rest = saved
        gates_saved = gates.GatesSaved(c, i, f, g, o, *rest)
        return LstmParams(
            w_x=jnp.zeros_like(params.w_x),
            w_h=dense_weight(h, d_a),
            b=jnp.zeros_like(params.b),
            w_c=None if form.peephole is None else gates.peephole_gradient(form, gates_saved, d_a),
            w_p=None if d_h is None else dense_weight(o * tanh_c, d_h),
        )

    return Cell(out, init, carry, project, step, Backward(fwd, bwd, collect, project_back))
