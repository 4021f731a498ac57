"""The gated DeltaNet (Yang, Kautz & Hatamizadeh 2024): each step moves what a key reads from a matrix towards a value.

    q = unit(x w_q)        k = unit(x w_k)        v = x w_v       by heads; unit(a) = a / √(Σ a² + 10⁻⁶)
    α = exp(-e^{a_log} softplus(x w_a + b_a))                     one a head; 1 if not gated
    β = σ(x w_b)                                                  one a head; twice that if negative
    S' = α (I - β k kᵀ) S + β k vᵀ                                S [K, V] a head
    y = qᵀ S' / √K

Without the gate it is DeltaNet (Schlag, Irie & Schmidhuber 2021; Yang et al. 2024). With β up to 2, the eigenvalue
1 - β of I - β k kᵀ may be negative. A step can then flip a state, which counting modulo 2 needs (Grazzi et al. 2024).
e^{a_log} starts uniform in (0, 16], the softplus of b_a log-uniform in [0.001, 0.1).
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
from jaxseq.recurrences import Delta, linear_cell
from jaxseq.typing import AnyArray, Cell


class GatedDeltaNetParams(NamedTuple):
    """`w_q`, `w_k` `[D, heads · K]`; `w_v [D, H]`; `w_b [D, heads]`.

    If gated, also `w_a [D, heads]` and `a_log`, `b_a` `[heads]`; otherwise these are None. A block of `nn` computes the
    products itself: its cell has None for every w.
    """

    w_q: AnyArray | None
    w_k: AnyArray | None
    w_v: AnyArray | None
    w_b: AnyArray | None
    w_a: AnyArray | None = None
    a_log: AnyArray | None = None
    b_a: AnyArray | None = None


class _Projected(NamedTuple):
    q: jax.Array
    k: jax.Array
    v: jax.Array
    b: jax.Array
    a: jax.Array | None


def gated_delta_net(size: int, *, heads: int, key_size: int, gated: bool = True, negative: bool = False) -> Cell:
    """Returns the cell of the gated DeltaNet. Its carry is the matrices `[B, heads, K, H / heads]`.

    Args:
      size: H.
      heads: the number of heads; each has H / heads features.
      key_size: K, the features of a head's keys and queries.
      gated: False: the matrices do not decay, as in DeltaNet.
      negative: True: β is in (0, 2), so the recurrence may have negative eigenvalues.

    Raises:
      TypeError, ValueError: `size`, `heads` or `key_size` is not a positive int, `heads` does not divide `size`,
        `gated` or `negative` is not a bool.

    >>> cell = gated_delta_net(4, heads=2, key_size=3)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> ys.shape, carry.shape
    ((5, 4), (2, 3, 2))
    """
    check.switch("gated", gated)
    check.switch("negative", negative)
    key_size = check.positive_int("key_size", key_size)
    return _gated_delta_net(*size_of_heads(size, heads), key_size, bool(gated), bool(negative))


@factory
def _gated_delta_net(size, heads, key_size, gated, negative):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        *keys, key_w, key_own = jax.random.split(key, 6)
        glorot = initializers.glorot_uniform()
        features = (heads * key_size, heads * key_size, size, heads)
        w_q, w_k, w_v, w_b = (glorot(key, (in_size, n), dtype) for key, n in zip(keys, features, strict=True))
        if not gated:
            return GatedDeltaNetParams(w_q, w_k, w_v, w_b)
        w_a = glorot(key_w, (in_size, heads), dtype)
        return GatedDeltaNetParams(w_q, w_k, w_v, w_b, w_a, **_own(key_own, heads, dtype))

    def project(params, xs):
        products = [dense(xs, w) for w in (params.w_q, params.w_k, params.w_v, params.w_b)]
        products = [product.astype(xs.dtype) for product in products]
        return _Projected(*products, dense(xs, params.w_a, params.b_a).astype(xs.dtype) if gated else None)

    return _cell(size, heads, heads, key_size, gated, negative, init, project)


@factory
def projected_gated_delta_net(size: int, heads: int, key_heads: int, key_size: int) -> Cell:
    """Returns the cell of a block. Its inputs are projections of x: `[q | k | v | b | a]`.

    The params are `a_log` and `b_a`. `key_heads` divides `heads`; neighbouring heads share a query and a key.
    """
    keys = key_heads * key_size
    places = list(itertools.accumulate((keys, keys, size, heads)))

    def init(key, in_size, dtype=None):
        same_size("projected_gated_delta_net", places[-1] + heads, in_size)
        return GatedDeltaNetParams(None, None, None, None, **_own(key, heads, dtype))

    def project(params, xs):
        q, k, v, b, a = jnp.split(xs, places, axis=-1)
        return _Projected(q, k, v, b, a + expand_rank(params.b_a, a))

    return _cell(size, heads, key_heads, key_size, True, False, init, project)


def _own(key, heads, dtype):
    """Returns the params of the recurrence itself, by name."""
    key_log, key_dt = jax.random.split(key)
    a_log = drawn(lambda u: jnp.log(16 * (1 - u)), key_log, (heads,), dtype)
    return {"a_log": a_log, "b_a": drawn(softplus_of_steps, key_dt, (heads,), dtype)}


def _cell(size, heads, key_heads, key_size, gated, negative, init, project):
    def carry(params, batch_shape=()):
        dtype = next(leaf.dtype for leaf in params if leaf is not None)
        return jnp.zeros((*batch_shape, heads, key_size, size // heads), dtype)

    def unit(a):
        a = _unit(by_head(a, key_heads))
        return a if key_heads == heads else jnp.repeat(a, heads // key_heads, axis=-2)

    def element(params, us):
        q, k, v, b, a = wide(us)
        beta = jax.nn.sigmoid(b)
        log_decay = jnp.zeros_like(b)
        if gated:
            log_decay = -expand_rank(jnp.exp(wide(params.a_log)), a) * jax.nn.softplus(a)
        return Delta(log_decay, 2 * beta if negative else beta, unit(k), by_head(v, heads), unit(q))

    def read(params, observed, us):
        return flat(observed) / key_size**0.5

    return linear_cell(size, init, carry, project, element, read)


def _unit(a):
    return a * jax.lax.rsqrt(jnp.sum(a * a, axis=-1, keepdims=True) + 1e-6)
