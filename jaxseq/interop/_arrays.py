"""Converts arrays of any library to NumPy, checks their shapes and values, and splits and joins gates."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import check

Gates = dict[str, np.ndarray]
"""Arrays by the name of their gate. The features of the gate are the last axis."""


def array(name: str, value: Any, shape: Sequence[int | None] | None = None) -> np.ndarray:
    """Returns `value`, an array of NumPy, JAX, PyTorch, Keras or Flax, as a NumPy array.

    Args:
      name: the array's name in its library, for errors.
      value: an array of floats.
      shape: the expected shape, with None for an axis of any size. None: any shape.

    Raises:
      TypeError: `value` is not an array of floats.
      ValueError: it has another shape, or holds NaN, infinity, or a number that would become infinite in JAX's dtype.
    """
    value = _as_numpy(name, value)
    if value.dtype == object or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be an array of floats; got {value.dtype} {list(value.shape)}")
    fits = shape is None or (
        len(shape) == value.ndim and all(want in (None, size) for want, size in zip(shape, value.shape, strict=True))
    )
    if not fits:
        want = ", ".join("any" if size is None else str(size) for size in shape or ())
        raise ValueError(f"`{name}` must be of the shape [{want}]; got {list(value.shape)}")
    if not np.all(np.isfinite(value)):
        raise ValueError(f"`{name}` holds NaN or infinity")
    check.representable(value, name)
    return value


def _as_numpy(name, value):
    if getattr(value, "is_meta", False):  # PyTorch's, of a model that is not loaded
        raise TypeError(f"`{name}` must be an array; got a meta tensor, which has a shape and no numbers")
    if hasattr(value, "detach"):  # PyTorch's
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # NumPy has no bfloat16
            return np.asarray(jnp.asarray(value.float().numpy()).astype(jnp.bfloat16))
        return value.numpy()
    if hasattr(value, "get_value") or hasattr(value, "value"):  # Flax's, Keras's
        return _as_numpy(name, value.get_value() if hasattr(value, "get_value") else value.value)
    if hasattr(value, "numpy"):  # TensorFlow's
        return value.numpy()
    if not isinstance(value, np.ndarray | jax.Array) or isinstance(value, Tracer):
        raise TypeError(f"`{name}` must be an array; got {type(value).__name__}")
    return np.asarray(value)


def tensor(value: np.ndarray) -> Any:
    """Returns an array as a PyTorch tensor."""
    import torch  # pyright: ignore[reportMissingImports]

    if value.dtype == jnp.bfloat16:  # PyTorch does not take bfloat16 from NumPy
        return torch.from_numpy(value.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(value))


def entry(of: str, arrays: Mapping[str, Any], name: str, shape: Sequence[int | None] | None = None) -> np.ndarray:
    """Returns `arrays[name]` of the argument `of`, converted by `array`. Raises ValueError if it is missing."""
    if name not in arrays:
        raise ValueError(f"`{of}` must have {name!r}; there are {listed(arrays)}")
    return array(f"{of}[{name!r}]", arrays[name], shape)


def listed(names: Any) -> str:
    """Returns names as text for an error, shortened if there are many."""
    text = ", ".join(map(str, names))
    return (text if len(text) <= 160 else f"{text[:157]}...") or "none"


def split(joined: np.ndarray, gates: Sequence[str], axis: int = -1) -> Gates:
    """Returns the arrays of the gates, which are joined in that order along the axis."""
    return dict(zip(gates, np.split(joined, len(gates), axis=axis), strict=True))


def join(arrays: Gates, gates: Sequence[str], axis: int = -1) -> np.ndarray:
    """Returns the arrays of the gates, concatenated in that order."""
    return np.concatenate([arrays[gate] for gate in gates], axis=axis)


def added(first: Gates, second: Gates) -> Gates:
    """Returns the sums, gate by gate, of two biases."""
    return {gate: first[gate] + second[gate] for gate in first}


def each(arrays: Gates, function: Any) -> Gates:
    """Returns `function` of the array of every gate."""
    return {gate: function(array) for gate, array in arrays.items()}


def zeros(like: Gates) -> Gates:
    """Returns a zero bias for each gate, for weights `[D, H]` each."""
    return each(like, lambda weight: np.zeros(weight.shape[-1], weight.dtype))
