"""The minimal LSTM (Feng et al. 2024): the gates do not see h and sum to 1, so h has the scale of u_n.

    u = x W_x + b                                 in the order  f i n
    f = σ(u_f)        i = σ(u_i)
    h' = f / (f + i) ⊙ h + i / (f + i) ⊙ u_n
    y = h'

f / (f + i) is computed as σ(log σ(u_f) - log σ(u_i)), which does not become 0 / 0 if both gates are closed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq.cells._dense import dense, wide
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class MinLstmParams(NamedTuple):
    """`w_x [D, 3H]`, `b [3H]`, in the order f i n."""

    w_x: AnyArray
    b: AnyArray


class _Projected(NamedTuple):
    f: jax.Array
    i: jax.Array
    n: jax.Array


def min_lstm(size: int) -> Cell:
    """Returns the minimal LSTM cell. Its carry is h `[B, H]`.

    Args:
      size: H.

    Raises:
      TypeError, ValueError: `size` is not a positive int.

    >>> cell = min_lstm(4)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> bool(jnp.all(carry == ys[-1]))
    True
    """
    return _min_lstm(check.positive_int("size", size))


@factory
def _min_lstm(size):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        w_x = initializers.per_gate(initializers.glorot_uniform(), 3)(key, (in_size, 3 * size), dtype)
        return MinLstmParams(w_x, jnp.zeros_like(w_x[0]))

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.b.dtype)

    def project(params, xs):
        return _Projected(*jnp.split(dense(xs, params.w_x, params.b).astype(xs.dtype), 3, axis=-1))

    def element(params, us):
        u_f, u_i, u_n = wide(us)
        odds = jax.nn.log_sigmoid(u_f) - jax.nn.log_sigmoid(u_i)
        return Diagonal(jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * u_n)

    return linear_cell(size, init, carry, project, element)
