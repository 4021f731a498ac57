"""Moves: operations that reorder numbers, as an index map.

The index map of a move is found by applying the move to the indices of its operands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.kernels.native._nodes import Node, Unsupported, constant, known


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


MOVES: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "reshape": lambda options, index: index.reshape(options["new_sizes"]),
    "squeeze": lambda options, index: np.squeeze(index, tuple(options["dimensions"])),
    "expand_dims": lambda options, index: np.expand_dims(index, tuple(options["dimensions"])),
    "slice": _sliced,
    "split": lambda options, index: np.split(index, np.cumsum(options["sizes"])[:-1], options["axis"]),
    "transpose": lambda options, index: index.transpose(options["permutation"]),
    "rev": lambda options, index: np.flip(index, options["dimensions"]),
    "unstack": lambda options, index: list(np.moveaxis(index, options["axis"], 0)),
    "stack": lambda options, *index: np.stack(index, options["axis"]),
    "concatenate": lambda options, *index: np.concatenate(index, options["dimension"]),
    "pad": _padded,
}


def moved(args: Sequence[Node], move: Callable, aval: Any, place: int = 0, value: Callable | None = None) -> Node:
    """Returns the node of a move. `move` applies it to NumPy arrays, `value` to JAX arrays.

    A move of constants is a constant. A move of one whole operand in order is a view. Unused operands are left out.
    """
    starts = np.cumsum([0, *(arg.size for arg in args)])
    index = [start + np.arange(arg.size).reshape(arg.shape) for start, arg in zip(starts, args, strict=False)]
    result = move(*index)
    flat = np.ravel(result[place] if isinstance(result, list) else result)
    if all(arg.op == "const" for arg in args):
        numbers = np.concatenate([arg.value for arg in args])[flat]
        return constant(numbers.astype(aval.dtype).reshape(aval.shape))
    which = np.searchsorted(starts, flat, "right") - 1
    at = flat - starts[which]
    read, which = np.unique(which, return_inverse=True)
    value = value if len(read) == len(args) else None
    args = [args[place] for place in read]
    if len(args) == 1 and flat.size == args[0].size and (at == np.arange(flat.size)).all():
        return Node("view", args, aval.shape, aval.dtype, args[0].row, value)
    return Node("move", args, aval.shape, aval.dtype, any(arg.row for arg in args), value, which=which, at=at)


def arranged(node: Node, order: Sequence[int], shape: tuple) -> Node:
    """Returns a node whose axes are transposed to `order` and then reshaped."""

    def value(array):
        return array.transpose(order).reshape(shape)

    if node.row or node.op == "const":
        aval = jax.ShapeDtypeStruct(shape, node.dtype)
        return moved([node], lambda index: index.transpose(order), aval, value=value)
    return Node("param", [node], shape, node.dtype, False, value)


def reshaped(node: Node, shape: tuple) -> Node:
    """Returns a view of a node with another shape."""
    return arranged(node, range(len(node.shape)), shape)


def spread(node: Node, shape: tuple) -> Node:
    """Returns an elementwise operand at the size of the result. JAX repeats along axes of size 1 and single numbers."""
    is_like_it = len(node.shape) == len(shape) and all(n in (1, m) for n, m in zip(node.shape, shape, strict=True))
    if node.size == 1 or node.shape == shape or not is_like_it:
        return node
    value, aval = lambda array: jnp.broadcast_to(array, shape), jax.ShapeDtypeStruct(shape, node.dtype)
    if node.row or node.op == "const":
        return moved([node], lambda index: np.broadcast_to(index, shape), aval, value=value)
    return Node("param", [node], shape, node.dtype, False, value)


def converted(node: Node, dtype: Any) -> Node:
    """Returns a node in another dtype."""
    if node.dtype == dtype:
        return node
    op = "convert_element_type" if node.row else "param"
    return Node(op, [node], node.shape, dtype, node.row, lambda value: value.astype(dtype))


INDEXED = {
    "gather": (0,),
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "scatter": (0, 2),
    "scatter-add": (0, 2),
}
"""Moves whose indices are also operands, and which of their operands are moved."""


def indexed(primitive: Any, options: dict, args: Sequence[Node], aval: Any) -> Node:
    """Returns the node of a move by known indices. Values that `scatter-add` adds are first moved to their places."""
    data = INDEXED[primitive.name]
    places = {place: known(arg) for place, arg in enumerate(args) if place not in data}
    if any(value is None for value in places.values()):
        raise Unsupported(f"`{primitive.name}` by indices that are computed has no native form")

    def move(*index):
        of_data = iter(index)
        operands = [places[place] if place in places else next(of_data) for place in range(len(args))]
        with jax.ensure_compile_time_eval():
            operands = [jnp.asarray(operand) for operand in operands]
            if primitive.name == "scatter-add":  # its own function would add floats
                into, at, numbers = operands
                of_axes, mode = options["dimension_numbers"], options["mode"]
                return np.asarray(jax.lax.scatter_add(into, at, numbers, of_axes, mode=mode))
            return np.asarray(primitive.bind(*operands, **options))

    moving = [args[place] for place in data]
    if primitive.name != "scatter-add":
        return moved(moving, _checked(primitive.name, move), aval)
    target, added = moving
    if (move(np.zeros(target.shape, int), np.ones(added.shape, int)) > 1).any():
        raise Unsupported("`scatter-add` of several numbers to one has no native form")
    nothing = constant(np.zeros(1, aval.dtype))

    def put(zero, index):  # where nothing is added, take the index of the zero, which is the first
        return zero[0] + move(np.zeros(target.shape, int), index - zero[0])

    there = moved([nothing, added], put, aval)
    if target.op == "const" and not target.value.any():
        return there
    return Node("add", [target, there], aval.shape, aval.dtype, True)


def _checked(name, move):
    def checked(*index):
        result = move(*index)
        if result.size and not 0 <= result.min() <= result.max() < sum(of_arg.size for of_arg in index):
            raise Unsupported(f"`{name}` beyond the ends of its operand has no native form")
        return result

    return checked
