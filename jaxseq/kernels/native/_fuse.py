"""Fuses products that are added: x w_x + h w_h + b is one product of two factors, plus b.

The sum then stays in registers, and one pass over the features is saved.
"""

import collections
import functools
import itertools
from collections.abc import Sequence

import jax.numpy as jnp

from jaxseq.kernels.native._moves import reshaped
from jaxseq.kernels.native._nodes import Node, base, reached


def fuse_products(results: Sequence[Node]):
    """Fuses products that are only added into one product. It changes the nodes of the sums in place."""
    nodes = reached(results)
    users = collections.Counter(arg for node in nodes for arg in node.args)
    users.update(results)

    def is_inner(node, size):
        """Returns whether a node is used only as a part of one sum."""
        return users[node] == 1 and node.row and node.size == size

    def addends(node, size):
        for arg in node.args:
            inner = arg
            while inner.op == "view" and is_inner(inner, size):
                inner = inner.args[0]
            if inner.op == "add" and is_inner(inner, size):
                yield from addends(inner, size)
            else:
                yield inner if inner.op == "product" and is_inner(inner, size) else arg

    seen = set()
    for node in nodes:  # a sum comes before its parts
        if node.op != "add" or node in seen or not node.row:
            continue
        parts = list(addends(node, node.size))
        seen |= _sums_in(node)
        products = [part for part in parts if part.op == "product" and is_inner(part, node.size)]
        for shape, some in itertools.groupby(sorted(products, key=_shape), _shape):
            alike = list(some)
            if len(alike) > 1:
                factors = [arg for product in alike for arg in product.args]
                one = Node("product", factors, shape, alike[0].dtype, True, _multiplied)
                rest = [part for part in parts if part not in alike]
                parts = [reshaped(one, node.shape), *rest]
        if len(parts) < 1 + len(products):
            _add_up(node, parts)


def _shape(product):
    return product.shape


def _sums_in(node):
    """Yields the sums that a sum consists of."""
    found, todo = set(), [node]
    while todo:
        inner = base(todo.pop())
        if inner.op == "add" and inner.size == node.size:
            found.add(inner)
            todo += inner.args
    return found


def _add_up(node, parts):
    """Makes a node the sum of `parts`."""
    *first, last = parts
    if not first:
        node.become("view", [last], lambda value: value.reshape(node.shape))
        return

    def plus(a, b):
        return Node("add", [a, b], node.shape, node.dtype, True, jnp.add)

    node.become("add", [functools.reduce(plus, first), last])


def _multiplied(*values):
    return sum(jnp.matmul(x, w) for x, w in zip(values[::2], values[1::2], strict=True))
