"""Mamba-2's state-space model (Dao & Gu 2024): one decay a head, so that the state is a sum of outer products.

    Δ = softplus(x w_dt + b_dt)                   one a head
    α = exp(-e^{a_log} Δ)
    v = x w_v                                     by heads
    S' = α S + (x w_b) ⊗ (Δ v)                    S [N, V] a head; x w_b and x w_c are of all heads
    y = (x w_c)ᵀ S' + d v

e^{a_log} starts uniform in [1, 16), the softplus of b_dt log-uniform in [0.001, 0.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import beside
from jaxseq.cells._decays import drawn, softplus_of_steps
from jaxseq.cells._dense import dense, wide
from jaxseq.cells._heads import by_head, flat, size_of_heads
from jaxseq.recurrences import Outer, linear_cell
from jaxseq.typing import Cell


class Mamba2Params(NamedTuple):
    """`w_v [D, H]`; `w_b`, `w_c` `[D, N]`; `w_dt [D, heads]`; `b_dt`, `a_log`, `d` `[heads]`."""

    w_v: jax.Array
    w_b: jax.Array
    w_c: jax.Array
    w_dt: jax.Array
    b_dt: jax.Array
    a_log: jax.Array
    d: jax.Array


class _Projected(NamedTuple):
    v: jax.Array
    b: jax.Array
    c: jax.Array
    dt: jax.Array


def mamba2(size: int, *, heads: int, state: int) -> Cell:
    """Returns Mamba-2's cell; its carry is the state `[B, heads, N, H / heads]`.

    Args:
      size: H.
      heads: each has H / heads of the features, and a decay of its own.
      state: N, the numbers that each feature has in the state.

    Raises:
      TypeError, ValueError: `size`, `heads` or `state` is not a positive int, `heads` does not divide `size`.

    >>> cell = mamba2(4, heads=2, state=3)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> ys.shape, carry.shape
    ((5, 4), (2, 3, 2))
    """
    return _mamba2(*size_of_heads(size, heads), check.positive_int("state", state))


@factory
def _mamba2(size, heads, state):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_v, key_b, key_c, key_w, key_dt, key_a = jax.random.split(key, 6)
        glorot = initializers.glorot_uniform()
        b_dt = drawn(softplus_of_steps, key_dt, (heads,), dtype)
        return Mamba2Params(
            w_v=glorot(key_v, (in_size, size), dtype),
            w_b=glorot(key_b, (in_size, state), dtype),
            w_c=glorot(key_c, (in_size, state), dtype),
            w_dt=glorot(key_w, (in_size, heads), dtype),
            b_dt=b_dt,
            a_log=drawn(lambda u: jnp.log(1 + 15 * u), key_a, (heads,), dtype),
            d=jnp.ones_like(b_dt),
        )

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, heads, state, size // heads), params.a_log.dtype)

    def project(params, xs):
        products = (dense(xs, w) for w in (params.w_v, params.w_b, params.w_c))
        dt = dense(xs, params.w_dt, params.b_dt)
        return _Projected(*(product.astype(xs.dtype) for product in (*products, dt)))

    def element(params, us):
        v, b, c, dt = wide(us)
        dt = jax.nn.softplus(dt)
        log_decay = -beside(jnp.exp(wide(params.a_log)), dt) * dt
        return Outer(log_decay[..., None], b[..., None, :], dt[..., None] * by_head(v, heads), c[..., None, :])

    def read(params, observed, us):
        v = by_head(wide(us.v), heads)
        return flat(observed + beside(wide(params.d)[:, None], v) * v)

    return linear_cell(size, init, carry, project, element, read)
