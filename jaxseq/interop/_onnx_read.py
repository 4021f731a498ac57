"""Reads the recurrent nodes of an ONNX graph as one net, in one pass over its nodes.

Each value is a `Chain` of the layers that the graph's input has passed through, a constant, or something else. A node
that only moves axes does not change a chain. Concat, Add, Sum, Mean and Mul combine two directions, or add a residual
connection.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxseq import wrappers
from jaxseq.interop import _layers, _onnx_nodes
from jaxseq.interop._arrays import listed
from jaxseq.interop._layers import Part

_MOVES = ("Identity", "Squeeze", "Unsqueeze", "Transpose", "Reshape", "Flatten", "Dropout", "Where", "Cast")
_BESIDE = ("Shape", "Gather", "Slice", "Range", "Less", "ConstantOfShape", "Constant", "Size")
_MERGES = {"Concat": "concat", "Sum": "sum", "Add": "sum", "Mean": "mean", "Mul": "mul"}
_REDUCED = {"ReduceSum": "sum", "ReduceMean": "mean", "ReduceProd": "mul"}


class Chain(NamedTuple):
    """The layers so far, from the inputs up, and the nodes that they were read from."""

    parts: tuple[Part, ...] = ()
    nodes: frozenset[str] = frozenset()


def read(graph: Any, node_name: str | None) -> Part:
    """Returns the net of a graph's recurrent nodes, which must follow each other, or of the node called `node_name`.

    Raises:
      ValueError: a node is neither recurrent nor only moves axes, and the message names it; or weights are missing or
        computed.
    """
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    constants: dict[str, Any] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    values: dict[str, Any] = {each.name: Chain() for each in graph.input if each.name not in constants}
    named = [node.name or node.output[0] for node in graph.node if node.op_type in _onnx_nodes.KINDS]
    if not named or (node_name is not None and node_name not in named):
        raise ValueError(f"the graph has no recurrent node {node_name or ''}; its recurrent nodes are: {listed(named)}")
    best, other = Chain(), None
    for node in graph.node:
        name = node.name or node.output[0]
        inputs = [values.get(each) for each in node.input]
        if node.op_type in _onnx_nodes.KINDS:
            part = _node(node, name, constants, values)
            if name == node_name:
                return part
            before = inputs[0] if isinstance(inputs[0], Chain) else Chain()
            result = Chain((*before.parts, part), before.nodes | {name})
        elif node.op_type == "Constant":
            constants[node.output[0]] = _attributes(node).get("value")
            continue
        elif node.op_type == "Expand":
            constants |= {node.output[0]: constants[node.input[0]]} if node.input[0] in constants else {}
            continue
        elif node.op_type in _BESIDE:
            continue
        else:
            result = _joined(node.op_type, inputs)
            if result is None and any(isinstance(each, Chain) and each.parts for each in inputs):
                other = other or f"{node.op_type} {name!r}"
        for output in node.output[:1]:
            values[output] = result
        if isinstance(result, Chain) and len(result.nodes) >= len(best.nodes):
            best = result
    if node_name is None and other is not None:
        raise ValueError(f"jaxseq has no equivalent of {other}; choose a recurrent node by `node`: {listed(named)}")
    if len(best.nodes) != len(named):
        raise ValueError(f"the recurrent nodes do not follow each other; choose one by `node`: {listed(named)}")
    return _layers.stacked(best.parts)


def _joined(op, inputs):
    """Returns the chain that a node makes of its input chains, or None if jaxseq has no equivalent."""
    chains = [each for each in inputs if isinstance(each, Chain)]
    if op in _MOVES:
        return max(chains, key=lambda chain: len(chain.parts), default=None)
    if op in _REDUCED and chains and chains[0].parts:
        *before, (net, params, size) = chains[0].parts
        return chains[0]._replace(parts=(*before, Part(_with_merge(net, _REDUCED[op]), params, size)))
    if op not in _MERGES or len(chains) != 2:
        return None
    first, second = chains
    shared = 0
    while shared < min(len(first.parts), len(second.parts)) and first.parts[shared] is second.parts[shared]:
        shared += 1
    before, ahead, back = first.parts[:shared], first.parts[shared:], second.parts[shared:]
    nodes = first.nodes | second.nodes
    if op == "Add" and bool(ahead) != bool(back):
        part = _layers.stacked(ahead or back)
        return Chain((*before, part._replace(net=wrappers.residual(part.net))), nodes)
    turned = [each for part in back if (each := _turned(part)) is not None]
    if not ahead or not back or len(turned) < len(back):
        return None
    return Chain((*before, _layers.both(_layers.stacked(ahead), _layers.stacked(turned), _MERGES[op])), nodes)


def _turned(part):
    """Returns the forward part inside a part that reads backwards, or None if it does not read backwards."""
    factory, options = _layers.call(part.net, "ONNX")
    if factory is wrappers.residual:
        inner = _turned(part._replace(net=options["cell"]))
        return None if inner is None else inner._replace(net=wrappers.residual(inner.net))
    return part._replace(net=options["cell"]) if factory is wrappers.backwards else None


def _with_merge(net, merge):
    factory, options = _layers.call(net, "ONNX")
    if factory is not wrappers.bidirectional:
        raise ValueError("a node that reduces over directions must follow a bidirectional node")
    return wrappers.bidirectional(options["forward"], options["backward"], merge=merge)


def _node(node, name, constants, values):
    """Returns a recurrent node as a part."""
    attributes = _attributes(node)
    slots = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
    arrays = {}
    for slot in ("W", "R", "B", "P"):
        source = slots.get(slot)
        if source:
            if not isinstance(constants.get(source), np.ndarray):
                raise ValueError(f"`{name}.{slot}` must be an initializer of the graph; {source!r} is not")
            arrays[slot] = constants[source]
    if not {"W", "R"} <= {*arrays}:
        raise ValueError(f"`{name}` must have W and R")
    sides = _onnx_nodes.read(node.op_type, attributes, arrays, name)
    carries = _carries(slots, constants, len(sides), name)
    made = [_layers.cell_of(side._replace(carry=carry)) for side, carry in zip(sides, carries, strict=True)]
    if len(made) == 2:
        return _layers.both(made[0], made[1], "concat")
    if attributes.get("direction") == "reverse":
        return made[0]._replace(net=wrappers.backwards(made[0].net))
    return made[0]


def _carries(slots, constants, count, name):
    """Returns the initial carry of each direction if it is constant and the same for all rows, else None."""
    found = [{} for _ in range(count)]
    for slot in ("h", "c"):
        source = slots.get(slot)
        value = constants.get(source) if source else None
        if value is None:
            continue
        rows = np.reshape(value, (count, -1, np.shape(value)[-1]))
        if np.any(rows != rows[:, :1]):
            raise ValueError(f"jaxseq has no equivalent of `{name}.initial_{slot}` that differs between rows")
        if np.any(rows):
            for side in range(count):
                found[side][slot] = rows[side, 0]
    for carry in found:
        if carry and "c" in slots:
            shape = next(iter(carry.values()))
            carry |= {slot: carry.get(slot, np.zeros_like(shape)) for slot in ("h", "c")}
    return [carry or None for carry in found]


def _attributes(node):
    from onnx import helper, numpy_helper  # pyright: ignore[reportMissingImports]

    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, list):
            value = [each.decode() if isinstance(each, bytes) else each for each in value]
        elif hasattr(value, "data_type"):
            value = numpy_helper.to_array(value)
        found[attribute.name] = value
    return found
