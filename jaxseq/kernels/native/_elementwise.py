"""JAX's elementwise primitives on vectors, and the format of dtypes in memory and in registers.

A bool is a byte in memory and a bit in a register. 16-bit floats are widened to float32 when they are read and narrowed
when they are written. The table below lists all supported primitives. A loop with any other does not run natively.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxseq.kernels.native import _mathematics
from jaxseq.kernels.native._ir import Code, Module
from jaxseq.kernels.native._nodes import Node, Unsupported
from jaxseq.kernels.native._values import Type, Value, f16, f32, f64, i1, i8, i16, i32, i64


class Format(NamedTuple):
    """The format of a dtype in memory and in registers."""

    memory: Type
    register: Type


_FORMATS = {
    "float32": Format(f32, f32),
    "float64": Format(f64, f64),
    "float16": Format(i16, f32),
    "bfloat16": Format(i16, f32),
    "bool": Format(i8, i1),
    "int8": Format(i8, i8),
    "int16": Format(i16, i16),
    "int32": Format(i32, i32),
    "int64": Format(i64, i64),
}


def format_of(dtype: Any) -> Format:
    """Returns the format of a dtype.

    Raises:
      Unsupported: the dtype has no format.
    """
    try:
        return _FORMATS[jnp.dtype(dtype).name]
    except (KeyError, TypeError):
        raise Unsupported(f"its numbers are {dtype}") from None


def read(code: Code, dtype: Any, pointer: Value, lanes: int, live: int | None = None) -> Value:
    """Loads `lanes` numbers of a dtype into a register, of which `live` are read. 0 lanes load one scalar."""
    stored = code.load(Type(format_of(dtype).memory.scalar, lanes), pointer, live)
    match jnp.dtype(dtype).name:
        case "bool":
            return stored.differs(0)
        case "float16":
            return code.cast("fpext", code.cast("bitcast", stored, f16), f32)
        case "bfloat16":
            return code.cast("bitcast", code.cast("zext", stored, i32) << 16, f32)
    return stored


def write(code: Code, dtype: Any, value: Value, pointer: Value, live: int | None = None):
    """Stores a register's numbers as a dtype: the whole vector, or its first `live` lanes."""
    match jnp.dtype(dtype).name:
        case "bool":
            value = code.cast("zext", value, i8)
        case "float16":
            value = code.cast("bitcast", code.cast("fptrunc", value, f16), i16)
        case "bfloat16":
            value = _to_bfloat16(code, value)
    code.store(value, pointer, live)


def _to_bfloat16(code, value):
    """Returns the upper halves of float32 numbers, rounded to nearest, ties to even. A NaN stays a NaN."""
    bits = code.cast("bitcast", value, i32)
    upper = code.binary("lshr", bits, 16)
    rounded = code.binary("lshr", bits + 0x7FFF + (upper & 1), 16)
    return code.cast("trunc", code.select(value.differs(value), upper | 0x40, rounded), i16)


def compute(code: Code, node: Node, values: list[Value], kind: Type) -> Value:
    """Appends the instructions of a node for the values of its arguments. The result has the type `kind`."""
    if node.op not in OPERATIONS:
        raise Unsupported(f"`{node.op}` has no native form")
    return OPERATIONS[node.op](code, node, values, kind)


def check(node: Node):
    """Raises Unsupported if a node has no native form."""
    if not node.size:
        raise Unsupported("it has arrays without numbers")
    kind = Type(format_of(node.dtype).register.scalar, 4)
    if node.row and node.op not in ("leaf", "view", "move", "product", "reduce"):
        code = Code(Module(), "check", [])
        kinds = [Type(format_of(arg.dtype).register.scalar, 4) for arg in node.args]
        compute(code, node, [Value(code, of_arg, "%x") for of_arg in kinds], kind)


def _plain(function: Callable[..., Value], *, of_floats: bool = False) -> Callable[..., Value]:
    """Returns an operation that needs only the values: of floats and integers, or of floats only."""

    def operation(code, node, values, kind):
        if of_floats and not values[0].type.is_float:
            raise Unsupported(f"`{node.op}` of {node.args[0].dtype} has no native form")
        return function(code, *values)

    return operation


def _intrinsic(name):
    return _plain(lambda code, *values: code.intrinsic(name, *values), of_floats=True)


def _mathematical(function):
    return _plain(function, of_floats=True)


def _extreme(of_floats, of_integers):
    def larger(code, a, b):
        if a.type.scalar == "i1":
            raise Unsupported("a maximum or minimum of bools has no native form")
        return code.intrinsic(of_floats if a.type.is_float else of_integers, a, b)

    return _plain(larger)


def _arithmetic(name):
    def operation(code, node, values, kind):
        if kind.scalar == "i1":  # for bools, JAX's add is `or` and its mul is `and`
            raise Unsupported(f"`{node.op}` of bools has no native form")
        return code.binary(name, *values)

    return operation


def _divided(code, node, values, kind):
    if not kind.is_float:
        raise Unsupported("a division of integers has no native form")
    return values[0] / values[1]


def _logical(name):
    return _plain(lambda code, a, b: code.binary(name, a, b))


def _compared(relation):
    def compare(code, a, b):
        if a.type.scalar == "i1" and relation not in ("eq", "ne"):
            raise Unsupported("an order of bools has no native form")
        return code.compare(relation, a, b)

    return _plain(compare)


def _magnitude(code, x):
    return code.intrinsic("fabs", x) if x.type.is_float else code.select(x < 0, -x, x)


def _sign(code, x):
    """Returns the sign. Zeros and NaN stay as they are."""
    one, minus_one = code.constant(x.type, 1), code.constant(x.type, -1)
    return code.select(x > 0, one, code.select(x < 0, minus_one, x))


def _power(code, node, values, kind):
    """Returns an integer power, by repeated squaring."""
    (square,), exponent, result = values, abs(node.facts["y"]), None
    while exponent:
        if exponent & 1:
            result = square if result is None else result * square
        exponent >>= 1
        square = square * square if exponent else square
    one = code.constant(kind, 1)
    if result is None:
        return one
    if node.facts["y"] < 0:
        return one / result
    return result


def _chosen(code, node, values, kind):
    which, *cases = values
    if which.type.scalar != "i1" or len(cases) != 2:
        raise Unsupported("a choice by numbers has no native form")
    return code.select(which, cases[1], cases[0])


def _rounded(code, node, values, kind):
    method = int(node.facts["rounding_method"])
    return code.intrinsic("roundeven" if method else "round", values[0])


def _converted(code, node, values, kind):
    (x,), to = values, Type(kind.scalar)
    if x.type.scalar == to.scalar:
        return x
    if to == i1:
        return x.differs(0)
    if x.type.is_float and to.is_float:
        return code.cast("fpext" if to == f64 else "fptrunc", x, to)
    if x.type.is_float:
        return code.call(f"llvm.fptosi.sat.{kind.suffix}.{x.type.suffix}", kind, x)
    if to.is_float:
        return code.cast("uitofp" if x.type.scalar == "i1" else "sitofp", x, to)
    if x.type.scalar == "i1":
        return code.cast("zext", x, to)
    return code.cast("sext" if to.bytes > x.type.bytes else "trunc", x, to)


def _is_finite(code, x):
    return code.compare("lt", code.intrinsic("fabs", x), float("inf"))


OPERATIONS: dict[str, Callable[[Code, Node, list[Value], Type], Value]] = {
    "add": _arithmetic("add"),
    "sub": _arithmetic("sub"),
    "mul": _arithmetic("mul"),
    "div": _divided,
    "neg": _plain(lambda code, x: -x),
    "square": _plain(lambda code, x: x * x),
    "one_minus_square": _plain(lambda code, x: (1 + x) * (1 - x)),
    "integer_pow": _power,
    "max": _extreme("maximum", "smax"),
    "min": _extreme("minimum", "smin"),
    "clamp": _plain(
        lambda code, low, x, high: code.intrinsic("minimum", code.intrinsic("maximum", x, low), high), of_floats=True
    ),
    "abs": _plain(_magnitude),
    "sign": _plain(_sign),
    "sqrt": _intrinsic("sqrt"),
    "rsqrt": _plain(lambda code, x: 1 / code.intrinsic("sqrt", x), of_floats=True),
    "floor": _intrinsic("floor"),
    "ceil": _intrinsic("ceil"),
    "round": _rounded,
    "is_finite": _plain(_is_finite, of_floats=True),
    "lt": _compared("lt"),
    "le": _compared("le"),
    "gt": _compared("gt"),
    "ge": _compared("ge"),
    "eq": _compared("eq"),
    "ne": _compared("ne"),
    "and": _logical("and"),
    "or": _logical("or"),
    "xor": _logical("xor"),
    "not": _plain(lambda code, x: ~x),
    "select_n": _chosen,
    "convert_element_type": _converted,
    **{name: _mathematical(function) for name, function in _mathematics.FUNCTIONS.items()},
}
