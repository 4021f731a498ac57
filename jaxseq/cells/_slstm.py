"""sLSTM: the LSTM with exponential gates, a normaliser and a stabiliser (xLSTM; Beck et al. 2024).

    a_t = x_t W_x + b + h_{t-1} W_h               gates in the order  i f g o, W_h block-diagonal, one block per head
    i_t = exp(a_i)      f_t = σ(a_f) or exp(a_f)      g_t = tanh(a_g)      o_t = σ(a_o)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    n_t = f_t ⊙ n_{t-1} + i_t
    h_t = o_t ⊙ c_t / n_t                         y_t = h_t

The state is computed as c exp(-m) and n exp(-m). This does not change h and never overflows:

    m_t = max(log f_t + m_{t-1}, a_i)     i'_t = exp(a_i - m_t)     f'_t = exp(log f_t + m_{t-1} - m_t)

If nothing has been written (n = 0), the first argument of the maximum, κ_t, is -∞. From then on n_t ≥ 1.

Backward, with δh, δc, δn, δm the cotangents of the results of step t, and s = 1 if κ_t is the larger, 0 if a_i is:

    δo  = δh ⊙ c_t / n_t        δc += δh ⊙ o / n_t        δn -= δh ⊙ h_t / n_t
    δκ  = (δc ⊙ c_{t-1} + δn ⊙ n_{t-1}) ⊙ f'              δa_i = (δc ⊙ g + δn) ⊙ i'
    δm -= δκ + δa_i             δκ += s ⊙ δm              δa_i += (1 - s) ⊙ δm
    δa_f = δκ ⊙ (1 - σ(a_f)), exponential: δκ             δa_g = δc ⊙ i' ⊙ (1 - g²)       δa_o = δo ⊙ o (1 - o)
    δc_{t-1} = δc ⊙ f'          δn_{t-1} = δn ⊙ f'        δm_{t-1} = δκ                   δh_{t-1} = δa W_hᵀ
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank, widen
from jaxseq.cells._activation import sigmoid
from jaxseq.cells._dense import affine_back, dense, wide
from jaxseq.cells._heads import same_size, size_of_heads
from jaxseq.typing import AnyArray, Backward, Cell, Initializer


class SlstmParams(NamedTuple):
    """`w_x [D, 4H]`, `b [4H]`, gates i f g o; `w_h [heads, H / heads, 4H / heads]`, per head its gates i f g o.

    A block of `nn` computes the product with x itself: its cell has None for `w_x`.
    """

    w_x: AnyArray | None
    w_h: AnyArray
    b: AnyArray


class SlstmCarry(NamedTuple):
    """`[B, H]` each: the output h; the memory c and the normaliser n, both times exp(-m); the stabiliser m."""

    h: AnyArray
    c: AnyArray
    n: AnyArray
    m: AnyArray


class _Saved(NamedTuple):
    h: jax.Array  # h_{t-1}
    c: jax.Array  # c_{t-1}
    n: jax.Array  # n_{t-1}
    i: jax.Array  # stabilised, like f
    f: jax.Array
    g: jax.Array
    o: jax.Array
    slope: jax.Array | None  # d log f / d a_f; None: 1
    share: jax.Array  # d m_t / d κ_t


def slstm(
    size: int,
    *,
    heads: int = 1,
    forget: str = "sigmoid",
    forget_bias: float | Initializer | None = 1.0,
    input_init: Initializer = initializers.glorot_uniform(),
    recurrent_init: Initializer = initializers.orthogonal(),
    bias_init: Initializer = jax.nn.initializers.zeros,
) -> Cell:
    """Returns the sLSTM cell. Its carry is `SlstmCarry(h, c, n, m)`.

    In a learned initial carry only h is learned: n = 0 means that the memory is empty.

    Args:
      size: H.
      heads: the number of heads. The recurrent weights connect only units of the same head.
      forget: the forget gate's activation, "sigmoid" or "exponential".
      forget_bias: the value that `init` writes into the forget gate's part of `b`, as for `jaxseq.lstm`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, drawn separately for each gate
        and head. Defaults: Glorot-uniform, orthogonal, zeros.

    Raises:
      TypeError, ValueError: `size` or `heads` is not a positive int, `heads` does not divide `size`, `forget` is
        unknown, or an initialiser is not a function.

    >>> cell = slstm(4, heads=2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> params.w_h.shape
    (2, 2, 8)
    """
    size, heads = size_of_heads(size, heads)
    check.one_of("forget", forget, ("sigmoid", "exponential"))
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    return _slstm(size, heads, forget, check.bias("forget_bias", forget_bias), *inits)


@factory
def _slstm(size, heads, forget, forget_bias, input_init, recurrent_init, bias_init):
    inits = input_init, recurrent_init, bias_init
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 4) for initializer in inits)

    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_own = jax.random.split(key)
        own = _own(key_own, size, heads, forget_bias, recurrent_init, bias_init, dtype)
        return SlstmParams(input_init(key_x, (in_size, 4 * size), dtype), *own)

    def project(params, xs):
        return dense(xs, params.w_x, params.b).astype(xs.dtype)

    return _cell(size, heads, forget, init, project, affine_back)


@factory
def projected_slstm(size: int, heads: int) -> Cell:
    """Returns the cell of a block. Its inputs are projections of x, `[..., 4H]`, gates i f g o.

    The params are `w_h` and `b`.
    """

    def init(key, in_size, dtype=None):
        same_size("projected_slstm", 4 * size, in_size)
        recurrent_init, bias_init = initializers.orthogonal(), jax.nn.initializers.zeros
        recurrent_init, bias_init = (initializers.per_gate(each, 4) for each in (recurrent_init, bias_init))
        return SlstmParams(None, *_own(key, size, heads, 1.0, recurrent_init, bias_init, dtype))

    def project(params, xs):
        return xs + expand_rank(params.b, xs)

    return _cell(size, heads, "sigmoid", init, project, None)


def _own(key, size, heads, forget_bias, recurrent_init, bias_init, dtype):
    """Returns the params of the recurrence itself: `w_h` and `b`."""
    key_h, key_b, key_f = jax.random.split(key, 3)
    width = size // heads
    w_h = jnp.stack([recurrent_init(key, (width, 4 * width), dtype) for key in jax.random.split(key_h, heads)])
    return w_h, initializers.with_forget_bias(forget_bias, key_f, bias_init(key_b, (4 * size,), dtype), size)


def _cell(size, heads, forget, init, project, project_back):
    width = size // heads

    def carry(params, batch_shape=()):
        return SlstmCarry(*(jnp.zeros((*batch_shape, size), params.w_h.dtype) for _ in SlstmCarry._fields))

    def by_head(a):
        """Returns `[..., 4H]`, ordered by gate, as `[..., heads, 4H / heads]`, ordered by head."""
        a = a.reshape(*a.shape[:-1], 4, heads, width)
        return jnp.swapaxes(a, -3, -2).reshape(*a.shape[:-3], heads, 4 * width)

    def by_gate(a):
        """Returns the inverse of `by_head`."""
        a = a.reshape(*a.shape[:-1], 4, width)
        return jnp.swapaxes(a, -3, -2).reshape(*a.shape[:-3], 4 * size)

    def heads_of(h):
        return h.reshape(*h.shape[:-1], heads, width)

    def fwd(params, carry, u):
        h, c, n, m = carry
        sums = widen(h.dtype)
        recurrent = jnp.einsum("...hi,hio->...ho", heads_of(h), params.w_h, preferred_element_type=sums)
        a = wide(u) + by_gate(recurrent)
        saved_c, saved_n, (c, n, m) = c, n, wide((c, n, m))
        a_i, a_f, a_g, _ = jnp.split(a, 4, axis=-1)
        _, slope, _, o = jnp.split(sigmoid(a), 4, axis=-1)
        log_f, slope = (jax.nn.log_sigmoid(a_f), 1 - slope) if forget == "sigmoid" else (a_f, None)
        kept = jnp.where(n > 0, log_f + m, -jnp.inf)
        m_new = jnp.maximum(kept, a_i)
        f, i, g = jnp.exp(kept - m_new), jnp.exp(a_i - m_new), jnp.tanh(a_g)
        c_new, n_new = f * c + i * g, f * n + i
        new = SlstmCarry(o * c_new / n_new, c_new, n_new, m_new)
        share = jnp.where(kept > a_i, 1.0, jnp.where(kept == a_i, 0.5, 0.0))
        saved = _Saved(h, saved_c, saved_n, i, f, g, o, slope, share)
        new, saved = jax.tree.map(lambda x: x.astype(h.dtype), (new, saved))
        return new, new.h, saved

    def step(params, carry, u):
        carry, y, _ = fwd(params, carry, u)
        return carry, y

    def bwd(params, saved, d_carry, d_y):
        h, c, n, i, f, g, o, slope, share = saved
        n_new = f * n + i
        ratio = (f * c + i * g) / n_new
        d_h = d_carry.h + d_y
        d_c = d_carry.c + d_h * o / n_new
        d_n = d_carry.n - d_h * o * ratio / n_new
        d_kept, d_i = (d_c * c + d_n * n) * f, (d_c * g + d_n) * i
        d_m = d_carry.m - d_kept - d_i
        d_kept = jnp.where(n > 0, d_kept + share * d_m, 0)
        d_i = d_i + (1 - share) * d_m
        d_f = d_kept if slope is None else d_kept * slope
        d_a = jnp.concatenate([d_i, d_f, d_c * i * (1 - g * g), d_h * ratio * o * (1 - o)], axis=-1)
        d_h = jnp.einsum("...ho,hio->...hi", by_head(d_a), params.w_h).reshape(h.shape)
        return SlstmCarry(d_h, d_c * f, d_n * f, d_kept), d_a

    def collect(params, saved, d_us):
        h, d_a = (x.reshape(-1, *x.shape[-2:]) for x in (heads_of(saved.h), by_head(d_us)))
        w_h = jnp.einsum("thi,tho->hio", h, d_a, preferred_element_type=widen(h.dtype)).astype(h.dtype)
        return jax.tree.map(jnp.zeros_like, params)._replace(w_h=w_h)

    return Cell(size, init, carry, project, step, Backward(fwd, bwd, collect, project_back))
