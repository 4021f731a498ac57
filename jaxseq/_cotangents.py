"""Gradients of pytrees that hold flags: None, for a bool or an int, is no gradient.

JAX writes such a cotangent as an array of dtype float0; a hand-written backward leaves it out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check


def pull_back(function: Callable, primals: tuple, cotangents: Any) -> tuple:
    """Returns JAX's gradient of `function(*primals)`; `cotangents` may have None where the results have no gradient."""
    results, pull = jax.vjp(function, *primals)
    return jax.tree.map(_left_out, pull(jax.tree.map(_filled_in, cotangents, results, is_leaf=_is_none)))


def transpose(name: str, function: Callable, shapes: tuple, cotangents: Any) -> tuple:
    """Returns the cotangents of the arguments of `function`, of these shapes, from those of its results.

    Raises:
      ValueError: the function, called `name` by `jaxseq.around`, is not linear in its floats.
      TypeError: the cotangents are not like its results, which are what the inner cell's `bwd` had from its step.
    """
    try:
        return jax.linear_transpose(function, *shapes)(cotangents)
    except (AssertionError, NotImplementedError) as error:  # JAX's, of products and of functions such as tanh
        raise ValueError(
            f"`{name}` must be linear in floats: its gradient is its transpose, and JAX has none. Let JAX "
            "differentiate the whole step instead: around(cell._replace(backward=None), ...)"
        ) from error
    except TypeError:
        results = jax.eval_shape(function, *shapes)
        if not check.gradients(cotangents, results):
            want, got = (jax.tree.map(check.shaped, tree) for tree in (results, cotangents))
            raise TypeError(
                f"`cell.backward.bwd` must return (d_carry, d_u), with a d_carry like the carry "
                f"that its step took, {want}; got {got}"
            ) from None
        raise


def add(one: Any, other: Any) -> Any:
    """Returns the sum of two gradients of the same pytree; in `one` None may stand for a whole part of it."""

    def total(one, other):
        if one is None or other is None:
            return other if one is None else one
        if one.shape != other.shape:
            raise ValueError(f"gradients of one array are of {one.shape} and {other.shape}")
        return one + other

    return jax.tree.map(total, one, other, is_leaf=_is_none)


def _filled_in(d, results):
    """A cotangent as JAX wants it: zeros for None, of dtype float0 where the results are flags."""
    if d is not None:
        return d

    def zeros(leaf):
        return np.zeros(leaf.shape, leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else jax.dtypes.float0)

    return jax.tree.map(zeros, results)


def _left_out(d):
    return None if d.dtype == jax.dtypes.float0 else d


def _is_none(leaf):
    return leaf is None
