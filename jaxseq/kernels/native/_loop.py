"""All steps of a block of rows, in one function of machine code.

Rows do not depend on each other, so a block of them runs through all T steps alone, on one thread, and no thread waits
for another. What a step reads and writes:

    params     as they are, and weights packed for the products
    carry      from where the step before wrote it: its slot among the results, or one of two buffers that take turns
    fixed      of the row, the same at all steps
    streams    of the row and the step
    before     of the row and the step before this one, in the order of the loop's own steps after it: what a forward
               loop handed on, as the backward loop reads it
    outs       of the row and the step: written once, straight to the results
"""

import dataclasses
import itertools
import os
from typing import NamedTuple

from jaxseq.kernels.native import _products
from jaxseq.kernels.native._elementwise import format_of
from jaxseq.kernels.native._features import Block, Place, scratch_dtype, scratch_stride
from jaxseq.kernels.native._ir import Code, Module
from jaxseq.kernels.native._machine import machine
from jaxseq.kernels.native._nodes import Node, base
from jaxseq.kernels.native._stages import Order, order
from jaxseq.kernels.native._values import Value, f32, i8, i64, ptr

_ROWS = 32  # in a block, at most


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """What a loop computes.

    Attributes:
      T, B: steps and rows.
      reverse: it runs from the last step to the first.
      carry: of each leaf of the carry, its node in a step and the node that is handed on.
      fixed, streams, before: the leaves that are read, as above.
      outs: the nodes that are written at every step.
    """

    T: int
    B: int
    reverse: bool
    carry: list[tuple[Node, Node]]
    fixed: list[Node]
    streams: list[Node]
    before: list[Node]
    outs: list[Node]

    def order(self) -> Order:
        """Returns the stages of a step."""
        return order([*self.outs, *(result for _, result in self.carry)])


class Text(NamedTuple):
    """The program of a loop, and what comes before the rows' arrays in its arguments.

    The arguments are the values of `params`, packed weights of the `products`, the first of each carry, the first of
    each `before`, then the arrays of `before`, `fixed` and `streams`; the results are the last carry and the outs.
    """

    module: Module
    params: list[Node]
    products: dict[Node, _products.Tile]
    lanes: int


def write(loop: Loop) -> Text:
    """Returns a loop's program for this machine."""
    host, stages = machine(), loop.order()
    assert host is not None
    params, products, dtypes = _needs(loop, stages)
    kinds = [format_of(dtype).register for dtype in dtypes]
    lanes = min([host.lanes(kind) for kind in kinds if kind.is_float], default=host.lanes(f32))
    rows = _rows_of_block(loop.B)
    tiles = {node: _products.tile(host, lanes, rows, node.shape[-1]) for node in products}
    module = Module()
    buffers = len(params) + len(products) + 2 * len(loop.carry) + 2 * len(loop.before)
    buffers += len(loop.fixed) + len(loop.streams) + len(loop.outs)
    code = Code(
        module,
        "block",
        [*[ptr] * buffers, i64],
        attributes=host.attributes,
        of_pointers="noalias",
        float_flags="contract",
    )
    _Writer(loop, stages, code, lanes, rows, params, tiles).write()
    _write_units(module, buffers, loop, rows)
    return Text(module, params, tiles, lanes)


def _rows_of_block(B):
    rows = min(_ROWS, -(-B // (os.cpu_count() or 1)))
    return -(-B // -(-B // rows))


def _needs(loop, stages):
    """The nodes of params alone that rows read, the products, whose weights are packed, and the dtypes of all nodes."""
    params, products, seen = {}, {}, {}

    def read(node, is_table=False):
        known = node.op == "const" and not is_table and (node.value == node.value[0]).all()
        if not node.row and not known:
            params[node] = None

    todo = [*loop.outs, *(result for _, result in loop.carry)]
    for node in map(base, todo):
        read(node)
    while todo:
        node = base(todo.pop())
        if node in seen or not node.row:
            continue
        seen[node] = None
        args = [base(arg) for arg in node.args]
        if node.op == "product":
            products[node] = None
            args = args[:1]
        for arg in args:
            read(arg, node in stages.tables)
        todo += args
    return list(params), list(products), dict.fromkeys(node.dtype for node in seen)


def _write_units(module, buffers, loop, rows):
    """`run`, and the work of one unit: a block of rows. The last block begins early rather than being short."""
    B = loop.B
    unit = Code(module, "unit", [ptr, i64])
    addresses = [unit.load(ptr, unit.at(unit.args[0], ptr, place)) for place in range(buffers)]
    row = unit.args[1] * rows
    row = unit.select(row < B - rows, row, B - rows) if isinstance(row, Value) else unit.constant(i64, row)
    unit.call("block", None, *addresses, row)
    unit.ret()
    run = Code(module, "run", [ptr, ptr], internal=False)
    for place, node in enumerate(loop.outs, buffers - len(loop.outs)):
        size = run.constant(i64, loop.T * B * node.size * format_of(node.dtype).memory.bytes)
        run.call("jaxseq_huge_pages", None, run.load(ptr, run.at(run.args[0], ptr, place)), size)
    work, units = Value(run, ptr, "@unit"), run.constant(i64, -(-B // rows))
    run.call("jaxseq_parallel", None, run.args[1], work, run.args[0], units)
    run.ret()


class _Writer:
    """Writes the function of a block."""

    def __init__(self, loop, stages, code, lanes, rows, params, tiles):
        self.loop, self.stages, self.code, self.lanes, self.rows = loop, stages, code, lanes, rows
        *arguments, self.first_row = code.args
        given = iter(arguments)
        places = {node: Place(next(given), 0, node.dtype) for node in params}
        weights = {node: next(given) for node in tiles}
        self.block = Block(code, lanes, rows, places, weights, tiles)
        self.firsts = [self.of_rows(leaf, next(given)) for leaf, _ in loop.carry]
        self.before_first = [self.of_rows(leaf, next(given)) for leaf in loop.before]
        self.before = [self.of_rows(leaf, next(given)) for leaf in loop.before]
        self.block.places |= {leaf: self.of_rows(leaf, next(given)) for leaf in loop.fixed}
        self.streams = [self.of_rows(leaf, next(given)) for leaf in loop.streams]
        self.lasts = [self.of_rows(leaf, next(given)) for leaf, _ in loop.carry]
        self.outs = [self.of_rows(node, next(given)) for node in loop.outs]

    def of_rows(self, node, pointer):
        """The place of this block's rows in an array `[..., B, *node]`."""
        memory = format_of(node.dtype).memory
        return Place(self.code.at(pointer, memory, self.first_row * node.size), node.size, node.dtype)

    def rooms(self, nodes):
        """Places for nodes in memory of the block's own, and where that memory begins."""
        starts, total = [], 0
        for node in nodes:
            starts.append(total)
            memory = format_of(scratch_dtype(node)).memory
            total += -(-self.rows * scratch_stride(node, self.lanes) * memory.bytes // 64) * 64
        scratch = self.code.call("jaxseq_allocate", ptr, self.code.constant(i64, total))
        places = [
            Place(self.code.at(scratch, i8, start), scratch_stride(node, self.lanes), scratch_dtype(node))
            for node, start in zip(nodes, starts, strict=True)
        ]
        return places, scratch

    def at_step(self, place, node, step):
        """The place of a step in an array of all steps, which begins at `place`."""
        memory = format_of(node.dtype).memory
        return place._replace(pointer=self.code.at(place.pointer, memory, step * (self.loop.B * node.size)))

    def write(self):
        code, loop = self.code, self.loop
        inner = [node for stage in self.stages.stages for node in stage.barriers]
        inner += [node for node in self.stages.kept if node not in loop.outs]
        turning = [leaf for leaf, result in loop.carry if result not in loop.outs]
        places, scratch = self.rooms([*inner, *turning, *turning])
        rooms, places = dict(zip(inner, places, strict=False)), places[len(inner) :]
        # of a carry that is in no out: the two buffers that take turns
        turns = dict(zip(turning, zip(places[: len(turning)], places[len(turning) :], strict=True), strict=True))
        for (leaf, _), first in zip(loop.carry, self.firsts, strict=True):
            if leaf in turns:
                self.block.copy(leaf, first, turns[leaf][0])
        pointers = [
            [place.pointer for place in turns[leaf]] if leaf in turns else [first.pointer]
            for (leaf, _), first in zip(loop.carry, self.firsts, strict=True)
        ]
        with code.loop(loop.T, 1, list(itertools.chain(*pointers))) as steps:
            handed = iter(steps.values)
            handed_on = self.step(steps.index, [[next(handed) for _ in some] for some in pointers], rooms, turns)
            steps.next.extend(itertools.chain(*handed_on))
        handed = iter(steps.next)
        for (leaf, result), some, last in zip(loop.carry, pointers, self.lasts, strict=True):
            pointer, *_ = [next(handed) for _ in some]
            like = turns[leaf][0] if leaf in turns else self.outs[loop.outs.index(result)]
            self.block.copy(leaf, like._replace(pointer=pointer), last)
        code.call("jaxseq_free", None, scratch)
        code.ret()

    def step(self, index, pointers, rooms, turns):
        """Writes one step; returns the pointers by which the next one finds its carry."""
        loop, block = self.loop, self.block
        step = (loop.T - 1) - index if loop.reverse else index
        known = dict(block.places)
        for leaf, place in zip(loop.streams, self.streams, strict=True):
            block.places[leaf] = self.at_step(place, leaf, step)
        for leaf, first, place in zip(loop.before, self.before_first, self.before, strict=True):
            block.places[leaf] = self.step_before(leaf, first, place, step)
        outs = {node: self.at_step(place, node, step) for node, place in zip(loop.outs, self.outs, strict=True)}
        targets = {node: [place] for node, place in outs.items()}
        for node in self.stages.kept:
            if node not in outs:
                targets.setdefault(node, []).append(rooms[node])
        handed_on = []
        for (leaf, result), some in zip(loop.carry, pointers, strict=True):
            if leaf in turns:
                old, new = (place._replace(pointer=p) for place, p in zip(turns[leaf], some, strict=True))
                block.places[leaf] = old
                targets.setdefault(result, []).append(new)
                handed_on.append([new.pointer, old.pointer])
            else:
                block.places[leaf] = Place(some[0], leaf.size, leaf.dtype)
                handed_on.append([outs[result].pointer])
        for stage in self.stages.stages:
            block.run(stage, rooms, targets)
        block.places = known
        return handed_on

    def step_before(self, leaf, first, place, step):
        """The place of what the forward loop handed to a step; `first` at its first."""
        code, loop = self.code, self.loop
        if loop.T == 1:
            return first
        # this loop runs backwards: the forward one came from the step that this one goes to
        from_step, edge = (step - 1, 0) if loop.reverse else (step + 1, loop.T - 1)
        there = self.at_step(place, leaf, from_step)
        is_edge = code.compare("eq", step, edge)
        return place._replace(pointer=code.select(is_edge, first.pointer, there.pointer))
