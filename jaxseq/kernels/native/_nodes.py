"""The nodes of a function of one row.

leaf      an argument: of the row, or a param
const     known numbers
param     computed from params only: JAX evaluates it once, before the loop
move      numbers in another order: slices, splits, concatenations, transposes, broadcasts, as one index map
view      all numbers in the same order, seen as another shape
product   x [b, m, K], of the row, by weights [b, K, G] that are computed from params only
reduce    sum, max or min of [m, n] over n
others    a JAX primitive of that name, elementwise, on operands that have the size of the result or one number
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Unsupported(Exception):  # noqa: N818 - an answer, which becomes the reason of a plan
    """Says why a function does not run natively."""


class Node:
    """The numbers of one step of one row, or of the params.

    Attributes:
      op: the kind, as above.
      args: the nodes it is computed from. They may be given as a function, as many are never needed.
      size, shape, dtype: of the result. `shape` only records the shape in JAX.
      row: whether it depends on the row.
      value: for a const, its numbers in flat order; otherwise the function of its args' values, or None if unknown.
      facts: for a move, the index map: `which` arg, and the place in it, `at`; for an `outer` product, its two factors;
        for other nodes, what their kind needs.
    """

    __slots__ = ("_args", "dtype", "facts", "op", "row", "shape", "size", "value")

    def __init__(self, op: str, args: Any, shape: tuple, dtype: Any, row: bool, value: Any = None, **facts):
        self._args: Any = args
        self.op, self.row, self.value, self.facts = op, row, value, facts
        self.shape, self.dtype, self.size = tuple(shape), dtype, math.prod(shape)

    @property
    def args(self) -> Sequence["Node"]:
        """Returns the nodes it is computed from."""
        if callable(self._args):
            self._args = self._args()
        args: Any = self._args
        return args

    def become(self, op: str, args: Sequence["Node"], value: Any = None):
        """Changes how the node is computed. Its value stays the same."""
        self.op, self._args, self.value = op, args, value

    def __repr__(self):
        return f"{self.op}{list(self.shape)}"


def base(node: Node) -> Node:
    """Returns the node that a view shows, in the same order."""
    while node.op == "view":
        node = node.args[0]
    return node


def reached(results: Sequence[Node]) -> list[Node]:
    """Returns all nodes that the results need, except those that are only needed by params."""
    found, todo = {}, list(results)
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo += node.args if node.row else ()
    return list(found)


def evaluate(node: Node, memo: dict[Node, Any]) -> jax.Array:
    """Returns the value of a node that depends only on params. `memo` starts with the values of the leaves."""
    if node not in memo:
        if node.op == "const":
            memo[node] = jnp.asarray(node.value.reshape(node.shape))
        else:
            memo[node] = node.value(*(evaluate(arg, memo) for arg in node.args))
    return memo[node]


def constant(value: np.ndarray) -> Node:
    """Returns the node of known numbers."""
    return Node("const", (), value.shape, value.dtype, False, value.ravel())


def known(node: Node) -> np.ndarray | None:
    """Returns the numbers of a node that depends on no param and no row, else None."""
    leaves = [found for found in _made_of(node) if not found.args]
    if any(leaf.op != "const" for leaf in leaves):
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(evaluate(node, {}))


def _made_of(node):
    found, todo = {}, [node]
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo += node.args
    return found
