"""What losses and metrics take: arrays and a mask of one shape, element by element; nothing is broadcast."""

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._promote import widen


def floats(**arrays: jax.Array) -> list[jax.Array]:
    """Returns arrays of one shape in the float dtype of the first, or in float32 where that is narrower."""
    shaped = same_shape(**arrays)
    floating(next(iter(arrays)), shaped[0])
    return [x.astype(wide(shaped[0])) for x in shaped]


def ids(**arrays: jax.Array) -> list[jax.Array]:
    """Returns arrays of one shape, of integers or bools, as JAX's default int."""
    return [integers(name, x) for name, x in zip(arrays, same_shape(**arrays), strict=True)]


def same_shape(**arrays: jax.Array) -> list[jax.Array]:
    """Returns the arrays; raises unless all have the shape of the first."""
    shaped = [check.array(name, "...", x) for name, x in arrays.items()]
    first = next(iter(arrays))
    for name, x in zip(arrays, shaped, strict=True):
        if x.shape != shaped[0].shape:
            raise ValueError(
                f"`{name}` must have the shape of `{first}`, {shaped[0].shape}; got {x.shape}. Nothing is broadcast."
            )
    return shaped


def floating(name: str, x: jax.Array) -> None:
    """Raises unless `x` is of a float dtype."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floating; got {x.dtype} {x.shape}. Cast it: {name}.astype(float).")


def integers(name: str, x: jax.Array) -> jax.Array:
    """Returns integers or bools as JAX's default int."""
    if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise TypeError(f"`{name}` must be integers, ids; got {x.dtype} {x.shape}. Take the argmax of logits first.")
    return x.astype(int)


def wide(x: jax.Array) -> jnp.dtype:
    """The dtype to compute and add up in: that of `x`, but float32 for integers and for narrower floats."""
    return widen(x.dtype)
