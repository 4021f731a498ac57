"""Text that LLVM reads: arithmetic, loops with what they carry, conditions, masked memory."""

import jax
import numpy as np
import pytest

from jaxseq.kernels.native._ir import Code, Module, Type, f32, i1, i32, i64
from tests.native.programs import compiled

FLOATS = jax.ShapeDtypeStruct((8,), np.float32)


def test_indices_that_are_known_are_folded():
    module = Module()
    code = Code(module, "f", [i64])
    (n,) = code.args
    assert (n + 0).name == (n * 1).name == (0 + n).name == (n - 0).name == n.name
    assert n * 0 == 0
    assert code.at(code.constant(Type("ptr"), None), f32, 0).name == "null"
    code.ret()
    assert module.text().count("\n") == 4, module.text()


def test_arithmetic_of_floats():
    def write(code, x, out):
        v = Type("float", 8)
        a = code.load(v, x)
        b = (2.0 - a) * a / (1.0 + a * a) + -a
        code.store(code.select((a < 0.5) & ~a.equals(0.0) | (a >= 3.0), b, code.fma(a, a, 7.0)), out)

    x = np.array([0, -1, 0.25, 0.5, 2, 3, np.nan, 100], np.float32)
    with np.errstate(all="ignore"):
        want = np.where((x < 0.5) & (x != 0) | (x >= 3), (2 - x) * x / (1 + x * x) - x, x * x + 7)
    np.testing.assert_allclose(compiled(write, [x], FLOATS)(x), want, rtol=1e-6)


def test_arithmetic_of_integers():
    def write(code, x, out):
        a = code.load(Type("i32", 8), x)
        code.store(((a << 3) - (a >> 1) ^ 5) & 0xFF | -a, out)

    x = np.arange(-4, 4, dtype=np.int32)
    out = compiled(write, [x], jax.ShapeDtypeStruct((8,), np.int32))(x)
    np.testing.assert_array_equal(out, ((x << 3) - (x >> 1) ^ 5) & 0xFF | -x)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_loops_hand_on_what_they_carry(n):
    """A number of rounds that is known, one that is not, and none."""

    def write(code, count, out):
        one, zero = code.constant(f32, 1), code.constant(f32, 0)
        with code.loop(n, 1, [one, zero]) as known:
            a, b = known.values
            known.next += [a + b, a]
        rounds = code.cast("sext", code.load(i32, count), i64)
        with code.loop(rounds, 1, [known.next[0]]) as asked:
            with code.loop(3, 1, [asked.values[0]]) as inner:
                inner.next.append(inner.values[0] + code.cast("sitofp", asked.index + inner.index, f32))
            asked.next += inner.next
        code.store(asked.next[0], out)

    fibonacci = [1, 1, 2, 3, 5, 8][n]
    for rounds in (0, 1, 4):
        count = np.array([rounds], np.int32)
        got = compiled(write, [count], jax.ShapeDtypeStruct((), np.float32))(count)
        assert got == fibonacci + sum(i + j for i in range(rounds) for j in range(3))


def test_a_loop_of_no_rounds_is_refused():
    code = Code(Module(), "f", [])
    with pytest.raises(ValueError, match="a loop of 0 in steps of 1"), code.loop(0):
        pass


def test_conditions_and_loops_without_an_end():
    def write(code, x, out):
        threshold = code.load(i32, x)
        counter = code.room(4)
        code.store(code.constant(i32, 0), counter)
        with code.while_true() as stop_if:
            now = code.load(i32, counter) + 1
            code.store(now, counter)
            stop_if(now >= threshold)
        code.store(code.load(i32, counter), out)
        with code.when(threshold > 5):
            code.store(code.constant(i32, -1), out)

    for threshold, want in ((3, 3), (6, -1), (0, 1)):
        x = np.array([threshold], np.int32)
        assert compiled(write, [x], jax.ShapeDtypeStruct((), np.int32))(x) == want


@pytest.mark.parametrize("live", [1, 5, 7, 8])
def test_masked_memory_touches_what_is_live(live):
    def write(code, x, out):
        v = Type("float", 8)
        code.store(code.constant(v, 9), out)
        a = code.load(v, x, live, other=4.0)
        code.store(code.op(f32, f"extractelement {a}, i64 7"), code.at(out, f32, 8))
        code.store(a, out, live)

    x = np.arange(1, 9, dtype=np.float32)
    out = compiled(write, [x], jax.ShapeDtypeStruct((9,), np.float32))(x)
    np.testing.assert_array_equal(out, [*x[:live], *[9] * (8 - live), 8 if live == 8 else 4])


def test_constants_of_16_bit_floats_are_refused():
    code = Code(Module(), "f", [])
    with pytest.raises(TypeError, match="computed in float32"):
        code.constant(Type("half", 8), 1.0)
    assert code.constant(Type("i1", 2), True).name == "splat (i1 true)"
    assert code.constant(i1, False).name == "false"


@pytest.mark.parametrize("live", [1, 2, 5])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_was_truncated_is_stored_as_narrow_as_it_is(bits, live):
    """LLVM writes a single lane of a truncated vector as wide as it was before."""
    narrow = Type(f"i{bits}", 16)

    def write(code, x, out):
        code.store(code.constant(narrow, -1), out)
        code.store(code.cast("trunc", code.load(Type("i32", 16), x), Type(f"i{bits}")), out, live)

    x, dtype = np.arange(1, 17, dtype=np.int32), f"int{bits}"
    out = compiled(write, [x], jax.ShapeDtypeStruct((16,), dtype))(x)
    np.testing.assert_array_equal(out, np.where(np.arange(16) < live, x, -1))
