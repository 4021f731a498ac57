"""Checks of params and carries: pytrees of arrays; params that are trained must hold real floats."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.typing import Params


def arrays(name: str, params: Params) -> list[tuple[str, Any]]:
    """Returns the leaves of params, arrays or Python numbers, each with the name that errors use for it.

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


def numbers(name: str, tree: Any) -> list[tuple[str, Any]]:
    """Returns the leaves of a tree as `arrays` does; raises unless JAX can hold them: numbers, bools, random keys."""
    leaves = arrays(name, tree)
    for place, leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if dtype is not None and not isinstance(leaf, jax.Array) and not _is_number(dtype):
            raise TypeError(f"`{place}` must be an array of numbers or bools; got {dtype}")
        if isinstance(leaf, int) and not -(2**31) <= leaf < 2**31:
            raise ValueError(f"`{place}` must be an array; got an int that is too large for JAX, {check.short(leaf)}")
    return leaves


def _is_number(dtype):
    return any(jnp.issubdtype(dtype, kind) for kind in (np.bool_, np.number, jax.dtypes.prng_key))


def trainable(name: str, params: Params) -> None:
    """Raises unless gradient descent can train `params`.

    For a complex number, JAX's gradient of a real loss is the conjugate of the direction of steepest ascent. An
    optimizer that does not conjugate it would ascend, so complex params are refused.

    Raises:
      TypeError: a leaf does not hold real floats.
      ValueError: there are no leaves.
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


def patterns(name: str, where: Any) -> list[str]:
    """Returns `where` as a list of patterns; an empty list for None, which stands for all matrices."""
    if where is None:
        return []
    several = [where] if isinstance(where, str) else where
    if not isinstance(several, Sequence) or not several or not all(isinstance(pattern, str) for pattern in several):
        raise TypeError(
            f'`{name}` must be a pattern such as "*w_h", a list of patterns, or None for all matrices; '
            f"got {check.short(where)}"
        )
    return list(several)
