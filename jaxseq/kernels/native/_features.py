"""One step of a block of rows: its stages, written as loops over rows and features.

A `Place` says where the numbers of a node are stored: a pointer to the block's first row, and the distance to the next
row. A loop over features loads a node that has a place and computes a node that has none. A move is another offset.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxseq.kernels.native import _products
from jaxseq.kernels.native._elementwise import compute, format_of, read, write
from jaxseq.kernels.native._ir import Code
from jaxseq.kernels.native._nodes import Node, base
from jaxseq.kernels.native._products import Tile
from jaxseq.kernels.native._stages import Group, Part, Stage, parts
from jaxseq.kernels.native._values import Type, Value, f32, i32, i64, ptr

_RUNS = 16  # a scattered move of up to this many pieces copies them one by one; more use an index table


class Place(NamedTuple):
    """Where a node is stored: numbers of `dtype`, rows `stride` numbers apart, or 0 if all rows share them."""

    pointer: Value
    stride: int
    dtype: Any


@dataclasses.dataclass
class Block:
    """Writes the code of a step of `rows` rows.

    Attributes:
      code: the function that is being written.
      lanes: the number of elements in a vector.
      rows: the number of rows.
      places: where the nodes written so far are stored.
      weights: for each product, where its weights are stored.
      packed: the products with packed weights. Other weights are as they came.
      tiles: for each product, its tile.
    """

    code: Code
    lanes: int
    rows: int
    places: dict[Node, Place]
    weights: dict[Node, list[Value]]
    packed: set[Node]
    tiles: dict[Node, Tile]

    def run(self, stage: Stage, rooms: dict[Node, Place], targets: dict[Node, list[Place]]):
        """Writes a stage: its barriers into their rooms, and the roots of its loops to all their targets."""
        for node in stage.barriers:
            self.barrier(node, rooms[node])
            self.places[node] = rooms[node]
        for group in stage.groups:
            self.loop([(root, place) for root in group.roots for place in targets[root]], group)
        for root in itertools.chain.from_iterable(group.roots for group in stage.groups):
            self.places.setdefault(root, targets[root][0])

    def copy(self, node: Node, source: Place, target: Place):
        """Writes a copy of a node's rows from one place to another."""
        before, self.places = self.places, {node: source}
        self.loop([(node, target)], Group(node.size, [node]))
        self.places = before

    # Loops over features

    def loop(self, stores: list[tuple[Node, Place]], group: Group):
        """Writes a loop over rows that contains a loop over the features of a group."""
        n, code = group.n, self.code
        used, alike = self.loaded(group)
        whole = n - n % self.lanes
        with code.loop(self.rows) as row:
            at = {place: self.row_of(place, row.index) for place in (*used, *(place for _, place in stores))}
            known = {part: self.alike(part, at) for part in alike}
            if whole:
                with code.loop(whole, self.lanes) as feature:
                    _Chunk(self, n, feature.index, self.lanes, at, dict(known)).store(stores)
            if n % self.lanes:
                _Chunk(self, n, whole, n % self.lanes, at, dict(known)).store(stores)

    def loaded(self, group):
        """Returns the places that a loop reads, and the parts of which it reads one number."""
        used, alike, seen = {}, {}, set()
        todo = [Part(root, offset, False) for root in group.roots for offset in range(0, root.size, group.n)]
        while todo:
            part = todo.pop()
            if part in seen:
                continue
            seen.add(part)
            if part.node in self.places and constant(part, group.n) is None:
                used[self.places[part.node]] = None
                if part.alike:
                    alike[part] = None
            elif part.node.op != "const":
                todo += parts(part.node, part.offset, group.n, part.alike)
        return used, alike

    def alike(self, part, at):
        place = self.places[part.node]
        memory = format_of(place.dtype).memory
        return self.code.splat(
            read(self.code, place.dtype, self.code.at(at[place], memory, part.offset), 0), self.lanes
        )

    def row_of(self, place, row):
        return self.code.at(place.pointer, format_of(place.dtype).memory, row * place.stride)

    def shifted(self, place: Place, offset: Any) -> Place:
        """Returns the place of a node's numbers, starting at an offset."""
        return place._replace(pointer=self.code.at(place.pointer, format_of(place.dtype).memory, offset))

    # Barriers

    def barrier(self, node, room):
        match node.op:
            case "product":
                self.product(node, room)
            case "reduce":
                self.reduce(node, self.places[base(node.args[0])], room)
            case _:
                self.rearrange(node, room)

    def product(self, node, out):
        b, m, G = node.shape
        code, scalar = self.code, format_of(node.dtype).register
        kind, packed = Type(scalar.scalar, self.lanes), node in self.packed
        with code.loop(b) as batch, code.loop(m) as each:
            at, factors = batch.index * m + each.index, []
            for x, weight in zip(node.args[::2], self.weights[node], strict=True):
                place, K = self.places[base(x)], x.shape[-1]
                size = _products.packed_size(K, G, self.lanes) if packed else K * G
                row, weight = code.at(place.pointer, scalar, at * K), code.at(weight, scalar, batch.index * size)
                factors.append(_products.Factor(row, place.stride, weight, K, packed))
            target = code.at(out.pointer, scalar, at * G)
            _products.product(code, kind, self.tiles[node], self.rows, G, factors, target, out.stride)

    def reduce(self, node, x, out):
        """Writes a sum, maximum or minimum of each row's [m, n] over n."""
        code, n, kind = self.code, node.facts["n"], format_of(node.dtype).register
        start = {"sum": 0.0, "max": float("-inf"), "min": float("inf")}[node.facts["kind"]]
        vector, whole = Type(kind.scalar, self.lanes), n - n % self.lanes
        with code.loop(self.rows) as row, code.loop(node.size) as each:
            source = code.at(self.row_of(x, row.index), kind, each.index * n)
            total = code.constant(vector, start)
            if whole:
                with code.loop(whole, self.lanes, [total]) as feature:
                    chunk = code.load(vector, code.at(source, kind, feature.index))
                    feature.next.append(self.joined(node, feature.values[0], chunk))
                total = feature.next[0]
            if n % self.lanes:
                rest = code.load(vector, code.at(source, kind, whole), n % self.lanes, start)
                total = self.joined(node, total, rest)
            write(code, node.dtype, self.across(node, total), code.at(self.row_of(out, row.index), kind, each.index))

    def joined(self, node, a, b):
        kind = node.facts["kind"]
        return a + b if kind == "sum" else self.code.intrinsic(f"{kind}imum", a, b)

    def across(self, node, vector):
        """Returns the sum, maximum or minimum of a vector's lanes."""
        code, lanes = self.code, self.lanes
        while lanes > 1:
            lanes //= 2
            order = ", ".join(f"i32 {(lane + lanes) % self.lanes}" for lane in range(self.lanes))
            text = f"shufflevector {vector}, {vector.type} poison, <{self.lanes} x i32> <{order}>"
            vector = self.joined(node, vector, code.op(vector.type, text))
        return code.op(Type(vector.type.scalar), f"extractelement {vector}, i64 0")

    def rearrange(self, node, room):
        """Writes a scattered move: piece by piece, or number by number with tables of source and target indices."""
        which, at = node.facts["which"], node.facts["at"]
        borders = 1 + np.flatnonzero((np.diff(which) != 0) | (np.diff(at) != 1))
        starts = [0, *borders.tolist(), node.size]
        if len(starts) - 1 <= _RUNS:
            for start, end in itertools.pairwise(starts):
                arg = base(node.args[which[start]])
                run = Node("leaf", (), (end - start,), node.dtype, True)
                self.copy(run, self.shifted(self.places[arg], int(at[start])), self.shifted(room, start))
            return
        code = self.code
        memory = format_of(room.dtype).memory
        for number, arg in enumerate(map(base, node.args)):
            targets = np.flatnonzero(which == number)
            if not targets.size:
                continue
            source = self.places[arg]
            of_source, to, come = format_of(source.dtype).memory, _table(code, targets), _table(code, at[targets])
            with code.loop(self.rows) as row, code.loop(targets.size) as each:
                here = code.cast("zext", code.load(i32, code.at(come, i32, each.index)), i64)
                there = code.cast("zext", code.load(i32, code.at(to, i32, each.index)), i64)
                value = read(code, source.dtype, code.at(self.row_of(source, row.index), of_source, here), 0)
                write(code, room.dtype, value, code.at(self.row_of(room, row.index), memory, there))


def constant(part: Part, n: int) -> float | None:
    """Returns the value of a chunk of `n` numbers of a node if it is one known number, else None."""
    if part.node.op != "const":
        return None
    chunk = part.node.value[part.offset : part.offset + (1 if part.alike else n)]
    first = chunk[0].item()
    return first if (chunk == chunk[0]).all() else None


@dataclasses.dataclass
class _Chunk:
    """One vector of each node in a loop over `n` features: at feature `at`, with `live` lanes in use."""

    block: Block
    n: int
    feature: Any
    live: int
    at: dict[Place, Value]
    values: dict[Part, Value]

    def store(self, stores):
        code, targets = self.block.code, []
        for root, place in stores:
            for offset in range(0, root.size, self.n):
                targets.append((place, offset, self.value(Part(root, offset, False))))
        for place, offset, value in targets:
            pointer = code.at(self.at[place], format_of(place.dtype).memory, self.feature + offset)
            write(code, place.dtype, value, pointer, self.live)

    def value(self, part):
        if part not in self.values:
            self.values[part] = self.made(part)
        return self.values[part]

    def made(self, part):
        code, node = self.block.code, part.node
        kind = Type(format_of(node.dtype).register.scalar, self.block.lanes)
        number = constant(part, self.n)
        if number is not None:
            return code.constant(kind, number)
        if node in self.block.places:
            place = self.block.places[node]
            pointer = code.at(self.at[place], format_of(place.dtype).memory, self.feature + part.offset)
            return read(code, place.dtype, pointer, self.block.lanes, self.live)
        of_args = parts(node, part.offset, self.n, part.alike)
        if node.op == "move":
            return self.value(of_args[0])
        factors = [constant(of_arg, self.n) for of_arg in of_args]
        if node.op == "mul" and 1 in factors:
            return self.value(of_args[1 - factors.index(1)])
        return compute(code, node, [self.value(of_arg) for of_arg in of_args], kind)


def _table(code, numbers):
    """Returns the address of a constant array of i32."""
    name = f"@table{len(code.module.globals)}"
    listed = ", ".join(f"i32 {number}" for number in numbers)
    code.module.globals[name] = f"{name} = internal constant [{len(numbers)} x i32] [{listed}]"
    return Value(code, ptr, name)


def scratch_stride(node: Node, lanes: int) -> int:
    """Returns the distance between rows of a stored node. A product writes whole vectors, also past its end."""
    last = 0 if node.op != "product" else -(-node.shape[-1] // lanes) * lanes - node.shape[-1]
    return node.size if node.size == 1 and not last else -(-(node.size + last) // lanes) * lanes


def scratch_dtype(node: Node) -> Any:
    """Returns the dtype in which a node is stored between stages. 16-bit floats stay in float32."""
    return jnp.dtype("float32") if format_of(node.dtype).register == f32 else node.dtype
