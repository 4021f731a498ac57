"""The order in which one step of one row is computed: barriers, with loops over features between them.

A product or a reduction needs its whole operand and returns its whole result at once: it is a barrier. Elementwise
operations between barriers are fused: a loop over features computes them chunk by chunk in registers, and stores the
requested results and what later stages read. There, a move costs nothing: it is the offset at which a chunk of its
operand is read. If a move scatters, so that no chunk can be read as one, it is also a barrier: a copy by an index
table.

The level of a node is the number of barriers before it. A stage is a level: its barriers, then its loops.
"""

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxseq.kernels.native._mathematics import FUNCTIONS
from jaxseq.kernels.native._nodes import Node, base

_PIECES = 16  # the largest number of chunks of one node in the body of a loop
_COSTLY = {*FUNCTIONS, "div", "sqrt", "rsqrt"}


class Part(NamedTuple):
    """A chunk of a node: where it begins, and whether it is one number for all lanes."""

    node: Node
    offset: int
    alike: bool


class Group(NamedTuple):
    """A loop over `n` features. A root whose size is a multiple of n gets that many chunks."""

    n: int
    roots: list[Node]


class Stage(NamedTuple):
    """Barriers in order, then loops."""

    barriers: list[Node]
    groups: list[Group]


class Order(NamedTuple):
    """The stages of a step, and the nodes that one stage leaves in memory for a later one."""

    stages: list[Stage]
    kept: list[Node]
    tables: set[Node]


class _Scattered(Exception):  # noqa: N818 - a signal
    """A move whose chunk is not contiguous in its operand."""

    def __init__(self, node):
        super().__init__(node)
        self.node = node


def order(results: Iterable[Node]) -> Order:
    """Returns the order in which to compute nodes. A view is replaced by the node that it shows."""
    roots = list(dict.fromkeys(map(base, results)))
    tables: set[Node] = set()
    while True:
        try:
            return _Planner(tables).order(roots)
        except _Scattered as scattered:
            tables.add(scattered.node)


def parts(node: Node, offset: int, n: int, alike: bool) -> list[Part]:
    """Returns the parts that a chunk of a node is computed from: one per argument, or for a move the part it shows.

    Raises:
      _Scattered: the chunk of a move is not contiguous in one of its arguments.
    """
    if node.op == "move":
        chunk = slice(offset, offset + (1 if alike else n))
        which, at = node.facts["which"][chunk], node.facts["at"][chunk]
        if (which != which[0]).any():
            raise _Scattered(node)
        return [_run(node, node.args[which[0]], at, n, alike)]
    return [_operand(node, arg, offset, alike) for arg in node.args]


def _operand(node, arg, offset, alike):
    arg = base(arg)
    return Part(arg, 0, True) if arg.size == 1 else Part(arg, offset, alike)


def _run(node, arg, at, n, alike):
    arg, first = base(arg), int(at[0])
    if alike or arg.size == 1 or (n > 1 and (at == first).all()):
        return Part(arg, first, True)
    if (np.diff(at) == 1).all():
        return Part(arg, first, False)
    raise _Scattered(node)


class _Planner:
    def __init__(self, tables):
        self.tables = tables
        self.levels: dict[Node, int] = {}
        self.costly: dict[Node, bool] = {}

    def is_barrier(self, node):
        return node.op in ("product", "reduce") or node in self.tables

    def is_computed(self, node):
        """Returns whether a node is computed in registers, in a loop over features."""
        return node.row and node.op not in ("leaf", "view") and not self.is_barrier(node)

    def level(self, node):
        node = base(node)
        if not node.row:
            return 0
        if node not in self.levels:
            args = [base(arg) for arg in node.args]
            level = max(map(self.level, args), default=0) + self.is_barrier(node)
            # Costly values that are the same for all features are computed before them.
            spread = [self.level(arg) + 1 for arg in args if arg.size == 1 < node.size and self.is_costly(arg)]
            self.levels[node] = max([level, *spread])
        return self.levels[node]

    def is_costly(self, node):
        node = base(node)
        if node not in self.costly:
            inside = self.is_computed(node)
            self.costly[node] = inside and (node.op in _COSTLY or any(map(self.is_costly, node.args)))
        return self.costly[node]

    def order(self, roots):
        barriers, kept, seen = {}, {}, set()  # dicts keep their order, which is that of the text that names the program

        def walk(node, level):
            """Records which earlier nodes a node needs that is computed at a level."""
            node = base(node)
            if not node.row or node.op == "leaf" or (node, level) in seen:
                return
            seen.add((node, level))
            if self.is_barrier(node):
                if node not in barriers:
                    barriers[node] = None
                    for arg in node.args:
                        need(base(arg))
            elif self.level(node) == level or (node.op == "move" and not self.is_costly(node)):
                for arg in node.args:
                    walk(arg, level)
            else:
                need(node)

        def need(node):
            """Records that a node must be in memory."""
            if self.is_computed(node):
                kept[node] = None
            walk(node, self.level(node))

        for root in roots:
            walk(root, self.level(root))
        stored = dict.fromkeys([*roots, *kept])
        levels = range(1 + max(map(self.level, [*stored, *barriers]), default=0))
        stages = []
        for level in levels:
            # a requested barrier result, leaf or param is copied
            of_level = [node for node in stored if self.level(node) == level]
            ready = {node for node in itertools.chain(barriers, kept) if self.level(node) < level}
            ready |= {node for node in barriers if self.level(node) <= level}
            in_order = [node for node in barriers if self.level(node) == level]
            stages.append(Stage(in_order, self.groups(of_level, ready)))
        return Order(stages, list(kept), self.tables)

    def groups(self, roots, ready):
        """Returns loops for the roots. Roots that share computations are in one loop if their sizes allow it."""
        groups = []
        for together in _components(roots, lambda root: self.closure(root, ready)):
            by_size: dict[int, list[Node]] = {}
            for root in together:
                by_size.setdefault(root.size, []).append(root)
            for attempt in ([together], [*by_size.values()]):
                found = [Group(n, some) for some in attempt if (n := self.extent(some, ready)) is not None]
                if len(found) == len(attempt):
                    groups += found
                    break
            else:
                groups += [Group(self.own_extent(root, ready), [root]) for root in together]
        return groups

    def closure(self, root, ready):
        """Returns the nodes that are computed for a root, without moves."""
        found, todo = set(), [root]
        while todo:
            node = base(todo.pop())
            if node in found or not self.is_computed(node) or (node in ready and node is not root):
                continue
            found.add(node)
            todo += node.args
        return {node for node in found if node.op != "move"}

    def extent(self, roots, ready):
        """Returns the longest chunk by which the roots can be computed, or None."""
        for n in self.lengths(roots):
            try:
                self.check_all(roots, n, ready)
            except _Scattered:
                continue
            return n
        return None

    def own_extent(self, root, ready):
        """Returns the longest chunk of one root. Raises _Scattered if there is none."""
        *_, shortest = self.lengths([root])
        n = self.extent([root], ready)
        if n is None:
            self.check_all([root], shortest, ready)
            raise AssertionError
        return n

    def lengths(self, roots):
        """Returns lengths of chunks, the longest first."""
        sizes = [root.size for root in roots]
        shared, longest = math.gcd(*sizes), max(sizes)
        return [n for n in range(shared, 0, -1) if shared % n == 0 and longest // n <= _PIECES]

    def check_all(self, roots, n, ready):
        seen = set()
        for root in roots:
            for offset in range(0, root.size, n):
                self.check(Part(root, offset, False), n, ready, seen)

    def check(self, part, n, ready, seen):
        """Raises _Scattered if a chunk cannot be computed from chunks."""
        if part in seen or not self.is_computed(part.node) or part.node in ready:
            return
        seen.add(part)
        for of_arg in parts(part.node, part.offset, n, part.alike):
            self.check(of_arg, n, ready, seen)


def _components(items, closure):
    """Returns lists of items whose closures overlap, directly or through other items."""
    found: list[tuple[list, set]] = []
    for item in items:
        together, reach = [item], closure(item)
        apart = []
        for other in found:
            if other[1] & reach:
                together, reach = other[0] + together, other[1] | reach
            else:
                apart.append(other)
        found = [*apart, (together, reach)]
    return [together for together, _ in found]
