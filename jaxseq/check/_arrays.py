"""Checks of arrays, by dtype and shape."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.typing import Params, Shape

_KINDS = {"O": "objects", "U": "text", "S": "bytes", "M": "dates", "m": "durations"}  # of NumPy's dtypes


def as_jax(tree: Any, names: str | Sequence[str] = "arguments") -> Any:
    """Returns the pytree with its NumPy arrays as JAX arrays. float64 becomes the default float.

    Args:
      tree: a pytree. Leaves that are not NumPy arrays are returned unchanged.
      names: the name of the tree in errors, or one name for each entry of a tuple.

    Raises:
      TypeError, ValueError: the same as `representable`.
    """
    representable(tree, names)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf, tree)


def representable(tree: Any, names: str | Sequence[str] = "arguments") -> None:
    """Raises unless JAX can hold the NumPy arrays of a pytree. Values that JAX would wrap or make infinite are errors.

    Arrays are not inspected under jit, and JAX's own arrays never. Only the extremes of narrowed arrays are compared.

    Raises:
      TypeError: an array of objects, text or dates.
      ValueError: integers or finite floats outside the range of the dtype to which JAX narrows them.
    """
    if all(isinstance(leaf, jax.Array | float) for leaf in jax.tree.leaves(tree)):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, np.ndarray | np.generic | str | bytes):
            _representable(_named(names, path), np.asarray(leaf))
        elif not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | int | float | complex):
            raise TypeError(f"`{_named(names, path)}` must be an array; got {type(leaf).__name__}")


def array(name: str, axes: str, x: Any) -> jax.Array:
    """Returns a JAX or NumPy array as a JAX array."""
    if not isinstance(x, jax.Array | np.ndarray):
        raise TypeError(f"`{name}` must be an array [{axes}]; got {type(x).__name__}")
    return as_jax(x, name)


def array_like(name: str, axes: str, x: Any) -> jax.Array:
    """Returns a number, a list of numbers or an array as a JAX array."""
    if isinstance(x, jax.Array | np.ndarray):
        return array(name, axes, x)
    try:
        converted = jnp.asarray(x) if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x)) else np.asarray(x)
    except (ValueError, TypeError):
        raise ValueError(f"`{name}` must be an array [{axes}]; its parts differ in shape or are not numbers") from None
    if converted.dtype.kind == "O":
        raise TypeError(f"`{name}` must be numbers [{axes}]; got {type(x).__name__}")
    return array(name, axes, converted)


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


def floating(name: str, axes: str, x: Any) -> jax.Array:
    """Returns an array of real floats."""
    x = array(name, axes, x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floating [{axes}]; got {shaped(x)}")
    return x


def real(name: str, axes: str, x: Any) -> jax.Array:
    """Returns an array of real numbers, floats or integers."""
    x = array(name, axes, x)
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise TypeError(f"`{name}` must be real numbers [{axes}]; got {shaped(x)}")
    return x


def integers(name: str, axes: str, x: Any) -> jax.Array:
    """Returns an array of integers with the axes `axes`, in which batch axes are optional."""
    x = array(name, axes, x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be int [{axes}]; got {shaped(x)}")
    if x.ndim < 1:
        raise ValueError(f"`{name}` must be int [{axes}], of at least 1 axis; got {shaped(x)}")
    return x


def inputs(name: str, axes: str, xs: Any, params: Params) -> jax.Array:
    """Returns `xs`, a float array with the axes `axes` (batch axes are optional) in the dtype of `params`."""
    xs = array(name, axes, xs)
    ndim = len([axis for axis in axes.split(", ") if axis != "B"])
    dtype = _float_dtype(params)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        hint = ""
        if jnp.issubdtype(xs.dtype, jnp.integer):
            hint = " Embed ids first; cast numbers." if axes.endswith("D") else f" Cast it: {name}.astype(float)."
        raise TypeError(f"`{name}` must be floating [{axes}]; got {shaped(xs)}.{hint}")
    if xs.ndim < ndim:
        raise ValueError(f"`{name}` must be [{axes}], of at least {ndim} axes; got {shaped(xs)}")
    if axes.endswith("D") and xs.shape[-1] == 0:
        raise ValueError(f"`{name}` must be [{axes}], of at least one feature; got {shaped(xs)}")
    if dtype is not None and xs.dtype != dtype:
        raise TypeError(f"`{name}` must be {dtype}, the dtype of `params`; got {shaped(xs)}. Cast one to the other.")
    return xs


def fits(name: str, value: int, dtype: Any) -> None:
    """Raises unless an int fits into the integer `dtype`. Other dtypes are not checked."""
    if jnp.issubdtype(dtype, np.integer) and not jnp.iinfo(dtype).min <= value <= jnp.iinfo(dtype).max:
        raise ValueError(f"`{name}` must fit into {jnp.dtype(dtype)}; got {value}")


def features(name: str, xs: jax.Array, expected: int) -> None:
    """Raises unless the last axis of `xs` has length `expected`."""
    if xs.shape[-1] != expected:
        raise ValueError(
            f"`{name}` must have the {expected} features that the layer was made for; got {xs.shape[-1]}, {shaped(xs)}"
        )


def flags(name: str, flags: Any, steps: Shape, axes: str = "T, B") -> jax.Array | None:
    """Returns `flags`, which must be None or bool with the shape `steps`, whose axes are `axes`."""
    if flags is None:
        return None
    flags = array(name, axes, flags)
    if flags.dtype == bool and flags.shape == steps:
        return flags
    hint, other_order = "", {"T, B": "batch-major", "B, T": "time-major"}.get(axes)
    lengths = flags.shape in (steps[:1], steps[1:]) and jnp.issubdtype(flags.dtype, jnp.integer)
    if other_order and flags.shape != steps and flags.shape[:2] == steps[1::-1]:
        hint = f" Did you pass {other_order}?"
    elif name.endswith("mask") and other_order and lengths and flags.shape != steps:
        hint = f" Make one from lengths: jaxseq.lengths_to_mask(lengths, T){'.T' if axes == 'B, T' else ''}."
    elif flags.shape != steps:
        hint = " Nothing is broadcast."
    elif flags.dtype != bool:
        hint = f" Cast it: {name}.astype(bool)."
    error = TypeError if flags.dtype != bool else ValueError
    raise error(f"`{name}` must be bool [{axes}] = {steps}; got {shaped(flags)}.{hint}")


def splits(name: str, tree: Any, sharding: jax.sharding.Sharding) -> None:
    """Raises unless a mesh sharding splits existing axes of every array of a pytree into equal parts."""
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape, spec = jnp.shape(leaf), sharding.spec
        leaf_is = f"`{name}{jax.tree_util.keystr(path)}` is {shape}, and `sharding` splits it by {spec}"
        if len(spec) > len(shape):
            raise ValueError(f"{leaf_is}, which has {len(spec)} axes; give one that fits every array of the batch")
        for axis, names in enumerate(spec):
            names = () if names is None else (names if isinstance(names, tuple) else (names,))
            parts = math.prod(sharding.mesh.shape[name] for name in names)
            if shape[axis] % parts:
                raise ValueError(f"{leaf_is}: axis {axis} must be a multiple of the {parts} devices")


def shaped(x: Any) -> str:
    """Returns the dtype and shape as text, of any array, also one that JAX cannot hold, or of a shape struct."""
    try:
        dtype = jnp.result_type(x)
    except TypeError:
        dtype = getattr(x, "dtype", type(x).__name__)
    return f"{dtype} {jnp.shape(x)}"


def _float_dtype(params):
    """Returns the single float dtype of `params`, or None if they contain no floats."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(params)}
    dtypes = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    if len(dtypes) > 1:
        raise TypeError(f"`params` must have one float dtype; got {', '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop() if dtypes else None


def _named(names, path):
    """Returns the name of the leaf at `path` for an error."""
    if not isinstance(names, str):
        names, path = names[path[0].idx], path[1:]
    return names + jax.tree_util.keystr(path)


def _representable(name, x):
    if not (jnp.issubdtype(x.dtype, np.number) or x.dtype == bool) or x.dtype.char in "gG":  # g, G: C's long double
        raise TypeError(f"`{name}` must hold numbers or bools; got {_KINDS.get(x.dtype.kind, x.dtype)}")
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    if dtype == x.dtype or x.size == 0:
        return
    if np.issubdtype(dtype, np.integer):
        bounds = np.iinfo(dtype)
        beyond = x.min() < bounds.min or x.max() > bounds.max
    elif np.issubdtype(dtype, np.floating) and np.fmax.reduce(np.abs(x), None) <= jnp.finfo(dtype).max:
        return  # no finite or infinite value exceeds the range: the common case
    else:
        with np.errstate(over="ignore"):
            beyond = np.any(np.isfinite(x) & ~np.isfinite(x.astype(dtype)))
    if beyond:
        raise ValueError(f"`{name}` holds {x.dtype} numbers beyond {dtype}; enable jax_enable_x64")
