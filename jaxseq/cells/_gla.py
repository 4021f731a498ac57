"""Gated linear attention (Yang et al. 2023): one matrix per head. Each row of the matrix has its own decay.

q = x w_q        k = x w_k        v = x w_v               by heads
α = σ(x w_1 w_2 + b)^{1/16}                               by heads; w_1 w_2 of rank 16
S' = Diag(α) S + k vᵀ                                     S [K, V] a head
y = qᵀ S' / √K
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq.cells._dense import dense, wide
from jaxseq.cells._heads import by_head, flat, size_of_heads
from jaxseq.recurrences import Outer, linear_cell
from jaxseq.typing import AnyArray, Cell

RANK = 16


class GlaParams(NamedTuple):
    """`w_q`, `w_k` `[D, heads · K]`; `w_v [D, H]`; `w_1 [D, 16]`, `w_2 [16, heads · K]`, `b [heads · K]`."""

    w_q: AnyArray
    w_k: AnyArray
    w_v: AnyArray
    w_1: AnyArray
    w_2: AnyArray
    b: AnyArray


class _Projected(NamedTuple):
    q: jax.Array
    k: jax.Array
    v: jax.Array
    decay: jax.Array


def gla(size: int, *, heads: int, key_size: int) -> Cell:
    """Returns the cell of gated linear attention. Its carry is the matrices `[B, heads, K, H / heads]`.

    Args:
      size: H.
      heads: the number of heads; each has H / heads features.
      key_size: K, the features of a head's keys and queries.

    Raises:
      TypeError, ValueError: `size`, `heads` or `key_size` is not a positive int, or `heads` does not divide `size`.

    >>> cell = gla(4, heads=2, key_size=3)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> ys.shape, carry.shape
    ((5, 4), (2, 3, 2))
    """
    return _gla(*size_of_heads(size, heads), check.positive_int("key_size", key_size))


@factory
def _gla(size, heads, key_size):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        glorot, keys = initializers.glorot_uniform(), heads * key_size
        shapes = [(in_size, keys), (in_size, keys), (in_size, size), (in_size, RANK), (RANK, keys)]
        w = [glorot(key, shape, dtype) for key, shape in zip(jax.random.split(key, 5), shapes, strict=True)]
        return GlaParams(*w, b=jnp.zeros_like(w[-1][0]))

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, heads, key_size, size // heads), params.b.dtype)

    def project(params, xs):
        low = dense(xs, params.w_1).astype(xs.dtype)
        products = [dense(xs, w) for w in (params.w_q, params.w_k, params.w_v)]
        return _Projected(*(p.astype(xs.dtype) for p in (*products, dense(low, params.w_2, params.b))))

    def element(params, us):
        q, k, v, decay = (by_head(u, heads) for u in wide(us))
        return Outer(jax.nn.log_sigmoid(decay) / 16, k, v, q)

    def read(params, observed, us):
        return flat(observed) / key_size**0.5

    return linear_cell(size, init, carry, project, element, read)
