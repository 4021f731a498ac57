"""A function of one row as a graph of few kinds of nodes.

A cell's functions treat the rows of a batch alike, so JAX traces them for one row, and calls are inlined. What is left
of JAX's primitives, on numbers in flat order:

    leaf      an argument: of the row, or a param
    const     known numbers
    param     computed from params alone: JAX evaluates it once, before the loop
    move      numbers in another order: slices, splits, concatenations, transposes, broadcasts, as one index map
    product   x [b, m, K] of the row by weights [b, K, G], params alone
    reduce    sum, max or min of [m, n] over n
    others    a JAX primitive of that name, element by element

Sums and products of 16-bit floats are in float32, as in JAX on a CPU; so are all elementwise operations on them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxseq._promote import widen


class Unsupported(Exception):  # noqa: N818 - an answer, which becomes the reason of a plan
    """Why a function does not run natively, in words."""


class Node:
    """Numbers of one step of one row, or of the params.

    Attributes:
      op: the kind, as above.
      args: the nodes it is made of.
      size, shape, dtype: of the result; `shape` only tells how JAX saw it.
      row: it depends on the row.
      value: of a const, its numbers in flat order; of a param, the function of its args' values.
      facts: of a move the index map `(which arg, place in it)`; of others what their kind needs.
    """

    __slots__ = ("args", "dtype", "facts", "op", "row", "shape", "size", "value")

    def __init__(
        self, op: str, args: Sequence["Node"], shape: tuple, dtype: Any, row: bool, value: Any = None, **facts
    ):
        self.op, self.args, self.row, self.value, self.facts = op, tuple(args), row, value, facts
        self.shape, self.dtype, self.size = tuple(shape), dtype, math.prod(shape)

    def __repr__(self):
        return f"{self.op}{list(self.shape)}"


class Traced:
    """A function of one row: the leaves of its arguments, the nodes of its results, and their structure."""

    def __init__(self, function: Callable, params: Any, rows: tuple, is_of_row: Sequence[bool]):
        """Traces `function(params, *rows)`, of shapes; `is_of_row` says which leaves of params are of the row too."""
        try:
            closed, results = jax.make_jaxpr(function, return_shape=True)(params, *rows)
        except (TypeError, ValueError) as error:
            raise Unsupported(f"its functions do not take one row alone: {str(error)[:120]}") from error
        flags = [*is_of_row, *[True] * (len(closed.in_avals) - len(is_of_row))]
        leaves = [
            Node("leaf", (), aval.shape, aval.dtype, row) for aval, row in zip(closed.in_avals, flags, strict=True)
        ]
        self.params, self.rows = leaves[: len(flags) - len(jax.tree.leaves(rows))], leaves[len(is_of_row) :]
        self.results = _inlined(closed.jaxpr, closed.consts, leaves)
        self.structure = jax.tree.structure(results)

    def parts(self) -> Any:
        """The results as the function returned them."""
        return jax.tree.unflatten(self.structure, self.results)


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


_IDENTITIES = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision"}
_IDENTITIES |= {"pvary", "pcast", "reshard", "mesh_cast", "sharding_constraint"}  # of one row nothing is split
_CALLS = {
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


def _inlined(jaxpr: Any, consts: Sequence, arguments: Sequence[Node]) -> list[Node]:
    """The nodes of a jaxpr's results."""
    nodes = dict(zip(jaxpr.constvars, map(_known, consts), strict=True))
    nodes |= zip(jaxpr.invars, arguments, strict=True)

    def read(atom: Any) -> Node:
        is_known = isinstance(atom, core.Literal)
        return _known(atom.val, _dtype(atom)) if is_known else nodes[atom]

    for equation in jaxpr.eqns:
        args, primitive = [read(atom) for atom in equation.invars], equation.primitive
        if primitive.name in _CALLS:
            inner = equation.params[_CALLS[primitive.name]]
            inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            results = _inlined(inner, consts, args)
        else:
            results = [_node(equation, args, place) for place in range(len(equation.outvars))]
        nodes |= zip(equation.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype


def _known(value, dtype=None):
    """The node of a constant; one that is traced, as a function may close over it, is like a param."""
    if isinstance(value, jax.core.Tracer) or jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        return Node("param", (), value.shape, value.dtype, False, lambda: value)
    return _const(np.asarray(value, dtype))


def _const(value):
    return Node("const", (), value.shape, value.dtype, False, value.ravel())


def _node(equation, args, place):
    """The node of the result at `place` of one equation of a jaxpr."""
    primitive, options, aval = equation.primitive, equation.params, equation.outvars[place].aval
    name = primitive.name
    if name in _IDENTITIES:
        return args[place]
    is_sum = name in ("dot_general", "reduce_sum")
    if math.prod(aval.shape) == 0 or (is_sum and any(arg.size == 0 for arg in args)):
        return _const(np.zeros(aval.shape, aval.dtype))
    of_row = any(arg.row for arg in args)
    if name in _MOVES and (of_row or all(arg.op == "const" for arg in args)):
        return _moved(args, lambda *index: _MOVES[name](options, *index), aval, place)
    if not of_row:
        return _folded(name, args, aval) or _of_params(primitive, options, args, aval, place)
    if name == "dot_general":
        left, right = args
        return _product(left, right, options, aval)
    if name in _REDUCTIONS:
        return _reduction(_REDUCTIONS[name], args[0], options["axes"], aval)
    if name == "convert_element_type" and args[0].dtype == aval.dtype:
        return args[0]
    return Node(_NAMES.get(name, name), args, aval.shape, aval.dtype, True, **_facts(options))


_NAMES = {"add_any": "add"}


def _facts(options):
    return {key: options[key] for key in ("y", "accuracy", "rounding_method") if key in options}


def _of_params(primitive, options, args, aval, place):
    def value(*values):
        results = primitive.bind(*values, **options)
        return results[place] if primitive.multiple_results else results

    return Node("param", args, aval.shape, aval.dtype, False, value)


_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "convert_element_type": lambda x: x,
}


def _folded(name, args, aval):
    """A constant, where plain arithmetic makes it of constants; else None."""
    if name not in _ARITHMETIC or not all(arg.op == "const" for arg in args):
        return None
    value = _ARITHMETIC[name](*(arg.value.reshape(arg.shape) for arg in args))
    return _const(np.broadcast_to(value, aval.shape).astype(aval.dtype))


# Moves: what they do to the indices of their arguments


def _padded(options, index, other):
    low, high, interior = zip(*options["padding_config"], strict=True)
    spread = [size + max(size - 1, 0) * gap for size, gap in zip(index.shape, interior, strict=True)]
    whole = np.full(spread, other.item())
    whole[tuple(slice(None, None, gap + 1) for gap in interior)] = index
    whole = whole[tuple(slice(max(-a, 0), n - max(-b, 0)) for a, b, n in zip(low, high, spread, strict=True))]
    return np.pad(whole, [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)], constant_values=other.item())


def _broadcast(options, index):
    shape = [1] * len(options["shape"])
    for axis, place in enumerate(options["broadcast_dimensions"]):
        shape[place] = index.shape[axis]
    return np.broadcast_to(index.reshape(shape), options["shape"])


def _sliced(options, index):
    strides = options["strides"] or [1] * index.ndim
    return index[tuple(map(slice, options["start_indices"], options["limit_indices"], strides))]


_MOVES: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda options, index: index.reshape(options["new_sizes"]),
    "squeeze": lambda options, index: np.squeeze(index, tuple(options["dimensions"])),
    "expand_dims": lambda options, index: np.expand_dims(index, tuple(options["dimensions"])),
    "slice": _sliced,
    "split": lambda options, index: np.split(index, np.cumsum(options["sizes"])[:-1], options["axis"]),
    "transpose": lambda options, index: index.transpose(options["permutation"]),
    "rev": lambda options, index: np.flip(index, options["dimensions"]),
    "concatenate": lambda options, *index: np.concatenate(index, options["dimension"]),
    "pad": _padded,
}


def _moved(args, move, aval, place=0):
    """The node of a move, `move` being what it does to arrays; of constants, a constant; of all in order, a view."""
    starts = np.cumsum([0, *(arg.size for arg in args)])
    index = [start + np.arange(arg.size).reshape(arg.shape) for start, arg in zip(starts, args, strict=False)]
    result = move(*index)
    flat = np.ravel(result[place] if isinstance(result, list) else result)
    if all(arg.op == "const" for arg in args):
        value = np.concatenate([arg.value for arg in args])[flat]
        return _const(value.astype(aval.dtype).reshape(aval.shape))
    which = np.searchsorted(starts, flat, "right") - 1
    at = flat - starts[which]
    read, which = np.unique(which, return_inverse=True)
    args = [args[place] for place in read]
    if len(args) == 1 and flat.size == args[0].size and (at == np.arange(flat.size)).all():
        return Node("view", args, aval.shape, aval.dtype, args[0].row)
    return Node("move", args, aval.shape, aval.dtype, any(arg.row for arg in args), which=which, at=at)


def base(node: Node) -> Node:
    """The node whose numbers these are, in the same order."""
    while node.op == "view":
        node = node.args[0]
    return node


def _arranged(node, order, shape):
    """A node transposed to `order` of its axes, and reshaped."""
    aval = jax.ShapeDtypeStruct(shape, node.dtype)
    if node.row or node.op == "const":
        return _moved([node], lambda index: index.transpose(order), aval)
    return Node("param", [node], shape, node.dtype, False, lambda value: value.transpose(order).reshape(shape))


def _converted(node, dtype):
    if node.dtype == dtype:
        return node
    if not node.row:
        return Node("param", [node], node.shape, dtype, False, lambda value: value.astype(dtype))
    return Node("convert_element_type", [node], node.shape, dtype, True)


# Products and reductions


def _product(left, right, options, aval):
    """`dot_general` as a product of rows by weights; two that both depend on the row are multiplied and summed."""
    (left_sum, right_sum), (left_batch, right_batch) = options["dimension_numbers"]
    if not jnp.issubdtype(aval.dtype, jnp.floating):
        raise Unsupported(f"a product of {aval.dtype}")
    left_free, right_free = (
        [axis for axis in range(len(node.shape)) if axis not in used]
        for node, used in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch)))
    )
    b = math.prod(left.shape[axis] for axis in left_batch)
    m, n = (math.prod(node.shape[a] for a in axes) for node, axes in ((left, left_free), (right, right_free)))
    K, wide = math.prod(left.shape[axis] for axis in left_sum), widen(aval.dtype)
    left_wide, right_wide = _converted(left, wide), _converted(right, wide)
    if left.row and right.row:
        x = _arranged(left_wide, (*left_batch, *left_free, *left_sum), (b, m, 1, K))
        z = _arranged(right_wide, (*right_batch, *right_free, *right_sum), (b, 1, n, K))
        shape = b, m, n, K
        whole = jax.ShapeDtypeStruct(shape, wide)
        pair = [_moved([one], lambda index: np.broadcast_to(index, shape), whole) for one in (x, z)]
        result = Node("mul", pair, shape, wide, True)
        result = _reduced("sum", result, (b * m * n, K))
    elif left.row:
        x = _arranged(left_wide, (*left_batch, *left_free, *left_sum), (b, m, K))
        w = _arranged(right_wide, (*right_batch, *right_sum, *right_free), (b, K, n))
        result = Node("product", [x, w], (b, m, n), wide, True)
    else:
        x = _arranged(right_wide, (*right_batch, *right_free, *right_sum), (b, n, K))
        w = _arranged(left_wide, (*left_batch, *left_sum, *left_free), (b, K, m))
        result = Node("product", [x, w], (b, n, m), wide, True)
        result = _arranged(result, (0, 2, 1), (b, m, n))
    return _converted(_moved([result], lambda index: index, jax.ShapeDtypeStruct(aval.shape, wide)), aval.dtype)


_REDUCTIONS = {"reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min"}


def _reduction(kind, node, axes, aval):
    if not axes:
        return node
    if not jnp.issubdtype(aval.dtype, jnp.floating):
        raise Unsupported(f"a {kind} of {aval.dtype}")
    wide = widen(aval.dtype)
    kept = [axis for axis in range(len(node.shape)) if axis not in axes]
    n = math.prod(node.shape[axis] for axis in axes)
    if n == 0:
        raise Unsupported(f"a {kind} of no numbers")
    x = _arranged(_converted(node, wide), (*kept, *axes), (node.size // n, n))
    result = _reduced(kind, x, (node.size // n, n))
    return _converted(_moved([result], lambda index: index, jax.ShapeDtypeStruct(aval.shape, wide)), aval.dtype)


def _reduced(kind, node, shape):
    x = _moved([node], lambda index: index, jax.ShapeDtypeStruct(shape, node.dtype))
    return Node("reduce", [x], shape[:1], node.dtype, True, kind=kind, n=shape[1])
