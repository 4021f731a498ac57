"""Runs a user's function eagerly, as a program that is compiled once per computation.

The compiled program cannot be cached by the function. What the function closes over (such as the params of a module)
may have changed since, and a lambda is a new object at every call. So each call is traced, the arrays that it closes
over become arguments, and the compiled program is cached by the text of the traced computation.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import jaxprs_in_params


class _Program:
    """A jaxpr that compares equal to others with the same text."""

    def __init__(self, jaxpr: Any, text: tuple):
        self.jaxpr, self.text = jaxpr, text

    def __eq__(self, other):
        return isinstance(other, _Program) and self.text == other.text

    def __hash__(self):
        return hash(self.text)


def eager(function: Callable, *args: Any) -> Any:
    """Returns `function(*args)`, a pytree of arrays. Under a JAX transformation, calls the function directly.

    Args:
      function: a new function object at each call, because JAX caches the jaxprs of old ones. It is pure, except that
        what it closes over may change between calls.
      args: pytrees of arrays and numbers.
    """
    is_traced = lambda tree: any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
    if is_traced((args, jnp.zeros(()))) or jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return function(*args)
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    equations = list(_equations(closed.jaxpr))
    if is_traced(closed.consts) or closed.effects or any("callback" in str(e.primitive) for e in equations):
        return function(*args)  # the text of a callback does not say what it calls
    leaves = jax.tree.leaves(args)
    run = functools.partial(eval_jaxpr, closed.jaxpr)
    lowered = jax.jit(run).lower(closed.consts, *leaves)
    # JAX may keep constant arrays inside equations; they are part of the text.
    inside = tuple(id(atom.val) for e in equations for atom in e.invars if np.ndim(getattr(atom, "val", 0)))
    program = _Program(closed.jaxpr, (lowered.as_text(), inside))
    return jax.tree.unflatten(jax.tree.structure(shapes), _run(program, closed.consts, leaves))


@functools.partial(jax.jit, static_argnums=0)
def _run(program: _Program, consts: Any, leaves: Any) -> Any:
    return eval_jaxpr(program.jaxpr, consts, *leaves)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yields the equations of a jaxpr and of the jaxprs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)
