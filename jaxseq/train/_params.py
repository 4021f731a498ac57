"""What params may be: a pytree of arrays, and to be trained of real floats."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.typing import Params


def arrays(name: str, params: Params) -> list[tuple[str, Any]]:
    """Returns the leaves of params, each an array or a Python number, by the name that an error gives it.

    Raises:
      TypeError: a leaf is something else, or `params` is None.
    """
    if params is None:
        raise TypeError(f"`{name}` must be a pytree of arrays; got None")
    leaves = [(name + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    for place, leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct | int | float | complex):
            raise TypeError(f"`{place}` must be an array; got {type(leaf).__name__}")
    return leaves


def trainable(name: str, params: Params) -> None:
    """Raises unless `params` can go down a gradient.

    JAX's gradient of a real loss by a complex number is the conjugate of the direction of steepest ascent, so that an
    optimiser which does not conjugate it climbs.

    Raises:
      TypeError: a leaf is not of real floats.
      ValueError: there are none.
    """
    leaves = arrays(name, params)
    if not leaves:
        raise ValueError(f"`{name}` must hold arrays; got none")
    for place, leaf in leaves:
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(
                f"`{place}` must be real to be trained; got {dtype}. Train its real and imaginary parts as two arrays."
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(f"`{place}` must be floating to be trained; got {dtype}")
