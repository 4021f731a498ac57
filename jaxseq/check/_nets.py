"""Checks of cells and nets, of their params and of their carries."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.check._arrays import shaped
from jaxseq.check._backward import blame_forward
from jaxseq.check._values import kind, takes, takes_what
from jaxseq.typing import Carry, Cell, Composite, Params, Shape

_FUNCTIONS = {  # of a net: name: (signature, possible numbers of arguments)
    "init": ("(key, in_size, dtype=None)", (2, 3)),
    "carry": ("(params, batch_shape=())", (1, 2)),
    "project": ("(params, xs)", (2,)),
    "step": ("(params, carry, u)", (3,)),
}


def outputs(cell: Cell, ys: Any, steps: Shape) -> None:
    """Raises unless the outputs are `steps` by `cell.size` features. It checks cells and kernels of users."""
    shape = jnp.shape(ys)
    if shape != (*steps, cell.size):
        raise ValueError(
            f"the outputs must be {steps} steps by {cell.size} features, the cell's `size`; its `step`, or the kernel, "
            f"gave {shape}"
        )


def net(cell: Any, name: str = "cell") -> None:
    """Raises unless `cell` is a Cell or a Composite. `name` is the name of the argument."""
    if not isinstance(cell, Cell | Composite):
        if isinstance(getattr(cell, "cell", None), Cell | Composite):
            hint = " Of a layer of nn, give its `cell`, and as params nnx.as_pure(layer.params)."
        else:
            hint = " Did you pass the factory itself? Call it: lstm(256)." if inspect.isfunction(cell) else ""
        raise TypeError(f"`{name}` must be a jaxseq.Cell or a jaxseq.Composite; got {kind(cell)}.{hint}")


def inside(wrapper: str, cell: Any) -> None:
    """Raises unless `cell` is a Cell, as `wrapper` works inside a cell."""
    net(cell)
    if isinstance(cell, Composite):
        raise TypeError(f"`cell` must be a jaxseq.Cell; this is a Composite. Apply `{wrapper}` to the cells inside it.")


def causal(cell: Any) -> Callable:
    """Returns the `step` of a Cell or a causal Composite."""
    net(cell)
    if cell.step is None:
        raise ValueError("this Composite is not causal: its output at a step depends on later steps. Use unroll.")
    return cell.step


def parameters(cell: Cell | Composite, params: Params, in_size: int) -> None:
    """Raises unless `params` has the structure and the shapes of `cell.init(key, in_size)`."""
    expected = expected_parameters(cell, in_size)
    if jax.tree.structure(params) != jax.tree.structure(expected):
        raise ValueError(
            f"`params` must be what cell.init(key, in_size) returns, {brief(jax.tree.structure(expected))}; "
            f"got {brief(jax.tree.structure(params))}. Do they belong to another cell?"
        )
    for (path, leaf), (_, want) in zip(_leaves(params), _leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"`params{path}` must be {want.shape} for inputs of D = {in_size} features and this cell; "
                f"got {jnp.shape(leaf)}. Is the last axis of `xs` the features, and are the params of this cell?"
            )
        if jnp.issubdtype(want.dtype, jnp.floating) and not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"`params{path}` must be floating; got {shaped(leaf)}")


def shape_of_inputs(name: str, axes: str, xs: Any) -> None:
    """Raises unless `xs` is a float array, or the shape and dtype of one, with axes `axes` (batch axes optional)."""
    if not (hasattr(xs, "shape") and hasattr(xs, "dtype")):
        raise TypeError(f"`{name}` must be an array [{axes}], or its shape and dtype; got {kind(xs)}")
    ndim = len([axis for axis in axes.split(", ") if axis != "B"])
    if not jnp.issubdtype(xs.dtype, jnp.floating) or len(xs.shape) < ndim:
        raise TypeError(f"`{name}` must be floating [{axes}], of at least {ndim} axes; got {shaped(xs)}")
    if xs.shape[-1] == 0:
        raise ValueError(f"`{name}` must be [{axes}], of at least one feature; got {shaped(xs)}")


def carry(cell: Cell | Composite, params: Params, carry: Carry, batch: Shape) -> None:
    """Raises unless `carry` has the structure, shapes and dtypes of `cell.carry(params, batch)`."""
    expected = jax.eval_shape(lambda params: cell.carry(params, batch), params)
    if jax.tree.structure(carry) != jax.tree.structure(expected):
        raise ValueError(
            f"`carry` must be like cell.carry(params, {batch}), {_outline(expected)}; "
            f"got {_outline(carry)}. Does it belong to another cell?"
        )
    for (path, leaf), (_, want) in zip(_leaves(carry), _leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(f"`carry{path}` must be {shaped(want)} for the batch {batch}; got {shaped(leaf)}")
        if jnp.result_type(leaf) != want.dtype:
            raise TypeError(f"`carry{path}` must be {shaped(want)}; got {shaped(leaf)}")


def batch_leads(cell: Cell, params: Params, batch: Shape) -> None:
    """Raises unless every leaf of the carry begins with the batch axes, as masks and resets select along them."""
    expected, one = (jax.eval_shape(lambda params, b=b: cell.carry(params, b), params) for b in (batch, ()))
    for (path, leaf), row in zip(_leaves(expected), jax.tree.leaves(one), strict=True):
        if leaf.shape != batch + row.shape:
            raise ValueError(
                f"under a mask or a reset, `carry{path}` must lead with the batch {batch}; got {leaf.shape}"
            )


def signatures(cell: Cell | Composite) -> None:
    """Raises if a function of a user's net cannot take its arguments."""
    for name, (expected, counts) in _FUNCTIONS.items():
        function = getattr(cell, name, None)
        if function is not None and not all(takes(function, count) for count in counts):
            raise TypeError(f"`cell.{name}` must take {expected}; {takes_what(function)}")


def blame(error: Exception, cell: Cell, params: Params, carry: Carry, x: Any) -> None:
    """Raises if a user's cell is not what `Cell` requires. Call it after the `error` of a run with it.

    If `project` or `step` itself raises, the error is kept and gets a note with its arguments.
    """
    signatures(cell)
    given = {"xs": x}
    try:
        u = jax.eval_shape(cell.project, params, x)
        given = {"carry": carry, "u": u}
        result = jax.eval_shape(cell.step, params, carry, u)
    except Exception:  # the same error again
        function = "project(params, xs)" if "xs" in given else "step(params, carry, u)"
        shapes = ", ".join(f"{name} {jax.tree.map(shaped, value)}" for name, value in given.items())
        error.add_note(f"`cell.{function}` was given {shapes}")
        return
    if not isinstance(result, tuple) or len(result) != 2:
        got = brief(jax.tree.map(shaped, result))
        raise TypeError(f"`cell.step` must return (carry, y); got {got}") from None
    shapes, expected = (jax.tree.map(shaped, tree) for tree in (result[0], carry))
    if jax.tree.structure(result[0]) != jax.tree.structure(carry) or shapes != expected:
        _blame_carry(cell, params, carry, result[0], jax.tree.leaves(x)[0].shape[:-1])
        raise TypeError(
            "`cell.step` must return (carry, y), with a carry like the one it was given, "
            f"{brief(expected)}; got {brief(shapes)}"
        ) from None
    if cell.backward is not None:
        blame_forward(error, cell, params, carry, u, result)


def _blame_carry(cell, params, carry, after, batch):
    """Raises if the initial carry has no batch axes but the carry after a step has."""
    one = jax.eval_shape(lambda params: cell.carry(params, ()), params)
    leaves = [list(map(jnp.shape, jax.tree.leaves(tree))) for tree in (carry, one, after)]
    for before, alone, later in zip(*leaves, strict=False):
        if before == alone != later == (*batch, *alone):
            raise ValueError(
                f"`cell.carry(params, {batch})` must return the batch axes too; got {before}, and a step returned "
                f"{later}. Does it use its `batch_shape`?"
            ) from None


@functools.lru_cache(maxsize=1024)
def expected_parameters(cell: Cell | Composite, in_size: int) -> Params:
    """Returns the shapes of the params that `cell.init(key, in_size)` returns."""
    return jax.eval_shape(lambda key: cell.init(key, in_size), jax.eval_shape(lambda: jax.random.key(0)))


def brief(tree: Any) -> str:
    """Returns the text of a tree or structure for an error. If it is long: its beginning, and the number of leaves."""
    text = str(tree)
    if len(text) <= 120:
        return text
    if isinstance(tree, str):
        return f"{text[:117]}..."
    structure = tree if isinstance(tree, jax.tree_util.PyTreeDef) else jax.tree.structure(tree)
    return f"{text[:117]}... of {structure.num_leaves} leaves"


def _outline(tree):
    """The text of a tree with the dtype and shape of each leaf in its place."""
    return brief(jax.tree.map(shaped, tree)).replace("'", "")


def _leaves(tree):
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
