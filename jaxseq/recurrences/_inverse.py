"""The inverse of a unit lower triangular matrix, by doubling.

    [ A  0 ]⁻¹     [    A⁻¹       0  ]
    [ C  B ]    =  [ -B⁻¹ C A⁻¹  B⁻¹ ]

Blocks of 1, 2, 4, … rows, all of a size at once: as many matrix products as doublings, and no powers of the matrix. The
derivative of X⁻¹ is -X⁻¹ dX X⁻¹.
"""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def inverse_of_unit_lower(below: jax.Array) -> jax.Array:
    """Returns (I + below)⁻¹ `[..., L, L]`, of what stands below the diagonal; the rest of `below` must be zeros."""
    L = below.shape[-1]
    size = 1 << (L - 1).bit_length()
    below = jnp.pad(below, [(0, 0)] * (below.ndim - 2) + [(0, size - L), (0, size - L)])
    inverse = jnp.ones((*below.shape[:-2], size, 1, 1), below.dtype)  # [..., blocks, width, width]
    while inverse.shape[-1] < size:
        width = inverse.shape[-1]
        early, late = inverse[..., ::2, :, :], inverse[..., 1::2, :, :]
        corner = _diagonal_blocks(below, 2 * width)[..., width:, :width]
        across = -jnp.matmul(jnp.matmul(late, corner), early)
        top = jnp.concatenate([early, jnp.zeros_like(early)], axis=-1)
        inverse = jnp.concatenate([top, jnp.concatenate([across, late], axis=-1)], axis=-2)
    return inverse[..., 0, :L, :L]


@inverse_of_unit_lower.defjvp
def _derivative(primals, tangents):
    inverse = inverse_of_unit_lower(*primals)
    return inverse, -jnp.matmul(jnp.matmul(inverse, tangents[0]), inverse)


def _diagonal_blocks(x, width):
    """The blocks on the diagonal, `[..., blocks, width, width]`: in one row of all numbers they are as far apart."""
    size = x.shape[-1]
    flat = jnp.pad(x.reshape(*x.shape[:-2], size * size), [(0, 0)] * (x.ndim - 2) + [(0, size)])
    rows = flat.reshape(*x.shape[:-2], size // width, width * (size + 1))[..., : width * size]
    return rows.reshape(*x.shape[:-2], size // width, width, size)[..., :width]
