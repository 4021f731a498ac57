"""A linear cell: a `Cell` made of the element of a step and of how outputs are read."""

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
    """Returns the cell whose step is linear in its carry; masks, resets and every kernel follow.

    Whatever the dtype of the params, states are kept in float32 at least: `carry` and `element` are widened to that,
    and what is read comes back in the dtype of the params.

    Args:
      size: H, the features of an output.
      init: `(key, in_size, dtype=None) -> params`.
      carry: `(params, batch_shape=()) -> carry`: the initial carry, what the steps of the algebra take.
      project: `(params, xs) -> us`: what is made of the inputs by matrix products, pointwise in time.
      element: `(params, us) -> Element`, one of `jaxseq.recurrences`, pointwise in time: of a whole sequence
        `[T, B, ...]` or of one step.
      read: `(params, observed, us) -> ys [T, B, H]`, real, pointwise in time, linear or not; None: what is observed.

    Raises:
      TypeError, ValueError: an argument is not what it must be; at a run, where outputs are complex.

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
    """The floats of a pytree in the dtype in which sums over them are kept; flags and complex numbers as they are."""
    return jax.tree.map(
        lambda leaf: leaf.astype(widen(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
