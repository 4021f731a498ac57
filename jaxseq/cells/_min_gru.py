"""The minimal GRU (Feng et al. 2024): the gates do not see h, so all steps can be computed at once.

u = x W_x + b                                 in the order  z n
z = σ(u_z)
h' = (1 - z) ⊙ h + z ⊙ u_n                    or candidate(u_n)
y = h'
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq.cells._activation import Activation
from jaxseq.cells._dense import dense, wide
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class MinGruParams(NamedTuple):
    """`w_x [D, 2H]`, `b [2H]`, in the order z n."""

    w_x: AnyArray
    b: AnyArray


class _Projected(NamedTuple):
    z: jax.Array
    n: jax.Array


def min_gru(size: int, *, candidate: Activation | None = None) -> Cell:
    """Returns the minimal GRU cell. Its carry is h `[B, H]`.

    Args:
      size: H.
      candidate: the activation of the candidate, any elementwise function. None: no activation.

    Raises:
      TypeError, ValueError: `size` is not a positive int, or `candidate` is not a function.

    >>> cell = min_gru(4)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> bool(jnp.all(carry == ys[-1]))
    True
    """
    if candidate is not None:
        check.function("candidate", candidate)
    return _min_gru(check.positive_int("size", size), candidate)


@factory
def _min_gru(size, candidate):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        w_x = initializers.per_gate(initializers.glorot_uniform(), 2)(key, (in_size, 2 * size), dtype)
        return MinGruParams(w_x, jnp.zeros_like(w_x[0]))

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.b.dtype)

    def project(params, xs):
        return _Projected(*jnp.split(dense(xs, params.w_x, params.b).astype(xs.dtype), 2, axis=-1))

    def element(params, us):
        u_z, u_n = wide(us)
        n = u_n if candidate is None else candidate(u_n)
        return Diagonal(jax.nn.sigmoid(-u_z), jax.nn.sigmoid(u_z) * n)

    return linear_cell(size, init, carry, project, element)
