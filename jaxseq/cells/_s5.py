"""S5, a diagonal state-space model with one state for all features (Smith, Warrington & Linderman 2023).

    Λ = -e^{log_re} + i im        Δ = e^{log_dt}
    λ̄ = e^{ΛΔ}                    B̄ = (e^{ΛΔ} - 1) / Λ ⊙ B               B = b_re + i b_im
    h' = λ̄ ⊙ h + x B̄                                                      h complex, of N numbers
    y = 2 Re(h' C) + x w_d                                                 C = c_re + i c_im

The continuous system dh/ds = Λ h + x B holds x for a step of Δ. Each number of h stands for itself and its conjugate,
hence the factor 2. Λ starts as in S4D-Lin (Gu et al. 2022), -1/2 + i π n, and Δ starts log-uniform.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._decays import drawn, held_input, log_uniform
from jaxseq.cells._dense import wide
from jaxseq.cells._modes import modes, no_modes, project_modes, read_modes
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class S5Params(NamedTuple):
    """`log_re`, `im`, `log_dt` `[N]`; `b_re`, `b_im` `[D, N]`; `c_re`, `c_im` `[N, H]`; `w_d [D, H]`."""

    log_re: AnyArray
    im: AnyArray
    log_dt: AnyArray
    b_re: AnyArray
    b_im: AnyArray
    c_re: AnyArray
    c_im: AnyArray
    w_d: AnyArray


def s5(size: int, *, state: int = 64) -> Cell:
    """Returns the S5 cell. Its carry is the state, complex `[B, N]`.

    Args:
      size: H.
      state: N, the number of complex numbers in the state. Each stands for a pair of conjugates.

    Raises:
      TypeError, ValueError: `size` or `state` is not a positive int.

    >>> cell = s5(4, state=2)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 3]))
    >>> ys.shape, carry.shape
    ((5, 4), (2,))
    """
    return _s5(check.positive_int("size", size), check.positive_int("state", state))


@factory
def _s5(size, state):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_dt, key_modes = jax.random.split(key)
        log_dt = drawn(log_uniform(1e-3, 1e-1), key_dt, (state,), dtype)
        return S5Params(
            log_re=jnp.full_like(log_dt, math.log(0.5)),
            im=math.pi * jnp.arange(state, dtype=log_dt.dtype),
            log_dt=log_dt,
            **modes(key_modes, in_size, state, size, dtype),
        )

    def element(params, us):
        log_re, im, log_dt, *b = wide((params.log_re, params.im, params.log_dt, us.re, us.im))
        step = jnp.exp(log_dt)
        z = jax.lax.complex(-jnp.exp(log_re) * step, im * step)
        b = jax.lax.complex(*b)
        return Diagonal(jnp.exp(z), expand_rank(held_input(z) * step.astype(z.dtype), b) * b)

    def read(params, h, us):
        return 2 * read_modes(params, h) + wide(us.d)

    return linear_cell(size, init, no_modes, project_modes, element, read)
