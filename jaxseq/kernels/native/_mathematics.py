"""Functions of floats on vectors of any width: exp and its relatives, log, and erf. The others call libm.

    exp x      = 2^n + 2^n p                  n = round(x / ln 2), p = e^r - 1 by Taylor's series, |r| ≤ ln 2 / 2
    expm1 x    = 2^n p + (2^n - 1)
    logistic x = 1 / (1 + exp -x)
    tanh x     = -t / (2 + t)                 t = expm1 -2|x|, and the sign of x
    log x      = n ln 2 + log(1 + f)          x = 2^n (1 + f), 1/√2 ≤ 1 + f < √2
    log(1 + f) = f - f²/2 + s (f²/2 + R)      s = f / (2 + f), R = Σ_{k ≥ 1} 2 s^2k / (2k + 1): the atanh series of s
    log1p x    = log u + (x - (u - 1)) / u    u = 1 + x, rounded

Each is accurate to 2 units in the last place, for all numbers of float32. Results too small for a normal number may
become 0. Sums such as 1 + exp -x and 2 + t are rounded once: 2^n + 1 is exact, and a fused multiply-add adds 2^n p.
The formulas are those of fdlibm (Sun Microsystems 1993), and for erf those of N. Juffa.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from jaxseq.kernels.native._ir import Code, Type, Value, i32, i64


class Format(NamedTuple):
    """The properties of a float type that the functions need: its IEEE 754 fields, and the lengths of the series."""

    integer: Type
    mantissa: int  # bits
    bias: int
    ln2_high: float  # with so few bits that n times it is exact
    ln2_low: float
    exp_terms: int
    is_compensated: bool  # whether the rounding error of r is added back, for the last tenth of a unit
    atanh_terms: int
    exp_limits: tuple[float, float]  # beyond them e^x is 0 or inf
    normal_limits: tuple[float, float]  # between them 2^n is a normal number


FORMATS = {
    "float": Format(i32, 23, 127, 0.693359375, -2.12194440054691e-4, 7, False, 5, (-104, 89), (-87, 88)),
    "double": Format(i64, 52, 1023, 0.693145751953125, 1.42860682030941723e-6, 13, True, 11, (-746, 710), (-708, 709)),
}
ERF_SMALL = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
ERF_LARGE = (
    *(-1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2),
    *(-1.06777877e-1, -6.34846687e-1, -1.28717512e-1),
)
BY_LANE = ("erfc", "cbrt", "asinh", "acosh", "atanh", "lgamma")
INTRINSICS = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "exp2", "atan2", "pow")
Function = Callable[..., Value]


def _format(x: Value) -> Format:
    return FORMATS[x.type.scalar]


def _polynomial(code: Code, x: Value, coefficients) -> Value:
    """Evaluates a polynomial by Horner's rule, from the highest power."""
    value = code.constant(x.type, coefficients[0])
    for coefficient in coefficients[1:]:
        value = code.fma(value, x, coefficient)
    return value


def _between(code: Code, x: Value, low: float, high: float) -> Value:
    """Returns the number, clipped to the limits. A NaN stays a NaN."""
    x = code.select(x > high, high, x)
    return code.select(x < low, low, x)


def _split(code: Code, x: Value) -> tuple[Value, Value]:
    """Returns n, as an integer, and p = e^r - 1, where x = n ln 2 + r.

    To round x / ln 2, a number is added that is so large that its last bit is 1. Its low bits then contain n.
    """
    form = _format(x)
    large = 1.5 * 2**form.mantissa
    shifted = code.fma(x, 1 / math.log(2), large)
    n = shifted - large
    exact = code.fma(n, -form.ln2_high, x)
    r = code.fma(n, -form.ln2_low, exact)
    series = _polynomial(code, r, [1 / math.factorial(k) for k in range(form.exp_terms, 1, -1)])
    if form.is_compensated:
        p = code.fma(series, r * r, code.fma(n, -form.ln2_low, exact - r)) + r
    else:
        p = code.fma(series, r * r, r)
    bits = code.cast("bitcast", shifted, form.integer)
    return bits - code.cast("bitcast", code.constant(x.type, large), form.integer), p


def _power_of_2(code: Code, n: Value, kind: Type) -> Value:
    form = FORMATS[kind.scalar]
    return code.cast("bitcast", (n + form.bias) << form.mantissa, Type(kind.scalar))


def exp(code: Code, x: Value) -> Value:
    """Computes exp with two factors 2^(n/2), each of which is a normal number."""
    n, p = _split(code, _between(code, x, *_format(x).exp_limits))
    half = n >> 1
    return (p + 1.0) * _power_of_2(code, half, x.type) * _power_of_2(code, n - half, x.type)


def expm1(code: Code, x: Value) -> Value:
    """Computes expm1 with 2^(n-1), which is finite if the result is."""
    form = _format(x)
    n, p = _split(code, _between(code, x, form.normal_limits[0], form.exp_limits[1]))
    half = _power_of_2(code, n - 1, x.type)
    value = code.fma(half, p, half - 0.5) * 2.0
    return code.intrinsic("copysign", code.select(n.equals(0), p, value), x)


def logistic(code: Code, x: Value) -> Value:
    """Computes the sigmoid. What 2^n + 1 loses for a large 2^n is added back."""
    n, p = _split(code, _between(code, -x, *_format(x).normal_limits))
    power = _power_of_2(code, n, x.type)
    total = power + 1.0
    return 1.0 / (total + code.fma(power, p, 1.0 - (total - power)))


def tanh(code: Code, x: Value) -> Value:
    """Computes tanh. The sign is set last, so -0 stays -0."""
    n, p = _split(code, _between(code, code.intrinsic("fabs", x) * -2.0, *_format(x).normal_limits))
    power = _power_of_2(code, n, x.type)
    minus_t = code.fma(-power, p, 1.0 - power)
    return code.intrinsic("copysign", minus_t / code.fma(power, p, power + 1.0), x)


def log(code: Code, x: Value) -> Value:
    """Computes log: NaN below 0, -inf at 0."""
    form = _format(x)
    bits = code.cast("bitcast", x, form.integer)
    root = code.cast("bitcast", code.constant(x.type, math.sqrt(0.5)), form.integer)
    n = (bits - root) >> form.mantissa
    f = code.cast("bitcast", bits - (n << form.mantissa), Type(x.type.scalar)) - 1.0
    n = code.cast("sitofp", n, Type(x.type.scalar))
    s = f / (f + 2.0)
    square = s * s
    series = _polynomial(code, square, [2 / (2 * k + 1) for k in range(form.atanh_terms, 0, -1)]) * square
    half_square = f * f * 0.5
    low = code.fma(n, form.ln2_low, s * (half_square + series))
    value = code.fma(n, form.ln2_high, f - (half_square - low))
    value = code.select(x.equals(0.0), -math.inf, value)
    value = code.select(x < 0.0, math.nan, value)
    return code.select((x < math.inf) & x.equals(x), value, code.select(x < 0.0, math.nan, x))


def log1p(code: Code, x: Value) -> Value:
    """Computes log1p. The rounding error of 1 + x is added back. -0 and inf stay."""
    u = x + 1.0
    value = log(code, u) + (x - (u - 1.0)) / u
    value = code.select(u.equals(0.0), -math.inf, value)
    return code.select(u.equals(1.0) | u.equals(math.inf), x, value)


def erf(code: Code, x: Value) -> Value:
    """Computes erf in float32. float64 uses libm."""
    if x.type.scalar == "double":
        return _by_lane("erf")(code, x)
    square, size = x * x, code.intrinsic("fabs", x)
    small = code.fma(_polynomial(code, square, ERF_SMALL), x, x)
    large = 1.0 - exp(code, code.fma(_polynomial(code, size, ERF_LARGE), size, -size))
    return code.select(size > 0.927734375, code.intrinsic("copysign", large, x), small)


def _intrinsic(name: str) -> Function:
    return lambda code, *x: code.intrinsic(name, *x)


def _by_lane(name: str) -> Function:
    """Returns a function that calls libm for each lane."""

    def function(code: Code, x: Value) -> Value:
        scalar = Type(x.type.scalar)
        symbol = name + ("f" if scalar.scalar == "float" else "")
        code.module.declare(symbol, scalar, [scalar])
        value = x
        for lane in range(x.type.lanes):
            one = code.call(symbol, scalar, code.op(scalar, f"extractelement {x}, i64 {lane}"))
            value = code.op(x.type, f"insertelement {value}, {one}, i64 {lane}")
        return value

    return function


def _once(name: str, function: Function) -> Function:
    """Returns `(code, *values) -> value`, which writes the function into a module once per type, and calls it."""

    def call(code: Code, *values: Value) -> Value:
        kind = values[0].type
        symbol = f"jaxseq_{name}_{kind.suffix}"
        if symbol not in code.module.functions:
            inner = Code(
                code.module, symbol, [value.type for value in values], kind, attributes="alwaysinline nounwind"
            )
            inner.ret(function(inner, *inner.args))
        return code.call(symbol, kind, *values)

    return call


FUNCTIONS: dict[str, Function] = {
    name: _once(name, function)
    for name, function in {
        **{function.__name__: function for function in (exp, expm1, tanh, logistic, log, log1p, erf)},
        **{name: _intrinsic(name) for name in INTRINSICS},
        **{name: _by_lane(name) for name in BY_LANE},
    }.items()
}
