"""The ring: the vectors of a time block whose products are summed, and the code that sums them.

The gradient of a weight is Σ x δᵀ over rows and steps. A step has few rows, so adding to the whole weight at every step
would mostly be memory traffic. Instead, x and δ of several steps are kept in a ring in the cache and multiplied as
matrices. An x that the loop reads from an array stays in that array.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxseq.kernels.native import _products
from jaxseq.kernels.native._elementwise import format_of
from jaxseq.kernels.native._features import Place
from jaxseq.kernels.native._ir import Code
from jaxseq.kernels.native._machine import machine
from jaxseq.kernels.native._nodes import Node
from jaxseq.kernels.native._products import Rows
from jaxseq.kernels.native._sums import Term
from jaxseq.kernels.native._values import Type, Value, i8, i64, ptr

_TOGETHER = 128  # rows times steps of a time block


def factors(sums: Sequence[Term], streams: Sequence[Node]) -> list[Node]:
    """Returns the nodes that the ring keeps: all factors, except each x that is read directly from an array."""
    kept = {term.d: None for term in sums}
    kept |= {term.x: None for term in sums if term.x is not None and not _is_read(term, streams)}
    return list(kept)


def slab(term: Term, lanes: int) -> tuple[int, int, int]:
    """Returns the shape of a sum in memory. Its columns are whole vectors."""
    b, m, n = term.shape
    return b, m, _products.packed_size(1, n, lanes)


def _is_read(term, streams):
    return term.x in streams and term.shape[0] == 1


class Ring:
    """Writes the code of a block's function that keeps factors and computes sums."""

    def __init__(self, code: Code, loop: Any, lanes: int, rows: int, given: Iterator[Value]):
        """Takes `given`, which yields the addresses of the sums."""
        self.code, self.loop, self.lanes, self.rows = code, loop, lanes, rows
        self.nodes = factors(loop.sums, loop.streams)
        self.sums = {term: next(given) for term in loop.sums}
        self.steps = min(loop.T, -(-_TOGETHER // rows)) if loop.sums else 1
        self.has_heads = any(term.shape[0] > 1 for term in loop.sums)
        self.memory: dict[Node, Value] = {}

    def stride(self, node: Node) -> int:
        """Returns the distance between rows: whole vectors, plus one if heads are read past their ends."""
        return (-(-node.size // self.lanes) + self.has_heads) * self.lanes

    def allocate(self):
        """Writes the allocation of the ring."""
        sizes = [self.steps * self.rows * self.stride(node) * format_of(node.dtype).memory.bytes for node in self.nodes]
        if sizes:
            self.start = self.code.call("jaxseq_allocate", ptr, self.code.constant(i64, sum(sizes)))
            starts = itertools.accumulate(sizes, initial=0)
            self.memory = {node: self.code.at(self.start, i8, at) for node, at in zip(self.nodes, starts, strict=False)}

    def free(self):
        """Writes the release of the ring."""
        if self.nodes:
            self.code.call("jaxseq_free", None, self.start)

    def place(self, node: Node, slot: Any) -> Place:
        """Returns the place of a factor at one step of the time block."""
        stride, memory = self.stride(node), format_of(node.dtype).memory
        return Place(self.code.at(self.memory[node], memory, slot * (self.rows * stride)), stride, node.dtype)

    def sum_up(self, steps: Any, done_rows: Value, at_first_step: Callable[[Node], Place]):
        """Adds the products of a time block's `steps`. The first `done_rows` rows are summed by another block."""
        if not self.sums:
            return
        if self.loop.B % self.rows:
            with self.code.when(done_rows > 0):
                self.forget(steps, done_rows)
        host = machine()
        assert host is not None
        for term, pointer in self.sums.items():
            (b, m, n), (_, _, width) = term.shape, slab(term, self.lanes)
            scalar = format_of(term.d.dtype).register
            kind, tile = Type(scalar.scalar, self.lanes), _products.tile(host, self.lanes, m, n)
            for batch in range(b):
                x, d = self.left(term, batch * m, at_first_step), self.kept(term.d, batch * n)
                out = self.code.at(pointer, scalar, batch * m * width)
                _products.accumulate(self.code, kind, tile, steps, self.rows, m, n, x, d, out)

    def kept(self, node, offset):
        stride, memory = self.stride(node), format_of(node.dtype).memory
        return Rows(self.code.at(self.memory[node], memory, offset), self.rows * stride, stride)

    def left(self, term, offset, at_first_step):
        if term.x is None:
            return Rows(self.one(term), 0, 0)
        if term.x in self.memory:
            return self.kept(term.x, offset)
        place = at_first_step(term.x)
        of_step = self.loop.B * term.x.size
        return Rows(place.pointer, -of_step if self.loop.reverse else of_step, term.x.size)

    def one(self, term):
        """Returns the address of a 1."""
        scalar = format_of(term.d.dtype).register
        name = f"@one.{scalar}"
        self.code.module.globals[name] = f"{name} = internal constant {scalar} 1.0"
        return Value(self.code, ptr, name)

    def forget(self, steps, done_rows):
        """Sets the factors δ of rows that another block sums to zero."""
        code = self.code
        for node in {term.d: None for term in self.sums}:
            scalar, stride = format_of(node.dtype).memory, self.stride(node)
            zeros = code.constant(Type(scalar.scalar, self.lanes), 0)
            with code.loop(steps) as step, code.loop(done_rows) as row, code.loop(stride, self.lanes) as feature:
                at = (step.index * self.rows + row.index) * stride + feature.index
                code.store(zeros, code.at(self.memory[node], scalar, at))
