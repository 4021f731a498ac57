"""Gradients of pytrees that contain flags. A bool or an int has no gradient: its cotangent is None.

JAX writes such a cotangent as an array of dtype float0. A hand-written backward returns None instead.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check


def pull_back(function: Callable, primals: tuple, cotangents: Any) -> tuple:
    """Returns the gradient of `function(*primals)`. `cotangents` may be None where a result has no gradient."""
    results, pull = jax.vjp(function, *primals)
    return jax.tree.map(_left_out, pull(jax.tree.map(_filled_in, cotangents, results, is_leaf=_is_none)))


def transpose(name: str, function: Callable, shapes: tuple, cotangents: Any) -> tuple:
    """Returns the cotangents of the arguments of `function`, which have these `shapes`, from those of its results.

    Raises:
      ValueError: the function is not linear in floats. `jaxseq.around` calls it `name`.
      TypeError: the cotangents do not match its results, which the inner cell's `bwd` got from its step.
    """
    try:
        return jax.linear_transpose(function, *shapes)(cotangents)
    except (AssertionError, NotImplementedError) as error:  # raised by JAX for products and functions such as tanh
        raise ValueError(
            f"`{name}` must be linear in floats, because its gradient is its transpose, and JAX cannot transpose it. "
            "Let JAX differentiate the whole step instead: around(cell._replace(backward=None), ...)"
        ) from error
    except TypeError:
        results = jax.eval_shape(function, *shapes)
        if not check.gradients(cotangents, results):
            want, got = (jax.tree.map(check.shaped, tree) for tree in (results, cotangents))
            raise TypeError(
                f"`cell.backward.bwd` must return (d_carry, d_u), with a d_carry like the carry of its step, "
                f"{want}; got {got}"
            ) from None
        raise


def add(one: Any, other: Any) -> Any:
    """Returns the sum of two gradients of the same pytree. In `one`, None may stand for a whole subtree."""

    def total(one, other):
        if one is None or other is None:
            return other if one is None else one
        if one.shape != other.shape:
            raise ValueError(f"gradients of one array have shapes {one.shape} and {other.shape}")
        return one + other

    return jax.tree.map(total, one, other, is_leaf=_is_none)


def _filled_in(d, results):
    """Returns a cotangent in JAX's form: zeros in place of None, with dtype float0 where the results are flags."""
    if d is not None:
        return d

    def zeros(leaf):
        return np.zeros(leaf.shape, leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else jax.dtypes.float0)

    return jax.tree.map(zeros, results)


def _left_out(d):
    return None if d.dtype == jax.dtypes.float0 else d


def _is_none(leaf):
    return leaf is None
