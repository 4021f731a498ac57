"""A function of one row, as a graph with few kinds of nodes.

A cell's functions treat all rows of a batch the same, so JAX traces them for one row. Calls are inlined. Moves of
numbers become index maps. Products with weights have one form, and so do reductions.

Sums and products of 16-bit floats are computed in float32, as in JAX on a CPU, and so are elementwise operations.
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
from jaxseq.kernels.native._moves import INDEXED, MOVES, arranged, converted, indexed, moved, reshaped, spread
from jaxseq.kernels.native._nodes import Node, Unsupported, constant


class Traced:
    """A traced function of one row: the leaves of its arguments, the nodes of its results, and their structure."""

    def __init__(self, function: Callable, params: Any, rows: tuple, is_of_row: Sequence[bool]):
        """Traces `function(params, *rows)` from shapes. `is_of_row` says which leaves of params belong to the row."""
        try:
            closed, results = jax.make_jaxpr(function, return_shape=True)(params, *rows)
        except (TypeError, ValueError, IndexError) as error:
            raise Unsupported(f"its functions do not take a single row: {str(error)[:120]}") from error
        flags = [*is_of_row, *[True] * (len(closed.in_avals) - len(is_of_row))]
        leaves = [
            Node("leaf", (), aval.shape, aval.dtype, row) for aval, row in zip(closed.in_avals, flags, strict=True)
        ]
        self.params, self.rows = leaves[: len(flags) - len(jax.tree.leaves(rows))], leaves[len(is_of_row) :]
        self.results = _inlined(closed.jaxpr, closed.consts, leaves)
        self.structure = jax.tree.structure(results)

    def parts(self) -> Any:
        """Returns the results in the structure that the function returned."""
        return jax.tree.unflatten(self.structure, self.results)


_IDENTITIES = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision"}
_IDENTITIES |= {"pvary", "pcast", "reshard", "mesh_cast", "sharding_constraint"}  # a single row is not split
CALLS = {
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
    """Returns the nodes of a jaxpr's results."""
    nodes = dict(zip(jaxpr.constvars, map(_known, consts), strict=True))
    nodes |= zip(jaxpr.invars, arguments, strict=True)

    def read(atom: Any) -> Node:
        is_known = isinstance(atom, core.Literal)
        return _known(atom.val, _dtype(atom)) if is_known else nodes[atom]

    for equation in jaxpr.eqns:
        args, primitive = [read(atom) for atom in equation.invars], equation.primitive
        if primitive.name in CALLS:
            inner = equation.params[CALLS[primitive.name]]
            inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
            results = _inlined(inner, consts, args)
        else:
            results = [_node(equation, args, place) for place in range(len(equation.outvars))]
        nodes |= zip(equation.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _dtype(atom: Any) -> Any:
    return atom.aval.dtype


def _known(value, dtype=None):
    """Returns the node of a constant. A traced constant, which a function may close over, is treated like a param."""
    if isinstance(value, jax.core.Tracer) or jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key):
        return Node("param", (), value.shape, value.dtype, False, lambda: value)
    return constant(np.asarray(value, dtype))


def _node(equation, args, place):
    """Returns the node of result number `place` of an equation of a jaxpr."""
    primitive, options, aval = equation.primitive, equation.params, equation.outvars[place].aval
    name = primitive.name
    if name in _IDENTITIES:
        return args[place]
    is_sum = name in ("dot_general", "reduce_sum")
    if math.prod(aval.shape) == 0 or (is_sum and any(arg.size == 0 for arg in args)):
        return constant(np.zeros(aval.shape, aval.dtype))
    of_row = any(arg.row for arg in args)
    if name in MOVES and (of_row or all(arg.op == "const" for arg in args)):
        move = lambda *index: MOVES[name](options, *index)
        return moved(args, move, aval, place, _bound(primitive, options, place))
    if name in INDEXED and of_row:
        return indexed(primitive, options, args, aval)
    if not of_row:
        value = _bound(primitive, options, place)
        return _folded(name, args, aval) or Node("param", args, aval.shape, aval.dtype, False, value)
    if name == "dot_general":
        left, right = args
        return _product(left, right, options, aval)
    if name in _REDUCTIONS:
        return _reduction(_REDUCTIONS[name], args[0], options["axes"], aval)
    if name == "convert_element_type" and args[0].dtype == aval.dtype:
        return args[0]
    value, args = _bound(primitive, options, place), [spread(arg, aval.shape) for arg in args]
    return Node(_NAMES.get(name, name), args, aval.shape, aval.dtype, True, value, **_facts(options))


_NAMES = {"add_any": "add"}


def _facts(options):
    return {key: options[key] for key in ("y", "accuracy", "rounding_method") if key in options}


def _bound(primitive, options, place):
    """Returns a primitive as a function of values."""

    def value(*values):
        results = primitive.bind(*values, **options)
        return results[place] if primitive.multiple_results else results

    return value


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
    """Returns a constant if plain arithmetic on constants gives one, else None."""
    if name not in _ARITHMETIC or not all(arg.op == "const" for arg in args):
        return None
    value = _ARITHMETIC[name](*(arg.value.reshape(arg.shape) for arg in args))
    return constant(np.broadcast_to(value, aval.shape).astype(aval.dtype))


def _product(left, right, options, aval):
    """Returns `dot_general` as a product with weights, or multiplied and summed if both operands depend on the row."""
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
    left_wide, right_wide = converted(left, wide), converted(right, wide)
    if left.row and right.row:
        x = arranged(left_wide, (*left_batch, *left_free, *left_sum), (b, m, 1, K))
        z = arranged(right_wide, (*right_batch, *right_free, *right_sum), (b, 1, n, K))
        result = _multiplied(x, z, (b, m, n, K))
    elif left.row:
        x = arranged(left_wide, (*left_batch, *left_free, *left_sum), (b, m, K))
        w = arranged(right_wide, (*right_batch, *right_sum, *right_free), (b, K, n))
        result = Node("product", [x, w], (b, m, n), wide, True, jnp.matmul)
    else:
        x = arranged(right_wide, (*right_batch, *right_free, *right_sum), (b, n, K))
        w = arranged(left_wide, (*left_batch, *left_sum, *left_free), (b, K, m))
        result = arranged(Node("product", [x, w], (b, n, m), wide, True, jnp.matmul), (0, 2, 1), (b, m, n))
    return converted(reshaped(result, aval.shape), aval.dtype)


def _multiplied(x, z, shape):
    """Returns the product of two nodes that depend on the row, `[b, m, 1, K]` and `[b, 1, n, K]`, summed over K."""
    *lead, K = shape

    def pair():
        whole = jax.ShapeDtypeStruct(shape, x.dtype)
        return [moved([one], lambda index: np.broadcast_to(index, shape), whole) for one in (x, z)]

    if K == 1:
        return Node("mul", pair, shape, x.dtype, True, jnp.multiply, outer=(x, z))
    return _reduced("sum", Node("mul", pair(), shape, x.dtype, True), (math.prod(lead), K))


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
    x = arranged(converted(node, wide), (*kept, *axes), (node.size // n, n))
    return converted(reshaped(_reduced(kind, x, (node.size // n, n)), aval.shape), aval.dtype)


def _reduced(kind, node, shape):
    def value(x):
        return {"sum": jnp.sum, "max": jnp.max, "min": jnp.min}[kind](x, -1)

    return Node("reduce", [reshaped(node, shape)], shape[:1], node.dtype, True, value, kind=kind, n=shape[1])
