"""Sums over steps and rows inside the loop, such as gradients of weights.

One step of one row adds to the gradient of a weight. The added term is mostly a product x δᵀ of two vectors of the row,
possibly reordered or in another dtype. Such operations after the product are linear, so JAX applies them once, after
the loop. The loop keeps x and δ of as many steps as fit into a cache, and multiplies them as matrices.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._promote import widen
from jaxseq.kernels.native._moves import converted
from jaxseq.kernels.native._nodes import Node, Unsupported, base, evaluate


class Term(NamedTuple):
    """What the loop sums: `node` `[b, m, n]`, products of x `[b, m]` and d `[b, n]`. x None: d as `[1, 1, n]`."""

    node: Node
    x: Node | None
    d: Node

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape b, m, n."""
        if self.x is None:
            return 1, 1, self.d.size
        b, m, n, _ = self.node.shape
        return b, m, n

    def of_bases(self) -> "Term":
        """Returns the term with views replaced by the nodes that they show."""
        return Term(self.node, None if self.x is None else base(self.x), base(self.d))


def terms_of(result: Node) -> list[Term]:
    """Returns the terms that must be summed. `summed` then computes the sum of `result` from them.

    Raises:
      Unsupported: a constant is added at each step.
    """
    found: dict[Node, Term] = {}
    has_product: dict[Node, bool] = {}

    def walk(node):
        if not node.row:
            if node.op != "const" or node.value.any():
                raise Unsupported("a gradient has a part that no row goes into")
        elif "outer" in node.facts:
            x, d = node.facts["outer"]
            found[node] = Term(node, base(x), base(d))
        elif _has_product(node, has_product):
            for arg in _linear_in(node) or ():
                walk(arg)
        else:
            if not jnp.issubdtype(node.dtype, jnp.floating):
                raise Unsupported(f"a gradient has a part of {node.dtype}")
            found[node] = Term(node, None, base(converted(node, widen(node.dtype))))

    walk(result)
    return list(found.values())


def summed(result: Node, sums: dict[Node, jax.Array], params: dict[Node, Any]) -> jax.Array:
    """Returns the sum of `result` over steps and rows from the sums of its terms' nodes, in at least float32."""
    memo = dict(params)
    for node, value in sums.items():
        memo[node] = value.reshape(node.shape).astype(node.dtype)
    return evaluate(result, memo)


def _has_product(node, known):
    if node not in known:
        args = () if "outer" in node.facts else _linear_in(node) or ()
        known[node] = "outer" in node.facts or any(_has_product(arg, known) for arg in args)
    return known[node]


def _linear_in(node):
    """Returns the arguments in which a node is linear, or None if it is not linear or JAX cannot repeat it."""
    if not node.row or not node.args or node.value is None:
        return None
    rows = [arg for arg in node.args if arg.row]
    match node.op:
        case "view" | "move" | "neg" | "add" | "sub":
            return node.args
        case "convert_element_type":
            return node.args if jnp.issubdtype(node.args[0].dtype, jnp.floating) else None
        case "mul":
            return rows if len(rows) == 1 else None
        case "div":
            return node.args[:1] if not node.args[1].row else None
        case "reduce":
            return node.args if node.facts["kind"] == "sum" else None
        case "product":
            return node.args[:1]
    return None
