"""Arrays, by dtype and shape."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.typing import Params, Shape


def as_jax(tree: Any) -> Any:
    """Returns the pytree with NumPy arrays as JAX's: float64 as the default float."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, tree)


def array(name: str, axes: str, x: Any) -> jax.Array:
    """Returns a JAX or NumPy array as JAX's."""
    if not isinstance(x, jax.Array | np.ndarray):
        raise TypeError(f"`{name}` must be an array [{axes}]; got {type(x).__name__}")
    converted = jnp.asarray(x)
    narrowed = isinstance(x, np.ndarray) and x.dtype != converted.dtype and np.issubdtype(x.dtype, np.integer)
    if narrowed and np.any(x != x.astype(converted.dtype)):
        raise ValueError(f"`{name}` holds {x.dtype} numbers beyond {converted.dtype}; enable jax_enable_x64")
    return converted


def float_dtype(name: str, dtype: Any) -> np.dtype | None:
    """Returns a floating dtype, or None."""
    if dtype is None:
        return None
    try:
        found = jnp.dtype(dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"`{name}` must be a floating dtype such as jnp.bfloat16, or None; got {str(dtype)[:80]!r}")
    return jax.dtypes.canonicalize_dtype(found)


def integers(name: str, axes: str, x: Any) -> jax.Array:
    """Returns an array of integers, with the axes of `axes` (batch axes free)."""
    x = array(name, axes, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be int [{axes}]; got {shaped(x)}")
    if x.ndim < 1:
        raise ValueError(f"`{name}` must be int [{axes}], of at least 1 axis; got {shaped(x)}")
    return x


def inputs(name: str, axes: str, xs: Any, params: Params) -> jax.Array:
    """Returns `xs`, a float array with the axes of `axes` (batch axes free) in the dtype of `params`."""
    xs = array(name, axes, xs)
    ndim = len([axis for axis in axes.split(", ") if axis != "B"])
    dtype = _float_dtype(params)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        hint = " Embed ids first; cast numbers." if jnp.issubdtype(xs.dtype, jnp.integer) else ""
        raise TypeError(f"`{name}` must be floating [{axes}]; got {shaped(xs)}.{hint}")
    if xs.ndim < ndim:
        raise ValueError(f"`{name}` must be [{axes}], of at least {ndim} axes; got {shaped(xs)}")
    if dtype is not None and xs.dtype != dtype:
        raise TypeError(f"`{name}` must be {dtype}, the dtype of `params`; got {shaped(xs)}. Cast one to the other.")
    return xs


def features(name: str, xs: jax.Array, expected: int) -> None:
    """Raises unless the last axis of `xs` is as long as `expected`."""
    if xs.shape[-1] != expected:
        raise ValueError(
            f"`{name}` must have the {expected} features that the layer was made for; got {xs.shape[-1]}, {shaped(xs)}"
        )


def flags(name: str, flags: Any, steps: Shape, axes: str = "T, B") -> jax.Array | None:
    """Returns `flags`, bool of the shape `steps`, with the axes of `axes`, or None."""
    if flags is None:
        return None
    flags = array(name, axes, flags)
    if flags.dtype == bool and flags.shape == steps:
        return flags
    hint, other_order = "", {"T, B": "batch-major", "B, T": "time-major"}.get(axes)
    if other_order and flags.shape != steps and flags.shape[:2] == steps[1::-1]:
        hint = f" Did you pass {other_order}?"
    elif flags.shape != steps:
        hint = " Nothing is broadcast."
    elif flags.dtype != bool:
        hint = f" Cast it: {name}.astype(bool)."
    error = TypeError if flags.dtype != bool else ValueError
    raise error(f"`{name}` must be bool [{axes}] = {steps}; got {shaped(flags)}.{hint}")


def shaped(x: Any) -> str:
    """The dtype and shape of an array, or of what stands for one."""
    return f"{jnp.result_type(x)} {jnp.shape(x)}"


def _float_dtype(params):
    """The one float dtype of `params`; None where they hold no floats."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    dtypes = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    if len(dtypes) > 1:
        raise TypeError(f"`params` must have one float dtype; got {', '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop() if dtypes else None
