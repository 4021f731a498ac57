"""The selective state-space model of Mamba (Gu & Dao 2023), without the block around it, D = H.

    Δ = softplus(x w_1 w_2 + b_dt)                w_1 w_2 of rank R
    A = -e^{a_log}
    h' = e^{Δ A} ⊙ h + (Δ ⊙ x) ⊗ (x w_b)          h [H, N]: N numbers per feature; one Δ per feature
    y = h' · (x w_c) + d ⊙ x

A starts as -1, -2, …, -N for each feature, the softplus of b_dt log-uniform in [0.001, 0.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._decays import drawn, softplus_of_steps
from jaxseq.cells._dense import dense, wide
from jaxseq.cells._heads import same_size
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class MambaParams(NamedTuple):
    """`w_1 [H, R]`, `w_2 [R, H]`, `b_dt [H]`; `w_b`, `w_c` `[H, N]`; `a_log [H, N]`, `d [H]`."""

    w_1: AnyArray
    w_2: AnyArray
    b_dt: AnyArray
    w_b: AnyArray
    w_c: AnyArray
    a_log: AnyArray
    d: AnyArray


class _Projected(NamedTuple):
    dt: jax.Array
    b: jax.Array
    c: jax.Array
    x: jax.Array


def mamba(size: int, *, state: int = 16, rank: int | None = None) -> Cell:
    """Returns Mamba's cell. Its inputs have `size` features. Its carry is the state `[B, H, N]`.

    Args:
      size: H, the features of inputs and outputs.
      state: N, the number of state entries per feature.
      rank: R, the rank of the product that computes the step sizes Δ. None: H // 16, at least 1.

    Raises:
      TypeError, ValueError: `size`, `state` or `rank` is not a positive int. `init` raises ValueError if the inputs do
        not have `size` features.

    >>> cell = mamba(4, state=2)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 4), jnp.ones([5, 4]))
    >>> ys.shape, carry.shape
    ((5, 4), (4, 2))
    """
    size, state = check.positive_int("size", size), check.positive_int("state", state)
    return _mamba(size, state, max(1, size // 16) if rank is None else check.positive_int("rank", rank))


@factory
def _mamba(size, state, rank):
    def init(key, in_size, dtype=None):
        same_size("mamba", size, in_size)
        key_1, key_2, key_dt, key_b, key_c = jax.random.split(key, 5)
        glorot = initializers.glorot_uniform()
        b_dt = drawn(softplus_of_steps, key_dt, (size,), dtype)
        numbers = jnp.log(jnp.arange(1, state + 1, dtype=float)).astype(b_dt.dtype)
        return MambaParams(
            w_1=glorot(key_1, (size, rank), dtype),
            w_2=initializers.fan_in_uniform()(key_2, (rank, size), dtype),
            b_dt=b_dt,
            w_b=glorot(key_b, (size, state), dtype),
            w_c=glorot(key_c, (size, state), dtype),
            a_log=jnp.broadcast_to(numbers[None], (size, state)),
            d=jnp.ones_like(b_dt),
        )

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size, state), params.a_log.dtype)

    def project(params, xs):
        low = dense(xs, params.w_1).astype(xs.dtype)
        dt, b, c = dense(low, params.w_2, params.b_dt), dense(xs, params.w_b), dense(xs, params.w_c)
        return _Projected(dt.astype(xs.dtype), b.astype(xs.dtype), c.astype(xs.dtype), xs)

    def element(params, us):
        dt, b, _, x = wide(us)
        dt = jax.nn.softplus(dt)
        decay = -dt[..., None] * expand_rank(jnp.exp(wide(params.a_log)), dt[..., None])
        return Diagonal(jnp.exp(decay), (dt * x)[..., None] * b[..., None, :])

    def read(params, h, us):
        c, x = wide((us.c, us.x))
        return jnp.einsum("...hn,...n->...h", h, c) + expand_rank(wide(params.d), x) * x

    return linear_cell(size, init, carry, project, element, read)
