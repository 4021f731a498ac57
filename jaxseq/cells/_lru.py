"""The linear recurrent unit (Orvieto et al. 2023): a linear recurrence of complex numbers, the same at every step.

    λ = exp(-e^ν + i e^θ)                         |λ| < 1 whatever ν is
    h' = λ ⊙ h + e^γ ⊙ (x B)                      h complex, of N numbers;  B = b_re + i b_im
    y = Re(h' C) + x w_d                          C = c_re + i c_im

e^γ starts as √(1 - |λ|²), which makes the numbers of h as large as those of white inputs, however long they remember.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, initializers
from jaxseq._factory import factory
from jaxseq._promote import beside, widen
from jaxseq.cells._decays import drawn
from jaxseq.cells._dense import dense, wide
from jaxseq.recurrences import Diagonal, linear_cell
from jaxseq.typing import Cell


class LruParams(NamedTuple):
    """`nu`, `theta`, `gamma` `[N]`; `b_re`, `b_im` `[D, N]`; `c_re`, `c_im` `[N, H]`; `w_d [D, H]`."""

    nu: jax.Array
    theta: jax.Array
    gamma: jax.Array
    b_re: jax.Array
    b_im: jax.Array
    c_re: jax.Array
    c_im: jax.Array
    w_d: jax.Array


class Modes(NamedTuple):
    """What a cell of complex numbers makes of its inputs: x B `[..., N]`, in two parts, and x w_d `[..., H]`."""

    re: jax.Array
    im: jax.Array
    d: jax.Array


def lru(
    size: int, *, state: int | None = None, r_min: float = 0.9, r_max: float = 0.999, max_phase: float = 6.28
) -> Cell:
    """Returns the LRU cell; its carry is the state, complex `[B, N]`.

    Args:
      size: H.
      state: N, the complex numbers of the state; None: H.
      r_min, r_max: between them |λ| starts, |λ|² uniform.
      max_phase: the phases of λ start uniform between 0 and this, in radians a step.

    Raises:
      TypeError, ValueError: `size` or `state` is not a positive int, not 0 <= r_min <= r_max < 1, `max_phase` is not
        positive.

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
        raise ValueError(f"`r_max` must be at least `r_min`, and more than 0; got {r_max}, and `r_min` {r_min}")
    return _lru(size, state, r_min, r_max, check.positive_finite("max_phase", max_phase))


@factory
def _lru(size, state, r_min, r_max, max_phase):
    def init(key, in_size, dtype=None):
        in_size = check.positive_int("in_size", in_size)
        key_r, key_phase, *keys = jax.random.split(key, 4)

        def log_rate(u):
            """log(-log |λ|)."""
            return jnp.log(-0.5 * jnp.log(squared(u)))

        def squared(u):
            return r_max**2 - u * (r_max**2 - r_min**2)  # u < 1, so that it is above r_min², which may be 0

        return LruParams(
            nu=drawn(log_rate, key_r, (state,), dtype),
            theta=drawn(lambda u: jnp.log(max_phase * (1 - u)), key_phase, (state,), dtype),
            gamma=drawn(lambda u: 0.5 * jnp.log1p(-squared(u)), key_r, (state,), dtype),
            **modes(keys, in_size, state, size, dtype),
        )

    def carry(params, batch_shape=()):
        return no_modes(params, batch_shape)

    def element(params, us):
        nu, theta, gamma = wide((params.nu, params.theta, params.gamma))
        size, phase = jnp.exp(-jnp.exp(nu)), jnp.exp(theta)
        decay = jax.lax.complex(size * jnp.cos(phase), size * jnp.sin(phase))
        re, im = wide((us.re, us.im))
        scale = beside(jnp.exp(gamma), re)
        return Diagonal(decay, jax.lax.complex(scale * re, scale * im))

    def read(params, h, us):
        return read_modes(params, h) + wide(us.d)

    return linear_cell(size, init, carry, project_modes, element, read)


def modes(keys: tuple[jax.Array, jax.Array], in_size: int, state: int, size: int, dtype) -> dict[str, jax.Array]:
    """Returns B ~ N(0, 1 / (2 D)) and C ~ N(0, 1 / N), each part, and w_d, Glorot-uniform, by name."""
    (key_b_re, key_b_im, key_c_re), (key_c_im, key_d) = jax.random.split(keys[0], 3), jax.random.split(keys[1])
    b, c = (jax.nn.initializers.normal(deviation) for deviation in ((2 * in_size) ** -0.5, state**-0.5))
    return {
        "b_re": b(key_b_re, (in_size, state), dtype),
        "b_im": b(key_b_im, (in_size, state), dtype),
        "c_re": c(key_c_re, (state, size), dtype),
        "c_im": c(key_c_im, (state, size), dtype),
        "w_d": initializers.glorot_uniform()(key_d, (in_size, size), dtype),
    }


def no_modes(params, batch_shape):
    """The initial carry: zeros, complex, of N numbers."""
    state = params.b_re.shape[1]
    dtype = widen(params.b_re.dtype)
    return jnp.zeros((*batch_shape, state), jnp.complex128 if dtype == jnp.float64 else jnp.complex64)


def project_modes(params, xs):
    return Modes(*(dense(xs, w).astype(xs.dtype) for w in (params.b_re, params.b_im, params.w_d)))


def read_modes(params, h):
    """Re(h C), wide."""
    re, im = (part.astype(params.c_re.dtype) for part in (h.real, h.imag))
    return dense(re, params.c_re) - dense(im, params.c_im)
