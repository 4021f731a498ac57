"""Mixed precision: params are stored in one dtype and used in another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check


def cast(tree: Any, dtype: jax.typing.DTypeLike | None) -> Any:
    """Returns the pytree with its floating-point arrays cast to `dtype`. Other leaves are returned unchanged.

    A cell computes in the dtype of its params. Keep the params in float32 and cast them where they are used: the cell
    then computes in bfloat16, while gradients, optimiser state and updates stay in float32. `unroll` sums a gradient
    over T in float32 and rounds it once to `dtype`. The cast converts it back to the dtype of the params.

    Args:
      tree: a pytree, such as params.
      dtype: a floating dtype. None returns the tree unchanged.

    Raises:
      TypeError: `dtype` is not a floating dtype.

    >>> cell = jaxseq.lstm(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jnp.ones([5, 2, 3], jnp.bfloat16)
    >>> def loss(params):
    ...     carry, ys = jaxseq.unroll(cell, jaxseq.cast(params, jnp.bfloat16), xs)
    ...     return jnp.mean(ys.astype(jnp.float32) ** 2), ys.dtype.name
    >>> gradients, ys_dtype = jax.grad(loss, has_aux=True)(params)
    >>> ys_dtype, gradients.w_h.dtype.name
    ('bfloat16', 'float32')
    """
    dtype = check.float_dtype("dtype", dtype)
    if dtype is None:
        return tree

    def narrow(leaf):
        is_float = isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, dtype) if is_float else leaf

    return jax.tree.map(narrow, tree)
