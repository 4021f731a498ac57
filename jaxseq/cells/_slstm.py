"""sLSTM: the LSTM with exponential gates, a normaliser and a stabiliser (xLSTM; Beck et al. 2024).

    a_t = x_t W_x + b + h_{t-1} W_h               gates in the order  i f g o, W_h block-diagonal, one block a head
    i_t = exp(a_i)      f_t = σ(a_f) or exp(a_f)      g_t = tanh(a_g)      o_t = σ(a_o)
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
    n_t = f_t ⊙ n_{t-1} + i_t
    h_t = o_t ⊙ c_t / n_t                         y_t = h_t

Computed on c exp(-m) and n exp(-m), which leaves h as it is and overflows nowhere:

    m_t = max(log f_t + m_{t-1}, a_i)     i'_t = exp(a_i - m_t)     f'_t = exp(log f_t + m_{t-1} - m_t)

Where nothing has been written, n = 0, the first of the two is -∞. Then n_t ≥ 1 ever after. JAX differentiates the loop.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq.cells._activation import sigmoid
from jaxseq.cells._dense import dense, widen
from jaxseq.typing import Cell, Initializer


class SlstmParams(NamedTuple):
    """`w_x [D, 4H]`, `b [4H]`, gates i f g o; `w_h [heads, H / heads, 4H / heads]`, in each head its gates i f g o."""

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array


class SlstmCarry(NamedTuple):
    """`[B, H]` each: the output h; the memory c and the normaliser n, both times exp(-m); the stabiliser m."""

    h: jax.Array
    c: jax.Array
    n: jax.Array
    m: jax.Array


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
    """Returns the sLSTM cell; its carry is `SlstmCarry(h, c, n, m)`.

    Args:
      size: H.
      heads: the recurrent weights connect a unit with those of its own head only.
      forget: the forget gate's activation, "sigmoid" or "exponential".
      forget_bias: what `init` writes into the forget gate's part of `b`, as for `jaxseq.lstm`.
      input_init, recurrent_init, bias_init: the initialisers of `w_x`, `w_h` and `b`, each gate and head drawn apart.

    Raises:
      TypeError, ValueError: `size` or `heads` is not a positive int, `heads` does not divide `size`, `forget` unknown,
        an initialiser not a function.

    >>> cell = slstm(4, heads=2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> params.w_h.shape
    (2, 2, 8)
    """
    size, heads = check.positive_int("size", size), check.positive_int("heads", heads)
    if size % heads:
        raise ValueError(f"`heads` must divide `size`; got {heads} heads of {size} features")
    check.one_of("forget", forget, ("sigmoid", "exponential"))
    inits = check.initializers(input_init=input_init, recurrent_init=recurrent_init, bias_init=bias_init)
    return _slstm(size, heads, forget, check.bias("forget_bias", forget_bias), inits)


@functools.cache
def _slstm(size, heads, forget, forget_bias, inits):
    input_init, recurrent_init, bias_init = (initializers.per_gate(initializer, 4) for initializer in inits)
    width = size // heads

    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_x, key_h, key_b, key_f = jax.random.split(key, 4)
        keys = jax.random.split(key_h, heads)
        b = bias_init(key_b, (4 * size,), dtype)
        return SlstmParams(
            w_x=input_init(key_x, (in_size, 4 * size), dtype),
            w_h=jnp.stack([recurrent_init(key, (width, 4 * width), dtype) for key in keys]),
            b=initializers.with_forget_bias(forget_bias, key_f, b, size),
        )

    def carry(params, batch_shape=()):
        return SlstmCarry(*(jnp.zeros((*batch_shape, size), params.w_h.dtype) for _ in SlstmCarry._fields))

    def project(params, xs):
        return (dense(xs, params.w_x) + params.b).astype(xs.dtype)

    def recur(params, h):
        """Returns h W_h `[..., 4H]`, gate by gate, of all heads."""
        per_head = h.reshape(*h.shape[:-1], heads, width)
        a = jnp.einsum("...hi,hio->...ho", per_head, params.w_h, preferred_element_type=widen(h.dtype))
        a = a.reshape(*h.shape[:-1], heads, 4, width)
        return jnp.swapaxes(a, -3, -2).reshape(*h.shape[:-1], 4 * size)

    def step(params, carry, u):
        h, c, n, m = carry
        a_i, a_f, a_g, a_o = jnp.split(u + recur(params, h), 4, axis=-1)
        log_f = jax.nn.log_sigmoid(a_f) if forget == "sigmoid" else a_f
        kept = jnp.where(n > 0, log_f + m, -jnp.inf)
        m_new = jnp.maximum(kept, a_i)
        f, i = jnp.exp(kept - m_new), jnp.exp(a_i - m_new)
        c_new = f * c + i * jnp.tanh(a_g)
        n_new = f * n + i
        h_new = sigmoid(a_o) * c_new / n_new
        carry = jax.tree.map(lambda x: x.astype(h.dtype), SlstmCarry(h_new, c_new, n_new, m_new))
        return carry, carry.h

    return Cell(size, init, carry, project, step)
