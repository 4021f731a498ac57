"""The nodes of a function of one row.

leaf      an argument: of the row, or a param
const     known numbers
param     computed from params alone: JAX evaluates it once, before the loop
move      numbers in another order: slices, splits, concatenations, transposes, broadcasts, as one index map
view      all numbers in the same order, seen as another shape
product   x [b, m, K] of the row by weights [b, K, G], params alone
reduce    sum, max or min of [m, n] over n
others    a JAX primitive of that name, element by element, on operands as large as the result or of one number
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Unsupported(Exception):  # noqa: N818 - an answer, which becomes the reason of a plan
    """Why a function does not run natively, in words."""


class Node:
    """Numbers of one step of one row, or of the params.

    Attributes:
      op: the kind, as above.
      args: the nodes it is made of; they may be given as a function, for many of them are never asked for.
      size, shape, dtype: of the result; `shape` only tells how JAX saw it.
      row: it depends on the row.
      value: of a const, its numbers in flat order; else the function of its args' values, None where it is not known.
      facts: of a move the index map, `which` arg and place in it, `at`; of an `outer` product its two factors; of
        others what their kind needs.
    """

    __slots__ = ("_args", "dtype", "facts", "op", "row", "shape", "size", "value")

    def __init__(self, op: str, args: Any, shape: tuple, dtype: Any, row: bool, value: Any = None, **facts):
        self._args: Any = args
        self.op, self.row, self.value, self.facts = op, row, value, facts
        self.shape, self.dtype, self.size = tuple(shape), dtype, math.prod(shape)

    @property
    def args(self) -> Sequence["Node"]:
        """The nodes it is made of."""
        if callable(self._args):
            self._args = self._args()
        args: Any = self._args
        return args

    def become(self, op: str, args: Sequence["Node"], value: Any = None):
        """Changes how the node comes about, not what it is."""
        self.op, self._args, self.value = op, args, value

    def __repr__(self):
        return f"{self.op}{list(self.shape)}"


def base(node: Node) -> Node:
    """The node whose numbers these are, in the same order."""
    while node.op == "view":
        node = node.args[0]
    return node


def reached(results: Sequence[Node]) -> list[Node]:
    """All nodes that results are made of, but for what params alone are made of."""
    found, todo = {}, list(results)
    while todo:
        node = todo.pop()
        if node not in found:
            found[node] = None
            todo += node.args if node.row else ()
    return list(found)


def evaluate(node: Node, memo: dict[Node, Any]) -> jax.Array:
    """The value of a node that depends on params alone; `memo` begins with those of the leaves."""
    if node not in memo:
        if node.op == "const":
            memo[node] = jnp.asarray(node.value.reshape(node.shape))
        else:
            memo[node] = node.value(*(evaluate(arg, memo) for arg in node.args))
    return memo[node]


def constant(value: np.ndarray) -> Node:
    """The node of known numbers."""
    return Node("const", (), value.shape, value.dtype, False, value.ravel())


def known(node: Node) -> np.ndarray | None:
    """The numbers of a node that no param and no row goes into, else None."""
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
