"""The program of a loop: blocks of rows, shared among threads.

A block has as many rows as keep a core's multiply-add units busy. The last block begins early rather than being short:
it recomputes some rows of the block before it and writes the same numbers. If there are sums over rows, each unit of
work has its own sum, in which it adds up several blocks.
"""

from typing import NamedTuple

from jaxseq.kernels.native import _products
from jaxseq.kernels.native._elementwise import format_of
from jaxseq.kernels.native._ir import Code, Module
from jaxseq.kernels.native._loop import Loop, Writer
from jaxseq.kernels.native._machine import machine, threads
from jaxseq.kernels.native._nodes import Node, base
from jaxseq.kernels.native._ring import slab
from jaxseq.kernels.native._values import Type, Value, f32, i1, i8, i64, ptr

_ROWS = 32  # the largest number of rows in a block
_SHARED = 2**18  # bytes of weights above which packing is worth a second thread
_FEW_READS = 16  # weights that are read at most this often were slower when packed


class Text(NamedTuple):
    """The program of a loop, and the arguments that come before the arrays of the rows.

    The arguments are the values of `params` (weights of products last), the initial value of each carry and of each
    `before`, and then the arrays of `before`, `fixed` and `streams`. The results are the last carry, the outs, and the
    sums with shapes `sums`, one slab per unit of work.
    """

    module: Module
    params: list[Node]
    sums: list[tuple[int, ...]]


def write(loop: Loop) -> Text:
    """Returns a loop's program for this machine."""
    host, stages = machine(), loop.order()
    assert host is not None
    params, products, dtypes = _needs(loop, stages)
    kinds = [format_of(dtype).register for dtype in dtypes]
    lanes = min([host.lanes(kind) for kind in kinds if kind.is_float], default=host.lanes(f32))
    rows = _rows_of_block(loop.B)
    tiles = {node: _products.tile(host, lanes, rows, node.shape[-1]) for node in products}
    packed = {node for node in products if _is_packed(loop, node, rows, tiles[node], lanes)}
    module = Module()
    buffers = len(params) + sum(len(node.args) // 2 for node in products) + 2 * len(loop.carry) + 2 * len(loop.before)
    buffers += len(loop.fixed) + len(loop.streams) + len(loop.outs) + len(loop.sums)
    code = Code(
        module,
        "block",
        [*[ptr] * buffers, i64, i64],
        attributes=host.attributes,
        of_pointers="noalias",
        float_flags="contract",
    )
    Writer(loop, stages, code, lanes, rows, params, tiles, packed).write()
    blocks = -(-loop.B // rows)
    units = min(blocks, threads()) if loop.sums else blocks
    weights = [(weight, tiles[node] if node in packed else None) for node in products for weight in node.args[1::2]]
    _write_packing(module, weights, len(params), lanes)
    _write_units(module, loop, buffers, rows, blocks, units, lanes)
    return Text(
        module, [*params, *(weight for weight, _ in weights)], [(units, *slab(term, lanes)) for term in loop.sums]
    )


def _rows_of_block(B):
    rows = min(_ROWS, -(-B // threads()))
    return -(-B // -(-B // rows))


def _is_packed(loop, product, rows, tile, lanes):
    """Returns whether a product's weights are packed before the loop, in the order that its tiles read."""
    _, m, G = product.shape
    reads = loop.T * -(-loop.B // rows) * -(-rows // tile.rows) * m
    return reads > _FEW_READS or G % lanes != 0


def _needs(loop, stages):
    """Returns the nodes of params that rows read, the products (with packed weights), and the dtypes of all nodes."""
    params, products, seen = {}, {}, {}

    def read(node, is_table=False):
        known = node.op == "const" and not is_table and (node.value == node.value[0]).all()
        if not node.row and not known:
            params[node] = None

    todo = loop.results()
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
            args = args[::2]
        for arg in args:
            read(arg, node in stages.tables)
        todo += args
    return list(params), list(products), dict.fromkeys(node.dtype for node in seen)


def _write_packing(module, weights, first, lanes):
    """Writes `packed`, which replaces the weights from buffer `first` on by packed ones, and returns their memory.

    Weights without a tile are not packed.
    """
    weights = [(place, *of_weight) for place, of_weight in enumerate(weights, first) if of_weight[1] is not None]
    unit = Code(module, "pack", [ptr, i64])
    run = Code(module, "packed", [ptr, ptr], ptr)
    addresses, sizes = run.args[0], []
    for _, weight, _ in weights:
        b, K, G = weight.shape
        memory = b * _products.packed_size(K, G, lanes) * format_of(weight.dtype).register.bytes
        sizes.append(-(-memory // 64) * 64)
    table = run.room(8 * max(2 * len(weights), 1))
    memory = run.call("jaxseq_allocate", ptr, run.constant(i64, sum(sizes)))
    for place, (buffer, weight, tile) in enumerate(weights):
        scalar = format_of(weight.dtype).register
        with unit.when(unit.args[1].equals(place)):
            given, target = (unit.load(ptr, unit.at(unit.args[0], ptr, 2 * place + k)) for k in range(2))
            _products.write_packed(unit, Type(scalar.scalar, lanes), tile, weight.shape, given, target)
        slot = run.at(addresses, ptr, buffer)
        packed = run.at(memory, i8, sum(sizes[:place]))
        run.store(run.load(ptr, slot), run.at(table, ptr, 2 * place))
        run.store(packed, run.at(table, ptr, 2 * place + 1))
        run.store(packed, slot)
    unit.ret()
    if sum(sizes) >= _SHARED:
        count = run.constant(i64, len(weights))
        run.call("jaxseq_parallel", None, run.args[1], Value(run, ptr, "@pack"), table, count)
    elif weights:
        with run.loop(len(weights)) as each:
            run.call("pack", None, table, run.constant(i64, each.index))
    run.ret(memory)


def _write_units(module, loop, buffers, rows, blocks, units, lanes):
    """Writes `run`, and the work of one unit, which is every `units`-th block."""
    unit = Code(module, "unit", [ptr, i64])
    addresses, number = unit.args
    arrays = [unit.load(ptr, unit.at(addresses, ptr, place)) for place in range(buffers)]
    for place, term in enumerate(loop.sums, buffers - len(loop.sums)):
        b, m, width = slab(term, lanes)
        scalar = format_of(term.d.dtype).register
        arrays[place] = unit.at(arrays[place], scalar, number * (b * m * width))
        size = unit.constant(i64, b * m * width * scalar.bytes)
        unit.call("llvm.memset.p0.i64", None, arrays[place], unit.constant(i8, 0), size, unit.constant(i1, False))
    mine = unit.binary("udiv", unit.binary("sub", blocks - 1, number), units) + 1
    with unit.loop(mine) as turn:
        row = (turn.index * units + number) * rows
        first = unit.call("llvm.smin.i64", i64, row, unit.constant(i64, loop.B - rows))
        unit.call("block", None, *arrays, first, row - first)
    unit.ret()
    run = Code(module, "run", [ptr, ptr], internal=False)
    for place, node in enumerate(loop.outs, buffers - len(loop.sums) - len(loop.outs)):
        size = run.constant(i64, loop.T * loop.B * node.size * format_of(node.dtype).memory.bytes)
        run.call("jaxseq_huge_pages", None, run.load(ptr, run.at(run.args[0], ptr, place)), size)
    packed = run.call("packed", ptr, *run.args)
    run.call("jaxseq_parallel", None, run.args[1], Value(run, ptr, "@unit"), run.args[0], run.constant(i64, units))
    run.call("jaxseq_free", None, packed)
    run.ret()
