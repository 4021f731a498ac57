"""The inverse of a unit lower triangular matrix, by doubling.

    [ A  0 ]⁻¹     [    A⁻¹       0  ]
    [ C  B ]    =  [ -B⁻¹ C A⁻¹  B⁻¹ ]

X holds the inverses of the blocks of w rows on the diagonal. C joins each odd block to the one before it. Then
X - X C X holds the inverses of the blocks of 2 w rows. Each doubling costs two products, all of one shape, which
compiles fast. No powers of the matrix are needed. The derivative of X⁻¹ is -X⁻¹ dX X⁻¹.
"""

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank


@jax.custom_jvp
def inverse_of_unit_lower(below: jax.Array) -> jax.Array:
    """Returns (I + below)⁻¹ `[..., L, L]`. `below` must be zero on and above the diagonal."""
    L = below.shape[-1]
    inverse = jnp.broadcast_to(expand_rank(jnp.eye(L, dtype=below.dtype), below), below.shape)
    for doubling in range((L - 1).bit_length()):
        row, column = jnp.arange(L)[:, None] >> doubling, jnp.arange(L)[None, :] >> doubling
        corner = jnp.where(expand_rank((row % 2 == 1) & (row == column + 1), below), below, 0)
        inverse = inverse - jnp.matmul(jnp.matmul(inverse, corner), inverse)
    return inverse


@inverse_of_unit_lower.defjvp
def _derivative(primals, tangents):
    inverse = inverse_of_unit_lower(*primals)
    return inverse, -jnp.matmul(jnp.matmul(inverse, tangents[0]), inverse)
