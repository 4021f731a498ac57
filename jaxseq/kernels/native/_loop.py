"""All steps of a block of rows, in one function of machine code.

Rows are independent. A block of them runs through all T steps on one thread, and no thread waits for another. A step
reads and writes:

    params     as they are, and weights packed for the products
    carry      from where the previous step wrote it: its slot among the results, or one of two alternating buffers
    fixed      per row, constant over the steps
    streams    per row and step
    before     per row and previous step, in the order of the forward loop: the values that the forward loop passed to
               each step, as the backward loop reads them
    outs       per row and step: written once, directly to the results
    sums       over rows and steps, of products whose factors are kept for as many steps as fit into a cache
"""

import dataclasses
import itertools

from jaxseq.kernels.native._elementwise import format_of
from jaxseq.kernels.native._features import Block, Place, scratch_dtype, scratch_stride
from jaxseq.kernels.native._nodes import Node
from jaxseq.kernels.native._ring import Ring, factors
from jaxseq.kernels.native._stages import Order, order
from jaxseq.kernels.native._sums import Term
from jaxseq.kernels.native._values import i8, i64, ptr


@dataclasses.dataclass(frozen=True, eq=False)
class Loop:
    """Describes what a loop computes.

    Attributes:
      T, B: the numbers of steps and rows.
      reverse: whether it runs from the last step to the first.
      carry: for each leaf of the carry, its node in a step and the node of its next value.
      fixed, streams, before: the leaves that are read, as above.
      outs: the nodes that are written at every step.
      sums: what is summed over rows and steps.
    """

    T: int
    B: int
    reverse: bool
    carry: list[tuple[Node, Node]]
    fixed: list[Node]
    streams: list[Node]
    before: list[Node]
    outs: list[Node]
    sums: list[Term] = dataclasses.field(default_factory=list)

    def results(self) -> list[Node]:
        """Returns the nodes that a step must compute."""
        return [*self.outs, *(result for _, result in self.carry), *factors(self.sums, self.streams)]

    def order(self) -> Order:
        """Returns the stages of a step."""
        return order(self.results())


class Writer:
    """Writes the function of a block."""

    def __init__(self, loop, stages, code, lanes, rows, params, tiles, packed):
        """Takes `code`. Its arguments are all arrays, the first row, and how many rows from there others have done."""
        self.loop, self.stages, self.code, self.lanes, self.rows = loop, stages, code, lanes, rows
        *arguments, self.first_row, self.done_rows = code.args
        given = iter(arguments)
        places = {node: Place(next(given), 0, node.dtype) for node in params}
        weights = {node: [next(given) for _ in node.args[1::2]] for node in tiles}
        self.block = Block(code, lanes, rows, places, weights, packed, tiles)
        self.firsts = [self.of_rows(leaf, next(given)) for leaf, _ in loop.carry]
        self.before_first = [self.of_rows(leaf, next(given)) for leaf in loop.before]
        self.before = [self.of_rows(leaf, next(given)) for leaf in loop.before]
        self.block.places |= {leaf: self.of_rows(leaf, next(given)) for leaf in loop.fixed}
        self.streams = [self.of_rows(leaf, next(given)) for leaf in loop.streams]
        self.lasts = [self.of_rows(leaf, next(given)) for leaf, _ in loop.carry]
        self.outs = [self.of_rows(node, next(given)) for node in loop.outs]
        self.ring = Ring(code, loop, lanes, rows, given)

    def of_rows(self, node, pointer):
        """Returns the place of this block's rows in an array `[..., B, *node]`."""
        memory = format_of(node.dtype).memory
        return Place(self.code.at(pointer, memory, self.first_row * node.size), node.size, node.dtype)

    def rooms(self, nodes):
        """Returns places for nodes in the block's own memory, and the address of that memory."""
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
        """Returns the place of a step in an array of all steps that begins at `place`."""
        memory = format_of(node.dtype).memory
        return place._replace(pointer=self.code.at(place.pointer, memory, step * (self.loop.B * node.size)))

    def write(self):
        code, loop = self.code, self.loop
        inner = [node for stage in self.stages.stages for node in stage.barriers]
        inner += [node for node in self.stages.kept if node not in loop.outs and node not in self.ring.nodes]
        turning = [leaf for leaf, result in loop.carry if result not in loop.outs]
        places, scratch = self.rooms([*inner, *turning, *turning])
        rooms, places = dict(zip(inner, places, strict=False)), places[len(inner) :]
        # for a carry that is not in any out: the two alternating buffers
        turns = dict(zip(turning, zip(places[: len(turning)], places[len(turning) :], strict=True), strict=True))
        for (leaf, _), first in zip(loop.carry, self.firsts, strict=True):
            if leaf in turns:
                self.block.copy(leaf, first, turns[leaf][0])
        pointers = [
            [place.pointer for place in turns[leaf]] if leaf in turns else [first.pointer]
            for (leaf, _), first in zip(loop.carry, self.firsts, strict=True)
        ]
        self.ring.allocate()
        last = self.steps(pointers, rooms, turns)
        for (leaf, result), (pointer, *_), target in zip(loop.carry, last, self.lasts, strict=True):
            like = turns[leaf][0] if leaf in turns else self.outs[loop.outs.index(result)]
            self.block.copy(leaf, like._replace(pointer=pointer), target)
        self.ring.free()
        code.call("jaxseq_free", None, scratch)
        code.ret()

    def steps(self, pointers, rooms, turns):
        """Writes all steps, and the sums after each time block. Returns the pointers of the last carry."""
        code, T = self.code, self.loop.T
        together = self.ring.steps
        counts = [len(some) for some in pointers]

        def apart(values):
            values = iter(values)
            return [[next(values) for _ in range(count)] for count in counts]

        with code.loop(-(-T // together), 1, [*itertools.chain(*pointers)]) as blocks:
            first = blocks.index * together
            left = T - first
            n = together if T % together == 0 else code.call("llvm.smin.i64", i64, left, code.constant(i64, together))
            with code.loop(n, 1, blocks.values) as steps:
                handed_on = self.step(first + steps.index, steps.index, apart(steps.values), rooms, turns)
                steps.next.extend(itertools.chain(*handed_on))
            blocks.next.extend(steps.next)
            self.ring.sum_up(n, self.done_rows, lambda leaf: self.first_of_block(leaf, first))
        return apart(blocks.next)

    def first_of_block(self, leaf, first):
        """Returns the place of a stream's rows at the first step of a time block."""
        return self.at_step(self.streams[self.loop.streams.index(leaf)], leaf, self.at_time(first))

    def at_time(self, index):
        """Returns the step in the order of the arrays."""
        return (self.loop.T - 1) - index if self.loop.reverse else index

    def step(self, index, slot, pointers, rooms, turns):
        """Writes one step. Returns the pointers to the carry for the next step."""
        loop, block = self.loop, self.block
        step = self.at_time(index)
        known = dict(block.places)
        for leaf, place in zip(loop.streams, self.streams, strict=True):
            block.places[leaf] = self.at_step(place, leaf, step)
        for leaf, first, place in zip(loop.before, self.before_first, self.before, strict=True):
            block.places[leaf] = self.step_before(leaf, first, place, step)
        outs = {node: self.at_step(place, node, step) for node, place in zip(loop.outs, self.outs, strict=True)}
        targets = {node: [place] for node, place in outs.items()}
        for node in self.ring.nodes:
            targets.setdefault(node, []).append(self.ring.place(node, slot))
        for node in self.stages.kept:
            if node not in targets:
                targets[node] = [rooms[node]]
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
        """Returns the place of the value that the forward loop passed to a step; `first` at its first step."""
        code, loop = self.code, self.loop
        if loop.T == 1:
            return first
        # this loop runs backwards: the forward loop's previous step is this loop's next step
        from_step, edge = (step - 1, 0) if loop.reverse else (step + 1, loop.T - 1)
        there = self.at_step(place, leaf, from_step)
        is_edge = code.compare("eq", step, edge)
        return place._replace(pointer=code.select(is_edge, first.pointer, there.pointer))
