"""A linear cell: a `Cell` that is defined by the element of a step and by how outputs are read."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._promote import widen
from jaxseq.typing import Carry, Cell, Element, Inputs, Linear, Params


def linear_cell(
    size: int,
    init: Callable[..., Params],
    carry: Callable[..., Carry],
    project: Callable[[Params, Inputs], Inputs],
    element: Callable[[Params, Inputs], Element],
    read: Callable[[Params, Any, Inputs], jax.Array] | None = None,
) -> Cell:
    """Returns a cell whose step is linear in its carry. It works with masks, resets and every kernel.

    States are kept in at least float32, for any dtype of the params: `carry` and `element` are widened to it, and the
    outputs are returned in the dtype of the params.

    Args:
      size: H, the number of output features.
      init: `(key, in_size, dtype=None) -> params`.
      carry: `(params, batch_shape=()) -> carry`: the initial carry, in the form that the algebra's steps take.
      project: `(params, xs) -> us`: the matrix products of the inputs, pointwise in time.
      element: `(params, us) -> Element`, one of `jaxseq.recurrences`, pointwise in time: of a whole sequence
        `[T, B, ...]` or of one step.
      read: `(params, observed, us) -> ys [T, B, H]`, real and pointwise in time. It need not be linear. None: the
        outputs are `observed`.

    Raises:
      TypeError, ValueError: an argument does not fit. When the cell runs: the outputs are complex.

    >>> from jaxseq import recurrences
    >>> def leaky(size, rate=0.9):  # h' = rate ⊙ h + x W
    ...     def init(key, in_size, dtype=None):
    ...         return {"w": jax.random.normal(key, (in_size, size), dtype)}
    ...     def carry(params, batch_shape=()):
    ...         return jnp.zeros((*batch_shape, size), params["w"].dtype)
    ...     def element(params, us):
    ...         return recurrences.Diagonal(jnp.full(size, rate, us.dtype), us)
    ...     return recurrences.linear_cell(size, init, carry, lambda params, xs: xs @ params["w"], element)
    >>> cell = leaky(4)
    >>> carry, ys = jaxseq.unroll(cell, cell.init(jax.random.key(0), 3), jnp.ones([5, 2, 3]))
    >>> ys.shape
    (5, 2, 4)
    """
    size = check.positive_int("size", size)
    for name, function, count in (
        ("init", init, 3),
        ("carry", carry, 2),
        ("project", project, 2),
        ("element", element, 2),
    ):
        check.function_taking(name, function, count)
    check.functions_taking(read=(read, 3))

    def wide_carry(params, batch_shape=()):
        return _wide(carry(params, batch_shape))

    def wide_element(params, us):
        return _wide(element(params, us))

    def read_narrow(params, observed, us):
        ys = observed if read is None else read(params, observed, us)
        if not jnp.issubdtype(ys.dtype, jnp.floating):
            raise TypeError(f"`read` must return real outputs [T, B, H]; got {check.shaped(ys)}")
        floats = (leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating))
        return ys.astype(next(floats, ys.dtype))

    def step(params, carry, u):
        after, observed = wide_element(params, u).step(carry)
        return after, read_narrow(params, observed, u)

    return Cell(size, init, wide_carry, project, step, linear=Linear(wide_element, read_narrow))


def _wide(tree):
    """Returns the pytree with floats in the dtype for sums over them. Flags and complex numbers are unchanged."""
    return jax.tree.map(
        lambda leaf: leaf.astype(widen(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
