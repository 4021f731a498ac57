"""Eager calls around a function of the user's, compiled once for what they compute.

Such a program cannot be kept under the name of that function: what it closes over, the params of a module say, may have
changed since, and a lambda is another one at every call. So the call is traced each time, the arrays that are closed
over become arguments, and the compiled program is kept under the text of what was traced.
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
    """A jaxpr that is equal to others of the same text."""

    def __init__(self, jaxpr: Any, text: tuple):
        self.jaxpr, self.text = jaxpr, text

    def __eq__(self, other):
        return isinstance(other, _Program) and self.text == other.text

    def __hash__(self):
        return hash(self.text)


def eager(function: Callable, *args: Any) -> Any:
    """Returns `function(*args)`, a pytree of arrays; under a transformation of JAX's as it is.

    Args:
      function: a new one at each call, as JAX remembers the jaxprs of old ones; pure but for what it closes over.
      args: pytrees of arrays and numbers.
    """
    is_traced = lambda tree: any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
    if is_traced((args, jnp.zeros(()))) or jax.config.jax_disable_jit:  # pyright: ignore[reportAttributeAccessIssue]
        return function(*args)
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    equations = list(_equations(closed.jaxpr))
    if is_traced(closed.consts) or closed.effects or any("callback" in str(e.primitive) for e in equations):
        return function(*args)  # a callback's text does not say what it calls
    leaves = jax.tree.leaves(args)
    run = functools.partial(eval_jaxpr, closed.jaxpr)
    lowered = jax.jit(run).lower(closed.consts, *leaves)
    # Arrays inside equations, where JAX keeps constants there, are arguments of the text.
    inside = tuple(id(atom.val) for e in equations for atom in e.invars if np.ndim(getattr(atom, "val", 0)))
    program = _Program(closed.jaxpr, (lowered.as_text(), inside))
    return jax.tree.unflatten(jax.tree.structure(shapes), _run(program, closed.consts, leaves))


@functools.partial(jax.jit, static_argnums=0)
def _run(program: _Program, consts: Any, leaves: Any) -> Any:
    return eval_jaxpr(program.jaxpr, consts, *leaves)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a jaxpr, and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)
