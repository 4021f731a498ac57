"""Writes a net as an ONNX graph in one pass: one node per cell, and nodes that combine them.

ys                   Squeeze of the one direction
two directions       a forward and a reverse node or chain of nodes, then Concat, Sum, Mean or Mul
residual             Add; under lengths x is zero on padding, Where
learned carry        Expand to the rows of the batch
"""

from typing import Any

import numpy as np

from jaxseq import wrappers
from jaxseq.interop import _layers, _onnx_nodes
from jaxseq.typing import Cell, Composite, Params

_MERGES = {"concat": "Concat", "sum": "Sum", "mean": "Mean", "mul": "Mul"}
_OPSET, _IR = 17, 8


def model(net: Cell | Composite, params: Params, lengths: bool, carry: bool) -> Any:
    """Returns the checked model. See `onnx.export`."""
    graph = Graph(lengths, carry)
    ys = graph.net(net, params, "xs", "", False)
    graph.add("Identity", [ys], "ys")
    return graph.model({"xs": (graph.dtype, ("T", "B", graph.sizes[0]))}, {"ys": ("T", "B", net.size)})


class Graph:
    """An ONNX graph under construction: its nodes and constants so far."""

    def __init__(self, lengths: bool, carry: bool):
        self.lengths, self.carry = lengths, carry
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.carries: dict[str, int] = {}
        self.lasts: dict[str, int] = {}
        self.sizes: list[int] = []
        self.dtype = np.dtype(np.float32)
        self.shared: dict[str, str] = {}

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output. Returns its name."""
        from onnx import helper  # pyright: ignore[reportMissingImports]

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self, inputs: dict[str, tuple[Any, tuple]], outputs: dict[str, tuple]) -> Any:
        """Returns the checked model, given its inputs with dtypes and shapes, and its outputs with shapes."""
        from onnx import checker, helper  # pyright: ignore[reportMissingImports]

        def value(name: str, shape: Any, dtype: Any = self.dtype) -> Any:
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

        given = [value(name, shape, dtype) for name, (dtype, shape) in inputs.items()]
        given += [value(name, ("B", width)) for name, width in self.carries.items()]
        given += [value("lengths", ("B",), np.int32)] if self.lengths else []
        made = [value(name, shape) for name, shape in outputs.items()]
        made += [value(name, ("B", width)) for name, width in self.lasts.items()]
        graph = helper.make_graph(self.nodes, "jaxseq", given, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        checker.check_model(model, full_check=True)
        return model

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant. Returns its name."""
        from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

        if name not in self.shared:
            self.constants.append(numpy_helper.from_array(np.asarray(value), name))
            self.shared[name] = name
        return name

    def net(self, net: Cell | Composite, params: Params, xs: str, place: str, reverse: bool) -> str:
        """Adds a net that reads `xs`. Returns the name of its outputs."""
        factory, options = _layers.call(net, "ONNX")
        if factory is wrappers.dropout:
            return self.net(options["cell"], params, xs, place, reverse)
        if factory is wrappers.backwards:
            return self.net(options["cell"], params, xs, place, not reverse)
        if factory is wrappers.stack:
            for index, (cell, own) in enumerate(_layers.children(factory, options, params)):
                xs = self.net(cell, own, xs, _below(place, index), reverse)
            return xs
        if factory is wrappers.residual:
            ys = self.net(options["cell"], params, xs, place, reverse)
            return self.add("Add", [self.kept(xs, place), ys], _below(place, f"residual{len(self.nodes)}"))
        if factory is wrappers.bidirectional:
            names, sides = ("forward", "backward"), _layers.children(factory, options, params)
            both = [
                self.net(side, own, xs, _below(place, name), reverse != (name == "backward"))
                for name, (side, own) in zip(names, sides, strict=True)
            ]
            more = {"axis": -1} if options["merge"] == "concat" else {}
            return self.add(_MERGES[options["merge"]], both, _below(place, "merged"), **more)
        return self.cell(_layers.weights_of(net, params, "ONNX"), xs, place, reverse)

    def cell(self, weights: _layers.Weights, xs: str, place: str, reverse: bool) -> str:
        """Adds the node of a cell."""
        from onnx import helper  # pyright: ignore[reportMissingImports]

        operator, attributes, arrays = _onnx_nodes.write(weights)
        self.sizes.append(weights.in_size)
        self.dtype = arrays["W"].dtype
        if self.dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(f"ONNX has no recurrent nodes of {self.dtype}; cast the params by jaxseq.cast")
        name = place or operator.lower()
        own = {slot: self.constant(f"{name}.{slot}", value) for slot, value in arrays.items()}
        parts = ("h", "c") if operator == "LSTM" else ("h",)
        starts = [self.start(weights, part, place, xs) for part in parts]
        inputs = [xs, own["W"], own["R"], own["B"], "lengths" if self.lengths else "", *starts, own.get("P", "")]
        while not inputs[-1]:
            inputs.pop()
        outputs = [f"{name}.Y", *(f"{name}.Y_{part}" for part in parts)]
        attributes |= {"direction": "reverse"} if reverse else {}
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        for part, output in zip(parts, outputs[1:], strict=True):
            last = _below(_below("last", place) if place else "last", part)
            self.lasts[last] = weights.size
            self.add("Squeeze", [output, self.constant("axis 0", np.array([0]))], last)
        return self.add("Squeeze", [outputs[0], self.constant("axis 1", np.array([1]))], f"{name}.ys")

    def start(self, weights: _layers.Weights, part: str, place: str, xs: str) -> str:
        """Returns the name of the initial value `[1, B, H]` of a part of the carry, or "" if it is zero."""
        name = _below(_below("carry", place) if place else "carry", part)
        if self.carry:
            self.carries[name] = weights.size
            return self.add("Unsqueeze", [name, self.constant("axis 0", np.array([0]))], f"{name}[0]")
        if weights.carry is None:
            return ""
        shape = self.add("Shape", [xs], f"{name}.shape", start=1, end=2)
        one = self.constant("one", np.array([1]))
        rows = self.add("Concat", [one, shape, one], f"{name}.rows", axis=0)
        assert weights.carry is not None
        row = self.constant(f"{name}.start", weights.carry[part][None, None])
        return self.add("Expand", [row, rows], f"{name}.all")

    def kept(self, xs: str, place: str, fill: float = 0) -> str:
        """Returns the name of `xs` `[T, B, ...]` with `fill` on padding."""
        if not self.lengths:
            return xs
        value = self.constant(f"{fill} on padding", np.asarray(fill, self.dtype))
        return self.add("Where", [self.mask(xs), xs, value], _below(place, f"kept{len(self.nodes)}"))

    def mask(self, xs: str, operator: str = "Less", shift: int = 0) -> str:
        """Returns the name of bools `[T, B, 1]`: whether a step is less than (or equal to) the length plus `shift`."""
        name = f"mask {operator} {shift}"
        if name not in self.shared:
            limits = [self.constant(f"{value} as a number", np.int64(value)) for value in (0, 1)]
            steps = self.add("Squeeze", [self.add("Shape", [xs], f"{name}.shape", start=0, end=1)], f"{name}.T")
            steps = self.add("Range", [limits[0], steps, limits[1]], f"{name}.range")
            lengths = self.add("Cast", ["lengths"], f"{name}.lengths", to=7)  # int64
            lengths = self.add("Add", [lengths, self.constant(f"{name}.shift", np.int64(shift))], f"{name}.limit")
            columns = self.add("Unsqueeze", [steps, self.constant("axes 1 2", np.array([1, 2]))], f"{name}.column")
            rows = self.add("Unsqueeze", [lengths, self.constant("axes 0 2", np.array([0, 2]))], f"{name}.row")
            self.shared[name] = self.add(operator, [columns, rows], name)
        return self.shared[name]


def _below(place, name):
    return f"{place}.{name}" if place else str(name)
