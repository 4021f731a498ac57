"""mLSTM: a matrix memory with exponential gates, a normaliser and a stabiliser (xLSTM; Beck et al. 2024).

    q = x w_q        k = x w_k        v = x w_v               by heads
    ĩ = x w_i + b_i        f̃ = log σ(x w_f + b_f)             one per head
    m' = max(f̃ + m, ĩ)        f = e^{f̃+m-m'}        i = e^{ĩ-m'}
    C' = f C + i (k/√K) vᵀ        n' = f n + i k/√K           C [K, V], n [K] per head
    y = σ(x w_o + b_o) ⊙ (qᵀ C') / max(|qᵀ n'|, e^{-m'})

C and n are the memory and its normaliser, both times e^{-m}. This never overflows and does not change y: for the plain
memory and normaliser, the divisor is max(|qᵀ n|, 1). The gates do not see x at first: w_i and w_f start at 0, b_f goes
from 3 to 6 over the heads, and b_i ~ N(0, 0.1²).
"""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._dense import dense, wide
from jaxseq.cells._heads import by_head, flat, same_size, size_of_heads
from jaxseq.recurrences import ScaledOuter, linear_cell
from jaxseq.typing import AnyArray, Cell


class MlstmParams(NamedTuple):
    """`w_q`, `w_k` `[D, heads · K]`, `w_v [D, H]`; the gates' `w_i`, `w_f` `[D, heads]`, `b_i`, `b_f` `[heads]`.

    `w_o [D, H]`, `b_o [H]`. A block of `nn` computes the products itself and has its own output gate: its cell has None
    for every w and for `b_o`.
    """

    w_q: AnyArray | None
    w_k: AnyArray | None
    w_v: AnyArray | None
    w_i: AnyArray | None
    w_f: AnyArray | None
    b_i: AnyArray
    b_f: AnyArray
    w_o: AnyArray | None
    b_o: AnyArray | None


class MlstmCarry(NamedTuple):
    """The memory `c [B, heads, K, V]` and the normaliser `n [B, heads, K]`, both times e^{-m}; `m [B, heads]`."""

    c: AnyArray
    n: AnyArray
    m: AnyArray


class _Projected(NamedTuple):
    q: jax.Array
    k: jax.Array
    v: jax.Array
    i: jax.Array
    f: jax.Array
    o: jax.Array | None


def mlstm(size: int, *, heads: int, key_size: int | None = None) -> Cell:
    """Returns the mLSTM cell. Its carry is `MlstmCarry(c, n, m)`.

    Args:
      size: H.
      heads: the number of heads; each has H / heads features and its own gates.
      key_size: K, the features of a head's keys and queries. None: H / heads.

    Raises:
      TypeError, ValueError: `size`, `heads` or `key_size` is not a positive int, or `heads` does not divide `size`.

    >>> cell = mlstm(4, heads=2)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> ys.shape, carry.c.shape, carry.n.shape, carry.m.shape
    ((5, 4), (2, 2, 2), (2, 2), (2,))
    """
    size, heads = size_of_heads(size, heads)
    return _mlstm(size, heads, size // heads if key_size is None else check.positive_int("key_size", key_size))


@factory
def _mlstm(size, heads, key_size):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        *keys, key_i = jax.random.split(key, 5)
        features = (heads * key_size, heads * key_size, size, size)
        glorot = initializers.glorot_uniform()
        w_q, w_k, w_v, w_o = (glorot(key, (in_size, n), dtype) for key, n in zip(keys, features, strict=True))
        return MlstmParams(
            w_q=w_q,
            w_k=w_k,
            w_v=w_v,
            w_i=jnp.zeros((in_size, heads), w_q.dtype),
            w_f=jnp.zeros((in_size, heads), w_q.dtype),
            **_own(key_i, heads, dtype),
            w_o=w_o,
            b_o=jnp.zeros(size, w_q.dtype),
        )

    def project(params, xs):
        weights = params.w_q, params.w_k, params.w_v, params.w_i, params.w_f, params.w_o
        biases = None, None, None, params.b_i, params.b_f, params.b_o
        return _Projected(*(dense(xs, w, b).astype(xs.dtype) for w, b in zip(weights, biases, strict=True)))

    return _cell(size, heads, key_size, init, project)


@factory
def projected_mlstm(size: int, heads: int, key_size: int, cap: float | None) -> Cell:
    """Returns the cell of a block. Its inputs are projections of x: `[q | k | v | i | f]`. It has no output gate.

    The params are `b_i` and `b_f`. With a `cap` c, a gate's pre-activation a is replaced by c tanh(a / c).
    """
    keys = heads * key_size
    places = list(itertools.accumulate((keys, keys, size, heads)))

    def init(key, in_size, dtype=None):
        same_size("projected_mlstm", places[-1] + heads, in_size)
        nothing = dict.fromkeys(("w_q", "w_k", "w_v", "w_i", "w_f", "w_o", "b_o"))
        return MlstmParams(**nothing, **_own(key, heads, dtype))

    def project(params, xs):
        def gate(a, b):
            a = a + expand_rank(b, a)
            return a if cap is None else cap * jnp.tanh(a / cap)

        q, k, v, i, f = jnp.split(xs, places, axis=-1)
        return _Projected(q, k, v, gate(i, params.b_i), gate(f, params.b_f), None)

    return _cell(size, heads, key_size, init, project)


def _own(key, heads, dtype):
    """Returns the params of the recurrence itself, by name: `b_i` and `b_f`."""
    b_i = jax.nn.initializers.normal(0.1)(key, (heads,), dtype)
    return {"b_i": b_i, "b_f": jnp.linspace(3, 6, heads).astype(b_i.dtype)}


def _cell(size, heads, key_size, init, project):
    def carry(params, batch_shape=()):
        shapes = (heads, key_size, size // heads), (heads, key_size), (heads,)
        return MlstmCarry(*(jnp.zeros((*batch_shape, *shape), params.b_i.dtype) for shape in shapes))

    def element(params, us):
        q, k, v = (by_head(u, heads) for u in wide((us.q, us.k, us.v)))
        return ScaledOuter(jax.nn.log_sigmoid(wide(us.f)), wide(us.i), k / key_size**0.5, v, q)

    def read(params, observed, us):
        values, normaliser, m = observed
        # Keep e^{-m} within the range of the dtype, and its square above underflow, as a gradient divides by that.
        most = int(math.log(float(jnp.finfo(m.dtype).max)))
        least = jnp.maximum(jnp.abs(normaliser), jnp.exp(jnp.clip(-m, 1 - most // 2, most)))
        ys = flat(values / least[..., None])
        return ys if us.o is None else jax.nn.sigmoid(wide(us.o)) * ys

    return linear_cell(size, init, carry, project, element, read)
