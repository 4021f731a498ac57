"""Sums the gradients of 16-bit params over time in float32.

JAX's derivative of a loop adds to the gradient of every weight at every step, in the weight's own dtype. A sum of
thousands of bfloat16 numbers stops growing, because each is less than half a unit in the last place. So the loop gets
float32 params, and each step casts them to their own dtype. The values are the same, and the gradients of the steps are
summed in float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq._promote import widen
from jaxseq.typing import Params


def widened(params: Params) -> tuple[Params, Callable[[Params], Params]]:
    """Returns params with float32 in place of 16-bit floats, and the function that casts them back to their dtypes."""
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, params)

    def narrow(wide):
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype) if _is_float(leaf) else leaf, wide, dtypes)

    return jax.tree.map(lambda leaf: leaf.astype(widen(leaf.dtype)) if _is_float(leaf) else leaf, params), narrow


def _is_float(leaf):
    """Returns whether a leaf is floating. Flags, ids and keys are not."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)
