"""Mamba-2's state-space model (Dao & Gu 2024): one decay per head, so the state is a sum of outer products.

    Δ = softplus(x w_dt + b_dt)                   one per head
    α = exp(-e^{a_log} Δ)
    v = x w_v                                     by heads
    S' = α S + (x w_b) ⊗ (Δ v)                    S [N, V] per head; all heads share x w_b and x w_c
    y = (x w_c)ᵀ S' + d v

e^{a_log} starts uniform in [1, 16), the softplus of b_dt log-uniform in [0.001, 0.1).
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._decays import drawn, softplus_of_steps
from jaxseq.cells._dense import dense, wide
from jaxseq.cells._heads import by_head, flat, same_size, size_of_heads
from jaxseq.recurrences import Outer, linear_cell
from jaxseq.typing import AnyArray, Cell


class Mamba2Params(NamedTuple):
    """`w_v [D, H]`; `w_b`, `w_c` `[D, N]`; `w_dt [D, heads]`; `b_dt`, `a_log`, `d` `[heads]`.

    A block of `nn` computes the products itself: its cell has None for every w.
    """

    w_v: AnyArray | None
    w_b: AnyArray | None
    w_c: AnyArray | None
    w_dt: AnyArray | None
    b_dt: AnyArray
    a_log: AnyArray
    d: AnyArray


class _Projected(NamedTuple):
    v: jax.Array
    b: jax.Array
    c: jax.Array
    dt: jax.Array


def mamba2(size: int, *, heads: int, state: int) -> Cell:
    """Returns Mamba-2's cell. Its carry is the state `[B, heads, N, H / heads]`.

    Args:
      size: H.
      heads: the number of heads; each has H / heads features and its own decay.
      state: N, the number of state entries per feature.

    Raises:
      TypeError, ValueError: `size`, `heads` or `state` is not a positive int, or `heads` does not divide `size`.

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
        *keys, key_own = jax.random.split(key, 5)
        glorot, features = initializers.glorot_uniform(), (size, state, state, heads)
        weights = (glorot(key, (in_size, n), dtype) for key, n in zip(keys, features, strict=True))
        return Mamba2Params(*weights, **_own(key_own, heads, dtype))

    def project(params, xs):
        products = (dense(xs, w) for w in (params.w_v, params.w_b, params.w_c))
        dt = dense(xs, params.w_dt, params.b_dt)
        return _Projected(*(product.astype(xs.dtype) for product in (*products, dt)))

    return _cell(size, heads, state, 1, init, project)


@factory
def projected_mamba2(size: int, heads: int, state: int, groups: int) -> Cell:
    """Returns the cell of a block. Its inputs are projections of x: `[v | b | c | dt]`, with b and c for each group.

    The params are `b_dt`, `a_log` and `d`. `groups` divides `heads`; each head has H / heads features of v.
    """
    places = list(itertools.accumulate((size, groups * state, groups * state)))

    def init(key, in_size, dtype=None):
        same_size("projected_mamba2", places[-1] + heads, in_size)
        nothing = dict.fromkeys(("w_v", "w_b", "w_c", "w_dt"))
        return Mamba2Params(**nothing, **_own(key, heads, dtype))

    def project(params, xs):
        us = _Projected(*jnp.split(xs, places, axis=-1))
        return us._replace(dt=us.dt + expand_rank(params.b_dt, us.dt))

    return _cell(size, heads, state, groups, init, project)


def _own(key, heads, dtype):
    """Returns the params of the recurrence itself, by name."""
    key_dt, key_a = jax.random.split(key)
    b_dt = drawn(softplus_of_steps, key_dt, (heads,), dtype)
    a_log = drawn(lambda u: jnp.log(1 + 15 * u), key_a, (heads,), dtype)
    return {"b_dt": b_dt, "a_log": a_log, "d": jnp.ones_like(b_dt)}


def _cell(size, heads, state, groups, init, project):
    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, heads, state, size // heads), params.a_log.dtype)

    def of_heads(a):
        """Returns `[..., groups · N]` as `[..., heads, N]`. A single group becomes an axis of size 1."""
        a = by_head(a, groups)
        return a if groups == 1 else jnp.repeat(a, heads // groups, axis=-2)

    def element(params, us):
        v, b, c, dt = wide(us)
        dt = jax.nn.softplus(dt)
        log_decay = -expand_rank(jnp.exp(wide(params.a_log)), dt) * dt
        return Outer(log_decay[..., None], of_heads(b), dt[..., None] * by_head(v, heads), of_heads(c))

    def read(params, observed, us):
        v = by_head(wide(us.v), heads)
        return flat(observed + expand_rank(wide(params.d)[:, None], v) * v)

    return linear_cell(size, init, carry, project, element, read)
