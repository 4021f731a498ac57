"""Checks of the functions of a user's `Backward`, after a run with them has failed."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.check._arrays import shaped
from jaxseq.check._values import takes, takes_what
from jaxseq.typing import Cell, Heard, Params

_FUNCTIONS = {  # name: (signature, number of arguments)
    "fwd": ("(params, carry, u)", 3),
    "bwd": ("(params, saved, d_carry, d_y)", 4),
    "collect": ("(params, saved, d_us)", 3),
    "project": ("(params, xs, d_us)", 3),
}


def by_fwd(result: Any) -> tuple:
    """Returns what `fwd` returned. Raises unless it is (carry, y, saved)."""
    if not isinstance(result, tuple) or len(result) != 3 or not hasattr(result[1], "shape"):
        raise TypeError(f"`cell.backward.fwd` must return (carry, y, saved); got {_shapes(result)}")
    return result


def by_bwd(result: Any, carry: Any) -> tuple:
    """Returns what `bwd` returned. Raises unless it is (d_carry, d_u), with a gradient of `carry` or of a `Heard`."""
    if isinstance(result, tuple) and len(result) == 2:
        d_carry = result[0].carry if isinstance(result[0], Heard) else result[0]
        if gradients(d_carry, carry):
            return result
    raise TypeError(
        f"`cell.backward.bwd` must return (d_carry, d_u), with a d_carry like {_shapes(carry)}; got {_shapes(result)}"
    )


def by_project(result: Any, like: tuple) -> tuple:
    """Returns what the `project` of a `Backward` returned. Raises unless it is the gradients of params and xs."""
    _hold("project", "(d_params, d_xs)", result, like)
    return result


def blame_forward(error: Exception, cell: Cell, params: Params, carry: Any, u: Any, result: Any) -> None:
    """Raises if `fwd` does not return the `result` of the cell's `step` followed by what it saves."""
    backward_signatures(cell)
    assert cell.backward is not None
    try:
        got = jax.eval_shape(cell.backward.fwd, params, carry, u)
    except Exception as again:  # a user's function may raise anything; `error` is the same error
        _note(error, again, "fwd", f"carry {_shapes(carry)}, u {_shapes(u)}")
        return
    if not isinstance(got, tuple) or len(got) != 3 or not _alike(got[:2], result):
        raise TypeError(
            "`cell.backward.fwd` must return (carry, y, saved), with the carry and y of `cell.step`, "
            f"{_shapes(result)}; got {_shapes(got)}"
        ) from None


def blame_backward(error: Exception, cell: Cell, params: Params, xs: Any, saved: Any, cotangents: tuple) -> None:
    """Raises if `bwd`, `collect` or `project` do not return gradients of their arguments.

    Call it after the `error` of a backward pass over `xs`, which saved `saved`. Both have leading time. `cotangents`
    are those of the last carry and of ys. If a function itself raises, the error is kept and gets a note.
    """
    backward_signatures(cell)
    assert cell.backward is not None
    (d_carry, d_ys), (bwd, collect, project) = cotangents, cell.backward[1:]
    u = jax.eval_shape(cell.project, params, _step(xs))
    step = _step(saved), d_carry, _step(d_ys)
    try:
        got = jax.eval_shape(bwd, params, *step)
    except Exception as again:  # as above
        _note(error, again, "bwd", f"saved {_shapes(step[0])}, d_carry {_shapes(d_carry)}, d_y {_shapes(step[2])}")
        return
    _hold("bwd", "(d_carry, d_u)", got, (d_carry, u))
    T = jax.tree.leaves(xs)[0].shape[0]
    d_us = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((T, *leaf.shape), leaf.dtype), got[1])
    for name, returns, function, arguments, like in (
        ("collect", "d_params", collect, (params, saved, d_us), params),
        ("project", "(d_params, d_xs)", project, (params, xs, d_us), (params, xs)),
    ):
        try:
            got = like if function is None else jax.eval_shape(function, *arguments)
        except Exception as again:  # as above
            _note(error, again, name, f"d_us {_shapes(d_us)}")
            return
        _hold(name, returns, got, like)


def gradients(got: Any, like: Any) -> bool:
    """Returns whether `got` is a gradient of `like`. None stands for the gradient of a flag or a subtree of flags."""
    try:
        same = jax.tree.map(_is_gradient, got, like, is_leaf=lambda leaf: leaf is None)
    except (TypeError, ValueError):  # the structures differ
        return False
    return all(jax.tree.leaves(same))


def backward_signatures(cell: Cell) -> None:
    """Raises if a function of the cell's `Backward` cannot take its arguments."""
    for name, (expected, count) in _FUNCTIONS.items():
        function = getattr(cell.backward, name, None)
        if function is not None and not takes(function, count):
            raise TypeError(f"`cell.backward.{name}` must take {expected}; {takes_what(function)}")


def _hold(name, returns, got, like):
    if not gradients(got, like):
        raise TypeError(
            f"`cell.backward.{name}` must return {returns}, gradients like {_shapes(like)}; got {_shapes(got)}"
        ) from None


def _note(error, again, name, given):
    if type(error) is type(again) and "cell.backward" not in str(error):
        error.add_note(f"`cell.backward.{name}{_FUNCTIONS[name][0]}` was given {given}")


def _is_gradient(got, like):
    if got is None:
        return True
    if not hasattr(like, "shape"):  # a subtree of several arrays
        return False
    return jnp.shape(got) == like.shape and jnp.result_type(got) in (like.dtype, jax.dtypes.float0)


def _alike(got, want):
    same = [(jax.tree.structure(tree), [shaped(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (got, want)]
    return same[0] == same[1]


def _step(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)


def _shapes(tree):
    return jax.tree.map(shaped, tree)
