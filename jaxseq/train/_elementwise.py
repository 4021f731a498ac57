"""Checks of the arguments of losses and metrics: arrays and a mask of one shape, without broadcasting."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.typing import AnyArray


def floats(**arrays: AnyArray) -> list[jax.Array]:
    """Returns arrays of one shape in the float dtype of the first, or in float32 if that has fewer bits."""
    shaped = same_shape(**arrays)
    floating(next(iter(arrays)), shaped[0])
    return [x.astype(wide(shaped[0])) for x in shaped]


def ids(**arrays: AnyArray) -> list[jax.Array]:
    """Returns arrays of one shape, of integers or bools, in JAX's default int dtype."""
    return [integers(name, x) for name, x in zip(arrays, same_shape(**arrays), strict=True)]


def same_shape(**arrays: AnyArray) -> list[jax.Array]:
    """Returns the arrays; raises unless they all have the shape of the first."""
    shaped = [check.array(name, "...", x) for name, x in arrays.items()]
    first = next(iter(arrays))
    for name, x in zip(arrays, shaped, strict=True):
        real(name, x)
        if x.shape != shaped[0].shape:
            raise ValueError(
                f"`{name}` must have the shape of `{first}`, {shaped[0].shape}; got {x.shape}. Nothing is broadcast."
            )
    return shaped


def real(name: str, x: jax.Array) -> None:
    """Raises if x is complex, since its imaginary part would be dropped."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"`{name}` must be real; got {x.dtype} {x.shape}. Pass {name}.real and {name}.imag separately.")


def strings(name: str, value: Any, example: str) -> list[str]:
    """Returns a sequence of strings as a list."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise TypeError(f"`{name}` must be a list of strings, such as {example}; got {check.short(value)}")
    return list(value)


def floating(name: str, x: jax.Array) -> None:
    """Raises unless `x` is of a float dtype."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floating; got {x.dtype} {x.shape}. Cast it: {name}.astype(float).")


def integers(name: str, x: jax.Array) -> jax.Array:
    """Returns integers or bools in JAX's default int dtype."""
    if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise TypeError(f"`{name}` must be integer ids; got {x.dtype} {x.shape}. Take the argmax of logits first.")
    return x.astype(int)


def wide(x: jax.Array) -> jnp.dtype:
    """Returns the dtype to compute and add up in: that of `x`, or float32 for integers and 16-bit floats."""
    return widen(x.dtype)
