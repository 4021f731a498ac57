"""LLVM types, and values of a function that is being written.

`a * b + c` on values appends the instructions for it. Numbers become constants of the other operand's type. Scalars of
type i64 are indices. They may be Python ints, which are folded, and they do not wrap. So `row * stride + column` works
both for a row that a loop counts and for a known row.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxseq.kernels.native._ir import Code

BYTES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "ptr": 8, "half": 2, "bfloat": 2, "float": 4, "double": 8}
INTRINSIC_NAMES = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}


class Type(NamedTuple):
    """An LLVM type: a scalar, or with `lanes` a vector of scalars."""

    scalar: str
    lanes: int = 0

    def __str__(self):
        return f"<{self.lanes} x {self.scalar}>" if self.lanes else self.scalar

    @property
    def bytes(self) -> int:
        """Returns the bytes of one element in memory."""
        return BYTES[self.scalar]

    @property
    def is_float(self) -> bool:
        """Returns whether it holds floating-point numbers."""
        return self.scalar in INTRINSIC_NAMES

    @property
    def suffix(self) -> str:
        """Returns the type in the form that names of intrinsics use, such as v16f32."""
        name = INTRINSIC_NAMES.get(self.scalar, self.scalar)
        return f"v{self.lanes}{name}" if self.lanes else name

    def of(self, scalar: "Type") -> "Type":
        """Returns the type with the same number of lanes of another scalar."""
        return Type(scalar.scalar, self.lanes)


f32, f64, f16, bf16 = Type("float"), Type("double"), Type("half"), Type("bfloat")
i1, i8, i16, i32, i64, ptr = Type("i1"), Type("i8"), Type("i16"), Type("i32"), Type("i64"), Type("ptr")


class Value:
    """A value in the function that `code` writes. Its operators append instructions to that function."""

    __slots__ = ("code", "name", "type")

    def __init__(self, code: "Code", kind: Type, name: str):
        self.code, self.type, self.name = code, kind, name

    def __str__(self):
        return f"{self.type} {self.name}"

    def __add__(self, other):
        return self if self._is_index_and(other, 0) else self.code.binary("add", self, other)

    def __radd__(self, other):
        return self if self._is_index_and(other, 0) else self.code.binary("add", other, self)

    def __sub__(self, other):
        return self if self._is_index_and(other, 0) else self.code.binary("sub", self, other)

    def __rsub__(self, other):
        return self.code.binary("sub", other, self)

    def __mul__(self, other) -> Any:
        if self._is_index_and(other, 0):
            return 0
        return self if self._is_index_and(other, 1) else self.code.binary("mul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self.code.binary("div", self, other)

    def __rtruediv__(self, other):
        return self.code.binary("div", other, self)

    def __neg__(self):
        if self.type.is_float:
            return self.code.op(self.type, f"fneg {self}")
        return self.code.binary("sub", 0, self)

    def __and__(self, other):
        return self.code.binary("and", self, other)

    def __or__(self, other):
        return self.code.binary("or", self, other)

    def __xor__(self, other):
        return self.code.binary("xor", self, other)

    def __invert__(self):
        return self ^ (True if self.type.scalar == "i1" else -1)

    def __lshift__(self, other):
        return self.code.binary("shl", self, other)

    def __rshift__(self, other):
        """Shifts arithmetically: the sign stays."""
        return self.code.binary("ashr", self, other)

    def __lt__(self, other):
        return self.code.compare("lt", self, other)

    def __le__(self, other):
        return self.code.compare("le", self, other)

    def __gt__(self, other):
        return self.code.compare("gt", self, other)

    def __ge__(self, other):
        return self.code.compare("ge", self, other)

    def equals(self, other):
        """Compares lane by lane. NaN equals nothing."""
        return self.code.compare("eq", self, other)

    def differs(self, other):
        """Compares lane by lane. NaN differs from everything, also from itself."""
        return self.code.compare("ne", self, other)

    def _is_index_and(self, other, number):
        return self.type == i64 and isinstance(other, int) and other == number
