"""Gradients of 16-bit params, summed over time in float32.

JAX's derivative of a loop adds to the gradient of every weight at every step, in the weight's own dtype: a sum of
thousands of bfloat16 numbers stops growing, as each is less than half of what the last digit counts. So a loop is
handed float32 params, and each of its steps takes them in their own dtype: the values are the same, and the gradients
of the steps are added up in float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq._promote import widen
from jaxseq.typing import Params


def widened(params: Params) -> tuple[Params, Callable[[Params], Params]]:
    """Returns params with float32 in place of 16-bit floats, and the function that takes them back to their dtypes."""
    dtypes = jax.tree.map(lambda leaf: leaf.dtype, params)

    def narrow(wide):
        return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype) if _is_float(leaf) else leaf, wide, dtypes)

    return jax.tree.map(lambda leaf: leaf.astype(widen(leaf.dtype)) if _is_float(leaf) else leaf, params), narrow


def _is_float(leaf):
    """Flags, ids and keys are not."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)
