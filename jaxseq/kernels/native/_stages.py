"""The order in which one step of one row is computed: barriers, and between them loops over features.

A product or a reduction needs all of its operand and gives all of its result at once: it is a barrier. What is
computed element by element between barriers is fused: a loop over features computes it chunk by chunk in registers,
and stores what is asked for, and what a later stage reads. A move costs nothing there, as it only says at which offset
a chunk of its operand is read; where it scatters, so that no chunk can be read as one, it is a barrier too, a copy by a
table of indices.

The level of a node is the number of barriers before it; a stage is a level: its barriers, then its loops.
"""

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxseq.kernels.native._mathematics import FUNCTIONS
from jaxseq.kernels.native._nodes import Node, base

_PIECES = 16  # chunks of one node in the body of a loop, at most
_COSTLY = {*FUNCTIONS, "div", "sqrt", "rsqrt"}


class Part(NamedTuple):
    """A chunk of a node: where it begins, and whether it is one number for all lanes."""

    node: Node
    offset: int
    alike: bool


class Group(NamedTuple):
    """A loop over `n` features; of each root, which is a multiple as long, it computes as many chunks."""

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
    """A move whose chunk is not a run of its operand."""

    def __init__(self, node):
        super().__init__(node)
        self.node = node


def order(results: Iterable[Node]) -> Order:
    """Returns how to compute nodes; views stand for what they are views of."""
    roots = list(dict.fromkeys(map(base, results)))
    tables: set[Node] = set()
    while True:
        try:
            return _Planner(tables).order(roots)
        except _Scattered as scattered:
            tables.add(scattered.node)


def parts(node: Node, offset: int, n: int, alike: bool) -> list[Part]:
    """Returns what a chunk of a node is made of, a part an argument, and of a move the part that it is.

    Raises:
      _Scattered: the chunk of a move is not a run of one of its arguments.
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
        """In a loop over features, in registers."""
        return node.row and node.op not in ("leaf", "view") and not self.is_barrier(node)

    def level(self, node):
        node = base(node)
        if not node.row:
            return 0
        if node not in self.levels:
            args = [base(arg) for arg in node.args]
            level = max(map(self.level, args), default=0) + self.is_barrier(node)
            # What is costly and the same for all features is computed before them.
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
        barriers, kept, seen = {}, {}, set()  # dicts, for their order is that of the text, which names the program

        def walk(node, level):
            """Notes what a node that is computed at a level needs of earlier ones."""
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
            """Notes that a node must be in memory."""
            if self.is_computed(node):
                kept[node] = None
            walk(node, self.level(node))

        for root in roots:
            walk(root, self.level(root))
        stored = dict.fromkeys([*roots, *kept])
        levels = range(1 + max(map(self.level, [*stored, *barriers]), default=0))
        stages = []
        for level in levels:
            # a barrier's result, a leaf or a param that is asked for is copied
            of_level = [node for node in stored if self.level(node) == level]
            ready = {node for node in itertools.chain(barriers, kept) if self.level(node) < level}
            ready |= {node for node in barriers if self.level(node) <= level}
            in_order = [node for node in barriers if self.level(node) == level]
            stages.append(Stage(in_order, self.groups(of_level, ready)))
        return Order(stages, list(kept), self.tables)

    def groups(self, roots, ready):
        """Loops for roots; those that share what is computed are in one loop where their sizes allow it."""
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
        """What is computed, but for moves, for a root."""
        found, todo = set(), [root]
        while todo:
            node = base(todo.pop())
            if node in found or not self.is_computed(node) or (node in ready and node is not root):
                continue
            found.add(node)
            todo += node.args
        return {node for node in found if node.op != "move"}

    def extent(self, roots, ready):
        """The longest chunk by which roots can be computed; None: there is none."""
        for n in self.lengths(roots):
            try:
                self.check_all(roots, n, ready)
            except _Scattered:
                continue
            return n
        return None

    def own_extent(self, root, ready):
        """That of one root; raises _Scattered where there is none."""
        *_, shortest = self.lengths([root])
        n = self.extent([root], ready)
        if n is None:
            self.check_all([root], shortest, ready)
            raise AssertionError
        return n

    def lengths(self, roots):
        """Lengths of chunks, the longest first."""
        sizes = [root.size for root in roots]
        shared, longest = math.gcd(*sizes), max(sizes)
        return [n for n in range(shared, 0, -1) if shared % n == 0 and longest // n <= _PIECES]

    def check_all(self, roots, n, ready):
        seen = set()
        for root in roots:
            for offset in range(0, root.size, n):
                self.check(Part(root, offset, False), n, ready, seen)

    def check(self, part, n, ready, seen):
        """Raises _Scattered where a chunk cannot be made from chunks."""
        if part in seen or not self.is_computed(part.node) or part.node in ready:
            return
        seen.add(part)
        for of_arg in parts(part.node, part.offset, n, part.alike):
            self.check(of_arg, n, ready, seen)


def _components(items, closure):
    """Lists of items whose closures meet, directly or by others."""
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
