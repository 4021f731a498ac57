"""The real-gated linear recurrent unit of Griffin (De et al. 2024): a real decay that a gate controls, D = H.

    r = σ(x W_r + b_r)        i = σ(x W_i + b_i)              W block-diagonal, one block per head
    log a = -8 softplus(Λ) ⊙ r
    h' = a ⊙ h + √(1 - a²) ⊙ (i ⊙ x)
    y = h'

The first step of a sequence is like any other; published code omits √(1 - a²) there. Λ starts so that a, at r = 1, is
uniform in [0.9, 0.999].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._factory import factory
from jaxseq._promote import expand_rank, widen
from jaxseq.cells._decays import drawn, root_of_rest
from jaxseq.cells._dense import wide
from jaxseq.cells._heads import by_head, flat, same_size, size_of_heads
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class RgLruParams(NamedTuple):
    """`w_r`, `w_i` `[heads, H / heads, H / heads]`; `b_r`, `b_i`, `lam` `[H]`."""

    w_r: AnyArray
    w_i: AnyArray
    b_r: AnyArray
    b_i: AnyArray
    lam: AnyArray


class _Projected(NamedTuple):
    r: jax.Array
    i: jax.Array
    x: jax.Array


def rg_lru(size: int, *, heads: int = 1) -> Cell:
    """Returns the RG-LRU cell. Its inputs have `size` features. Its carry is h `[B, H]`.

    Args:
      size: H, the features of inputs and outputs.
      heads: the number of heads. The gates of a unit see only the inputs of its own head.

    Raises:
      TypeError, ValueError: `size` or `heads` is not a positive int, or `heads` does not divide `size`. `init` raises
        ValueError if the inputs do not have `size` features.

    >>> cell = rg_lru(4, heads=2)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 4), jnp.ones([5, 4]))
    >>> bool(jnp.all(carry == ys[-1]))
    True
    """
    return _rg_lru(*size_of_heads(size, heads))


@factory
def _rg_lru(size, heads):
    width = size // heads
    block = jax.nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)

    def init(key, in_size, dtype=None):
        same_size("rg_lru", size, in_size)
        key_r, key_i, key_lam = jax.random.split(key, 3)

        def rate(u):
            """Returns a number whose softplus is -log(a) / 8."""
            return jnp.log(jnp.expm1(-jnp.log(0.9 + u * (0.999 - 0.9)) / 8))

        lam = drawn(rate, key_lam, (size,), dtype)
        w_r, w_i = (block(key, (heads, width, width), dtype) for key in (key_r, key_i))
        return RgLruParams(w_r, w_i, jnp.zeros_like(lam), jnp.zeros_like(lam), lam)

    def carry(params, batch_shape=()):
        return jnp.zeros((*batch_shape, size), params.lam.dtype)

    def project(params, xs):
        def gate(w, b):
            a = jnp.einsum("...hi,hio->...ho", by_head(xs, heads), w, preferred_element_type=widen(w.dtype))
            a = flat(a)
            return (a + expand_rank(wide(b), a)).astype(xs.dtype)

        return _Projected(gate(params.w_r, params.b_r), gate(params.w_i, params.b_i), xs)

    def element(params, us):
        u_r, u_i, x = wide(us)
        rate = expand_rank(jax.nn.softplus(wide(params.lam)), u_r)
        log_a = -8 * rate * jax.nn.sigmoid(u_r)
        return Diagonal(jnp.exp(log_a), root_of_rest(log_a) * jax.nn.sigmoid(u_i) * x)

    return linear_cell(size, init, carry, project, element)
