"""Shared by cells with a complex state of N numbers: B and C as real and imaginary parts, and how they read x and h.

    x B = x b_re + i x b_im                       Re(h C) = Re(h) c_re - Im(h) c_im

Two real products take half the time of one complex product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import initializers
from jaxseq._promote import wider
from jaxseq.cells._dense import dense
from jaxseq.typing import AnyArray


class Modes(NamedTuple):
    """The projected inputs of a complex-valued cell: x B `[..., N]`, in two parts, and x w_d `[..., H]`."""

    re: AnyArray
    im: AnyArray
    d: AnyArray


def modes(key: jax.Array, in_size: int, state: int, size: int, dtype) -> dict[str, jax.Array]:
    """Returns B ~ N(0, 1 / (2 D)) and C ~ N(0, 1 / N), both parts, and w_d (Glorot-uniform), by name."""
    key_b_re, key_b_im, key_c_re, key_c_im, key_d = jax.random.split(key, 5)
    b, c = (jax.nn.initializers.normal(deviation) for deviation in ((2 * in_size) ** -0.5, state**-0.5))
    return {
        "b_re": b(key_b_re, (in_size, state), dtype),
        "b_im": b(key_b_im, (in_size, state), dtype),
        "c_re": c(key_c_re, (state, size), dtype),
        "c_im": c(key_c_im, (state, size), dtype),
        "w_d": initializers.glorot_uniform()(key_d, (in_size, size), dtype),
    }


def no_modes(params: Any, batch_shape: tuple[int, ...] = ()) -> jax.Array:
    """Returns the initial carry: N complex zeros."""
    return jnp.zeros((*batch_shape, params.b_re.shape[1]), wider(params.b_re.dtype, jnp.complex64))


def project_modes(params: Any, xs: jax.Array) -> Modes:
    """Returns x B and x w_d, in the dtype of `xs`."""
    return Modes(*(dense(xs, w).astype(xs.dtype) for w in (params.b_re, params.b_im, params.w_d)))


def read_modes(params: Any, h: jax.Array) -> jax.Array:
    """Returns Re(h C), wide."""
    re, im = (part.astype(params.c_re.dtype) for part in (h.real, h.imag))
    return dense(re, params.c_re) - dense(im, params.c_im)
