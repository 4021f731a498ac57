"""The linear recurrent unit (Orvieto et al. 2023): a linear recurrence of complex numbers with constant coefficients.

    λ = exp(-e^ν + i e^θ)                         |λ| < 1 for every ν
    h' = λ ⊙ h + e^γ ⊙ (x B)                      h complex, of N numbers;  B = b_re + i b_im
    y = Re(h' C) + x w_d                          C = c_re + i c_im

e^γ starts as √(1 - |λ|²). For white-noise inputs, the entries of h are then as large as the inputs, for any memory.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import expand_rank
from jaxseq.cells._decays import drawn
from jaxseq.cells._dense import wide
from jaxseq.cells._modes import modes, no_modes, project_modes, read_modes
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import AnyArray, Cell


class LruParams(NamedTuple):
    """`nu`, `theta`, `gamma` `[N]`; `b_re`, `b_im` `[D, N]`; `c_re`, `c_im` `[N, H]`; `w_d [D, H]`."""

    nu: AnyArray
    theta: AnyArray
    gamma: AnyArray
    b_re: AnyArray
    b_im: AnyArray
    c_re: AnyArray
    c_im: AnyArray
    w_d: AnyArray


def lru(
    size: int, *, state: int | None = None, r_min: float = 0.9, r_max: float = 0.999, max_phase: float = 6.28
) -> Cell:
    """Returns the LRU cell. Its carry is the state, complex `[B, N]`.

    Args:
      size: H.
      state: N, the number of complex numbers in the state. None: H.
      r_min, r_max: the range in which |λ| starts, with |λ|² uniform.
      max_phase: the phases of λ start uniform between 0 and this value, in radians per step.

    Raises:
      TypeError, ValueError: `size` or `state` is not a positive int, 0 <= r_min <= r_max < 1 does not hold, or
        `max_phase` is not positive.

    >>> cell = lru(4, state=2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(cell, params, jnp.ones([5, 3]))
    >>> ys.shape, carry.shape, carry.dtype.name
    ((5, 4), (2,), 'complex64')
    """
    size = check.positive_int("size", size)
    state = size if state is None else check.positive_int("state", state)
    r_min, r_max = check.rate("r_min", r_min), check.rate("r_max", r_max)
    if not r_min <= r_max or r_max == 0:
        raise ValueError(f"`r_max` must be at least `r_min` and more than 0; got {r_max} with `r_min` {r_min}")
    return _lru(size, state, r_min, r_max, check.positive_finite("max_phase", max_phase))


@factory
def _lru(size, state, r_min, r_max, max_phase):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_r, key_phase, key_modes = jax.random.split(key, 3)

        def log_rate(u):
            """Returns log(-log |λ|)."""
            return jnp.log(-0.5 * jnp.log(squared(u)))

        def squared(u):
            return r_max**2 - u * (r_max**2 - r_min**2)  # u < 1, so this exceeds r_min², which may be 0

        return LruParams(
            nu=drawn(log_rate, key_r, (state,), dtype),
            theta=drawn(lambda u: jnp.log(max_phase * (1 - u)), key_phase, (state,), dtype),
            gamma=drawn(lambda u: 0.5 * jnp.log1p(-squared(u)), key_r, (state,), dtype),
            **modes(key_modes, in_size, state, size, dtype),
        )

    def element(params, us):
        nu, theta, gamma = wide((params.nu, params.theta, params.gamma))
        modulus, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        decay = jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))
        re, im = wide((us.re, us.im))
        scale = expand_rank(jnp.exp(gamma), re)
        return Diagonal(decay, jax.lax.complex(scale * re, scale * im))

    def read(params, h, us):
        return read_modes(params, h) + wide(us.d)

    return linear_cell(size, init, no_modes, project_modes, element, read)
