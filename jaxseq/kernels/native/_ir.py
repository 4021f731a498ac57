"""Writes functions of LLVM IR as text, from Python.

module = Module()
code = Code(module, "twice", [ptr, i64])           # void twice(ptr, i64)
source, n = code.args
with code.loop(n) as loop:
    x = code.load(f32, code.at(source, f32, loop.index))
    code.store(x + x, code.at(source, f32, loop.index))
code.ret()
module.text()
"""

import contextlib
import dataclasses
import struct
from collections.abc import Callable, Iterator, Sequence

from jaxseq.kernels.native._values import INTRINSIC_NAMES, Type, Value

f32, f64, f16, bf16 = Type("float"), Type("double"), Type("half"), Type("bfloat")
i1, i8, i16, i32, i64, ptr = Type("i1"), Type("i8"), Type("i16"), Type("i32"), Type("i64"), Type("ptr")


@dataclasses.dataclass
class Loop:
    """A loop whose body is being written: its index, its carried values, and `next`, to which the body adds new values.

    After the loop, `next` holds the final values.
    """

    index: int | Value
    values: list[Value]
    next: list[Value]


class Module:
    """Functions, and declarations of the functions that they call."""

    def __init__(self):
        self.globals: dict[str, str] = {}
        self.declarations: dict[str, str] = {}
        self.functions: dict[str, str] = {}

    def declare(self, name: str, result: "Type | None", arguments: Sequence[Type]):
        """Declares a function that is defined elsewhere. Intrinsics need no call: `Code.call` declares them."""
        self.declarations.setdefault(name, f"declare {result or 'void'} @{name}({', '.join(map(str, arguments))})")

    def text(self) -> str:
        """Returns the module as text for LLVM."""
        parts = (self.globals, self.declarations, self.functions)
        return "\n".join([*(text for part in parts for text in part.values()), ""])


class Code:
    """One function of a module, written from the first instruction to `ret`."""

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: Sequence[Type],
        result: Type | None = None,
        *,
        internal: bool = True,
        attributes: str = "nounwind",
        of_pointers: str = "",
        float_flags: str = "",
    ):
        """Begins a function. `of_pointers` are attributes of its pointers, `float_flags` of its float arithmetic."""
        self.module, self.name, self.label, self.float_flags = module, name, "entry", float_flags
        self.attributes, self.of_pointers = attributes, of_pointers
        self._count, self._entry, self._lines = 0, [], []
        self.args = [Value(self, kind, f"%a{i}") for i, kind in enumerate(parameters)]
        listed = ", ".join(
            f"ptr {of_pointers} {a.name}" if a.type == ptr and of_pointers else str(a) for a in self.args
        )
        linkage = "internal " if internal else ""
        self._head = f"define {linkage}{result or 'void'} @{name}({listed}) {attributes} {{\nentry:"

    @contextlib.contextmanager
    def by_function(self, name: str, *arguments: Value) -> "Iterator[Code]":
        """Puts the code that is written inside this context into its own function of these arguments, and calls it.

        LLVM allocates registers per function. In one large function it keeps constants of other loops in registers.
        """
        name = f"{name}{len(self.module.functions)}"
        kinds, attributes = [argument.type for argument in arguments], f"noinline {self.attributes}"
        code = Code(
            self.module,
            name,
            kinds,
            attributes=attributes,
            of_pointers=self.of_pointers,
            float_flags=self.float_flags,
        )
        yield code
        code.ret()
        self.call(name, None, *arguments)

    # Instructions

    def op(self, kind: Type, text: str) -> Value:
        """Appends an instruction that has a result."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {text}")
        return Value(self, kind, name)

    def do(self, text: str):
        """Appends an instruction that has no result."""
        self._lines.append(f"  {text}")

    def binary(self, name: str, a, b) -> Value:
        """Appends `add, sub, mul, div` of floats or integers; `and, or, xor, shl, ashr, lshr, sdiv, …` of integers."""
        kind = a.type if isinstance(a, Value) else b.type
        a, b = self.constant(kind, a), self.constant(kind, b)
        if kind.is_float:
            return self.op(kind, f"f{name} {self.float_flags} {a}, {b.name}")
        flags = " nsw" if kind == i64 and name in ("add", "sub", "mul") else ""
        return self.op(kind, f"{name}{flags} {a}, {b.name}")

    def compare(self, relation: str, a, b) -> Value:
        """Appends `lt, le, gt, ge, eq, ne`, signed. They are False for a NaN, except `ne`."""
        kind = a.type if isinstance(a, Value) else b.type
        a, b = self.constant(kind, a), self.constant(kind, b)
        if kind.is_float:
            return self.op(kind.of(i1), f"fcmp {'une' if relation == 'ne' else 'o' + relation} {a}, {b.name}")
        sign = "" if relation in ("eq", "ne") else "s"
        return self.op(kind.of(i1), f"icmp {sign}{relation} {a}, {b.name}")

    def select(self, condition: Value, yes, no) -> Value:
        """Returns `yes` if the condition holds, else `no`."""
        kind = yes.type if isinstance(yes, Value) else no.type
        return self.op(kind, f"select {condition}, {self.constant(kind, yes)}, {self.constant(kind, no)}")

    def cast(self, how: str, value: Value, scalar: Type) -> Value:
        """Converts by `fpext, fptrunc, sitofp, uitofp, fptosi, zext, sext, trunc, bitcast` to as many lanes."""
        kind = value.type.of(scalar)
        return self.op(kind, f"{how} {value} to {kind}")

    def call(self, name: str, result: Type | None, *arguments: Value) -> Value:
        """Calls a function of the module by its name, or an intrinsic, which it declares."""
        if name.startswith("llvm."):
            self.module.declare(name, result, [a.type for a in arguments])
        text = f"call {result or 'void'} @{name}({', '.join(map(str, arguments))})"
        if result is None:
            self.do(text)
            return self.constant(i1, False)
        return self.op(result, text)

    def intrinsic(self, name: str, *arguments) -> Value:
        """Calls an LLVM intrinsic with a single type: `fma, minimum, sqrt, fabs, rint, copysign`."""
        kind = next(a.type for a in arguments if isinstance(a, Value))
        return self.call(f"llvm.{name}.{kind.suffix}", kind, *(self.constant(kind, a) for a in arguments))

    def fma(self, a, b, c) -> Value:
        """Returns a b + c, rounded once."""
        return self.intrinsic("fma", a, b, c)

    # Constants and vectors

    def constant(self, kind: Type, number) -> Value:
        """Returns a number as a constant, in every lane of a vector. A value is returned unchanged."""
        if isinstance(number, Value):
            return number
        text = _number(kind.scalar, number)
        return Value(self, kind, f"splat ({kind.scalar} {text})" if kind.lanes else text)

    def splat(self, value: Value, lanes: int) -> Value:
        """Returns a vector with the scalar in every lane."""
        kind = Type(value.type.scalar, lanes)
        one = self.op(kind, f"insertelement {kind} poison, {value}, i64 0")
        return self.op(kind, f"shufflevector {one}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def first(self, lanes: int, live: int) -> Value:
        """Returns the mask that is true in the first `live` lanes."""
        bits = ", ".join(f"i1 {'true' if lane < live else 'false'}" for lane in range(lanes))
        return Value(self, Type("i1", lanes), f"<{bits}>")

    # Memory

    def at(self, pointer: Value, scalar: Type, index: "int | Value") -> Value:
        """Returns the address of an element."""
        if isinstance(index, int) and index == 0:
            return pointer
        return self.op(ptr, f"getelementptr inbounds {scalar.scalar}, {pointer}, {self.constant(i64, index)}")

    def load(self, kind: Type, pointer: Value, live: int | None = None, other: float = 0) -> Value:
        """Loads a scalar or a vector. With `live`, it loads that many lanes and puts `other` in the rest."""
        if live is None or live == kind.lanes:
            return self.op(kind, f"load {kind}, {pointer}, align {kind.bytes}")
        mask, name = self.first(kind.lanes, live), f"llvm.masked.load.{kind.suffix}.p0"
        return self.call(name, kind, pointer, self.constant(i32, kind.bytes), mask, self.constant(kind, other))

    def store(self, value: Value, pointer: Value, live: int | None = None):
        """Stores a scalar or a vector. With `live`, it stores only the first `live` lanes."""
        kind = value.type
        if live is None or live == kind.lanes:
            return self.do(f"store {value}, {pointer}, align {kind.bytes}")
        if live == 1:  # LLVM 20 stores a truncated lane with its width before the truncation
            lane = self.op(Type(kind.scalar), f"extractelement {value}, i64 0")
            return self.do(f"store {lane}, {pointer}, align {kind.bytes}")
        mask, name = self.first(kind.lanes, live), f"llvm.masked.store.{kind.suffix}.p0"
        return self.call(name, None, value, pointer, self.constant(i32, kind.bytes), mask)

    def room(self, size: int, align: int = 64) -> Value:
        """Returns a small block of memory on the stack. It is valid until the function returns."""
        name = f"%room{len(self._entry)}"
        self._entry.append(f"  {name} = alloca i8, i64 {size}, align {align}")
        return Value(self, ptr, name)

    # Control

    def block(self, label: str):
        """Starts a basic block."""
        self._lines.append(f"{label}:")
        self.label = label

    def new_label(self, name: str) -> str:
        """Returns a label that no other block has."""
        self._count += 1
        return f"{name}{self._count}"

    @contextlib.contextmanager
    def loop(self, n: "int | Value", step: int = 1, values: Sequence[Value] = ()) -> Iterator[Loop]:
        """Writes a body for index = 0, step, … < n, with `values` carried from iteration to iteration.

        If n is a number, it is at least 1 and a multiple of `step`. A single iteration is written without a loop.
        """
        if isinstance(n, int) and (n < 1 or n % step):
            raise ValueError(f"a loop of {n} in steps of {step}")
        if isinstance(n, int) and n <= step:
            loop = Loop(0, list(values), [])
            yield loop
            return
        head, done, before = self.new_label("loop"), self.new_label("done"), self.label
        enter = None if isinstance(n, int) else n > 0
        self.do(f"br label %{head}" if enter is None else f"br {enter}, label %{head}, label %{done}")
        self.block(head)
        index, carried = self.op(i64, "phi"), [self.op(v.type, "phi") for v in values]
        at = len(self._lines) - 1 - len(values)
        loop = Loop(index, carried, [])
        yield loop
        following = index + step
        more, end = following < n, self.label
        starts, nexts = [self.constant(i64, 0), *values], [following, *loop.next]
        for k, (value, start, then) in enumerate(zip([index, *carried], starts, nexts, strict=True)):
            phi = f"phi {value.type} [{start.name}, %{before}], [{then.name}, %{end}]"
            self._lines[at + k] = f"  {value.name} = {phi}"
        self.do(f"br {more}, label %{head}, label %{done}")
        self.block(done)
        if enter is not None:
            pairs = zip(values, loop.next, strict=True)
            loop.next[:] = [
                self.op(a.type, f"phi {a.type} [{a.name}, %{before}], [{b.name}, %{end}]") for a, b in pairs
            ]

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Writes a body that runs if a condition holds."""
        then, done = self.new_label("then"), self.new_label("done")
        self.do(f"br {condition}, label %{then}, label %{done}")
        self.block(then)
        yield
        self.do(f"br label %{done}")
        self.block(done)

    @contextlib.contextmanager
    def while_true(self) -> Iterator[Callable[[Value], None]]:
        """Writes a body that repeats until a condition holds. The body passes the condition to the yielded function."""
        head, done = self.new_label("loop"), self.new_label("done")

        def leave_if(condition: Value):
            rest = self.new_label("rest")
            self.do(f"br {condition}, label %{done}, label %{rest}")
            self.block(rest)

        self.do(f"br label %{head}")
        self.block(head)
        yield leave_if
        self.do(f"br label %{head}")
        self.block(done)

    def leave(self, value: Value | None = None):
        """Returns from the function before its end."""
        self.do(f"ret {value}" if value is not None else "ret void")
        self.block(self.new_label("never"))

    def ret(self, value: Value | None = None):
        """Ends the function and adds it to the module."""
        self.do(f"ret {value}" if value is not None else "ret void")
        self.module.functions[self.name] = "\n".join([self._head, *self._entry, *self._lines, "}"])


def _number(scalar: str, number) -> str:
    if scalar == "i1":
        return str(bool(number)).lower()
    if scalar == "ptr":
        return "null"
    if scalar not in INTRINSIC_NAMES:
        return str(int(number))
    if scalar in ("half", "bfloat"):
        raise TypeError(f"`number` {number} cannot be a 16-bit constant; 16-bit floats are computed in float32")
    if scalar == "float":
        number = struct.unpack("f", struct.pack("f", number))[0]
    return f"0x{struct.unpack('Q', struct.pack('d', number))[0]:016X}"
