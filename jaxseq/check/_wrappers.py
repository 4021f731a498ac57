"""Checks of the functions that are passed to `jaxseq.around`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq.check._arrays import shaped
from jaxseq.check._nets import expected_parameters
from jaxseq.check._values import kind
from jaxseq.typing import Cell, Params, Shape


def noting(**functions: Callable | None) -> list[Callable | None]:
    """Returns functions of `around` whose errors name the function, and say whether `given` was None."""
    return [None if function is None else _Noting(name, function) for name, function in functions.items()]


@dataclasses.dataclass(frozen=True)
class _Noting:
    """A function whose errors name it. It pickles as the wrapped function does."""

    name: str
    function: Callable

    def __call__(self, given: Any, *arguments: Any) -> Any:
        try:
            return self.function(given, *arguments)
        except Exception as error:  # a user's function may raise anything; a note is added, and it is raised again
            why = "; `given` was None, as it is where `unroll` has no key" if given is None else ""
            error.add_note(f"raised in the `{self.name}` of jaxseq.around{why}")
            raise


def drawn(given: Any, steps: Shape, travels: str | None) -> Any:
    """Returns what `draw` returned. Raises unless it is bools or ints that begin with `steps [T, B]`, or with `[B]`."""
    for leaf in jax.tree.leaves(given):
        dtype = jnp.result_type(leaf)
        if not (jnp.issubdtype(dtype, jnp.bool_) or jnp.issubdtype(dtype, jnp.integer)):
            raise TypeError(f"`draw` must return bools or ints, which have no gradient; got {shaped(leaf)}")
    if travels == "params":
        return _leading("draw", given, steps[1:], 'the batch [B], as `given` is "params"')
    return _leading("draw", given, steps, "the steps [T, B]")


def extra(result: Any, lead: Shape) -> Any:
    """Returns what `extra` returned. Raises unless it is floats or complex, and begins with the steps and the batch."""
    for leaf in jax.tree.leaves(result):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise TypeError(f"`extra` must return floats; got {shaped(leaf)}. Flags and noise are `given`")
    return _leading("extra", result, lead, "the steps and the batch of xs")


def own_params(params: Params, cell: Cell, in_size: int) -> Params:
    """Returns what `init` returned. Raises unless it is a NamedTuple whose first field is params of `cell`."""
    message = "`init` must return a NamedTuple whose first field holds what the inner cell's `init` returned"
    if not hasattr(params, "_fields"):
        raise TypeError(f"{message}; got {kind(params)}")
    expected, got = (jax.tree.structure(tree) for tree in (expected_parameters(cell, in_size), params[0]))
    if got != expected:
        raise TypeError(f"{message}, {expected}; got {kind(params)} whose `{params._fields[0]}` is {got}")
    return params


def like_step(name: str, result: Any, expected: Any) -> Any:
    """Returns what the function `name` returned. Raises unless it has the expected structure, shapes and dtypes."""
    got, want = (jax.tree.map(shaped, tree) for tree in (result, expected))
    if jax.tree.structure(got) != jax.tree.structure(want) or got != want:
        raise TypeError(f"`{name}` must return the shapes and dtypes of the cell's own step, {want}; got {got}")
    return result


def _leading(name, result, lead, axes):
    for leaf in jax.tree.leaves(result):
        if jnp.shape(leaf)[: len(lead)] != lead:
            raise ValueError(f"`{name}` must return arrays that lead with {axes}, {lead}; got {shaped(leaf)}")
    return result
