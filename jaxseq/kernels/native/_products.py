"""Products of rows with a weight, `out[row, g] = Σ_k x[row, k] w[k, g]`, whose sums stay in registers.

A tile is some rows by some vectors of columns. Its sums stay in registers while k runs. At each k it reads one weight
vector per column vector and one number of x per row. The weight is therefore laid out beforehand in the order in which
tiles read it: panels with as many column vectors as a tile, K rows each, one after the other. The last panel may be
narrower.

The gradient of a weight, `d_w[k, g] += Σ_m x[m, k] δ[m, g]` over steps and rows m, uses the same tile with k in place
of rows and m in place of k. See `accumulate`.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxseq.kernels.native._ir import Code, Type, Value, i64
from jaxseq.kernels.native._machine import Machine

CHAINS = 8  # multiply-adds that can be in flight at once: two units, four cycles each
MOST_ROWS, MOST_VECTORS, MOST_UNROLLED = 14, 8, 4


class Tile(NamedTuple):
    """The sums that are held in registers: a number of rows, and of vectors of columns."""

    rows: int
    vectors: int


class Factor(NamedTuple):
    """One of the products that are added: rows of K numbers, `stride` elements apart, and a weight."""

    x: Value
    stride: int
    weight: Value
    K: int
    packed: bool = True


class Rows(NamedTuple):
    """Rows at several steps: the distances in elements between steps, and between rows."""

    start: Value
    of_step: int
    of_row: int


def tile(machine: Machine, lanes: int, rows: int, G: int) -> Tile:
    """Returns the tile that takes the fewest cycles for this number of rows and columns, by an estimate."""
    vectors = math.ceil(G / lanes)
    tiles = [
        Tile(r, v)
        for v in range(1, min(vectors, MOST_VECTORS) + 1)
        for r in range(1, min(rows, MOST_ROWS) + 1)
        if r * v + v + 1 <= machine.registers
    ]
    return min(tiles, key=lambda tile: _cycles(tile, rows, vectors))


def _cycles(tile: Tile, rows: int, vectors: int) -> float:
    """Returns the cycles of one k for all rows and columns: two multiply-adds or loads per cycle, no chain too long."""

    def parts(whole, part):
        return [(part, whole // part), (whole % part, 1)]

    def cycles(r, v):
        under_way = r * v * _chains(r * v)
        return max(r * v / 2, (r + v) / 2, r * v * CHAINS / 2 / under_way) + 1 / 8

    return sum(
        n * m * cycles(r, v) for r, n in parts(rows, tile.rows) for v, m in parts(vectors, tile.vectors) if r and v
    )


def _chains(sums: int) -> int:
    """Returns the number of partial sums per sum, so that additions do not wait for each other."""
    return max(1, min(4, CHAINS // sums))


def packed_size(K: int, G: int, lanes: int) -> int:
    """Returns the number of elements of a packed weight."""
    return K * math.ceil(G / lanes) * lanes


def write_packed(code: Code, kind: Type, tile: Tile, shape: tuple[int, int, int], weight: Value, packed: Value):
    """Writes weights `[b, K, G]` in the order that tiles read, `packed_size` numbers each, in vectors of `kind`."""
    (b, K, G), scalar, lanes = shape, Type(kind.scalar), kind.lanes
    whole = G // lanes // tile.vectors * tile.vectors
    rest = math.ceil(G / lanes) - whole

    def panel(batch, vector, width, live):
        """Writes a panel. The last vector has `live` lanes."""
        source = code.at(weight, scalar, batch * (K * G) + vector * lanes)
        target = code.at(packed, scalar, batch * packed_size(K, G, lanes) + vector * (lanes * K))
        with code.loop(K) as k:
            for v in range(width):
                row = code.at(source, scalar, k.index * G + v * lanes)
                value = code.load(kind, row, live if v == width - 1 else lanes)
                code.store(value, code.at(target, scalar, k.index * (width * lanes) + v * lanes))

    with code.loop(b) as batch:
        if whole:
            with code.loop(whole, tile.vectors) as vector:
                panel(batch.index, vector.index, tile.vectors, lanes)
        if rest:
            panel(batch.index, whole, rest, G % lanes or lanes)


def product(code: Code, kind: Type, tile: Tile, rows: int, G: int, factors: Sequence[Factor], out: Value, stride: int):
    """Writes the sum of products of rows with weights to `out`, with rows `stride` elements apart, in whole vectors.

    Weights that are not packed have rows of whole vectors.
    """
    if tile.rows == 1:  # there are few sums, so a call would cost too much
        _write_product(code, kind, tile, rows, G, factors, out, stride)
        return
    pointers = [pointer for factor in factors for pointer in (factor.x, factor.weight)]
    with code.by_function("product", *pointers, out) as code:
        *given, out = code.args
        factors = [
            factor._replace(x=x, weight=weight)
            for factor, x, weight in zip(factors, given[::2], given[1::2], strict=True)
        ]
        _write_product(code, kind, tile, rows, G, factors, out, stride)


def _write_product(code, kind, tile, rows, G, factors, out, stride):
    scalar, lanes = Type(kind.scalar), kind.lanes

    def write_tile(row, count, vector, width):
        sums = [code.constant(kind, 0)] * (count * width)
        for x, x_stride, weight, K, packed in factors:
            left = _Left(code.at(x, scalar, row * x_stride), x_stride, 1)
            right = code.at(weight, scalar, vector * (lanes * K if packed else lanes))
            sums = _multiply(code, kind, left, right, width * lanes if packed else G, K, count, width, sums)
        for r in range(count):
            for v in range(width):
                at = (row + r) * stride + (vector + v) * lanes
                code.store(sums[r * width + v], code.at(out, scalar, at))

    for_each_tile(code, tile, rows, math.ceil(G / lanes), write_tile)


def accumulate(
    code: Code, kind: Type, tile: Tile, steps: "int | Value", rows: int, K: int, G: int, x: Rows, d: Rows, out: Value
):
    """Adds `Σ x[step, row, k] d[step, row, g]` to `out[k, g]`. The rows of `out` and d are whole vectors."""
    with code.by_function("accumulate", code.constant(i64, steps), x.start, d.start, out) as code:
        steps, of_x, of_d, out = code.args
        _write_sums(code, kind, tile, steps, rows, K, G, x._replace(start=of_x), d._replace(start=of_d), out)


def _write_sums(code, kind, tile, steps, rows, K, G, x, d, out):
    scalar, lanes = Type(kind.scalar), kind.lanes
    stride = packed_size(1, G, lanes)

    def add_tile(k, count, vector, width):
        places = [
            code.at(out, scalar, (k + r) * stride + (vector + v) * lanes) for r in range(count) for v in range(width)
        ]
        with code.loop(steps, 1, [code.load(kind, place) for place in places]) as loop:
            left = _Left(code.at(x.start, scalar, loop.index * x.of_step + k), 1, x.of_row)
            right = code.at(d.start, scalar, loop.index * d.of_step + vector * lanes)
            loop.next += _multiply(code, kind, left, right, d.of_row, rows, count, width, loop.values)
        for place, value in zip(places, loop.next, strict=True):
            code.store(value, place)

    for_each_tile(code, tile, K, math.ceil(G / lanes), add_tile)


def for_each_tile(code: Code, tile: Tile, rows: int, vectors: int, body: Callable):
    """Writes `body(row, rows, vector, vectors)`, starts and numbers, for all tiles, also narrower ones at the edges."""

    def blocks(total, step, body):
        whole = total - total % step
        if whole:
            with code.loop(whole, step) as loop:
                body(loop.index, step)
        if total % step:
            body(whole, total % step)

    blocks(vectors, tile.vectors, lambda v, width: blocks(rows, tile.rows, lambda r, count: body(r, count, v, width)))


class _Left(NamedTuple):
    """Numbers by row and k: the distances in elements between rows, and between values of k."""

    start: Value
    of_row: int
    of_k: int


def _multiply(code: Code, kind: Type, left: _Left, right: Value, of_k, K: int, rows: int, vectors: int, sums) -> list:
    """Returns sums + left right for a tile. `right` has its vectors side by side for each k, `of_k` elements apart."""
    scalar, lanes, n = Type(kind.scalar), kind.lanes, rows * vectors
    chains = min(_chains(n), K)
    unrolled = chains * max(1, min(MOST_UNROLLED, CHAINS // n, K) // chains)
    sums = [*sums, *[code.constant(kind, 0)] * (n * (chains - 1))]

    def step(k, chain, sums):
        weights = [code.load(kind, code.at(right, scalar, k * of_k + v * lanes)) for v in range(vectors)]
        for r in range(rows):
            x = code.splat(code.load(scalar, code.at(left.start, scalar, k * left.of_k + r * left.of_row)), lanes)
            for v, weight in enumerate(weights):
                at = chain * n + r * vectors + v
                sums[at] = code.fma(x, weight, sums[at])

    whole = K - K % unrolled
    with code.loop(whole, unrolled, sums) as loop:
        sums = list(loop.values)
        for u in range(unrolled):
            step(loop.index + u, u % chains, sums)
        loop.next += sums
    sums = list(loop.next)
    for k in range(whole, K):
        step(k, k % chains, sums)
    return [functools.reduce(operator.add, sums[at::n]) for at in range(n)]
