"""Functions of vectors within two units in the last place, and special values as XLA has them, at every width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxseq.kernels.native._machine import forced, widths
from jaxseq.kernels.native._mathematics import FUNCTIONS, INTRINSICS
from tests.full import FULL
from tests.native.programs import mapped

EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "erf": scipy.special.erf,
}
BY_XLA = {"logistic": jax.nn.sigmoid, "erf": jax.scipy.special.erf}
UNITS = 2.0


def errors(x, y, exact):
    """Units in the last place; 0 where both are inf or NaN alike or smaller than a normal number, else inf."""
    tiny = np.finfo(x.dtype).tiny
    with np.errstate(all="ignore"):
        rounded = exact.astype(x.dtype)
        units = np.abs(y.astype(exact.dtype) - exact) / np.spacing(np.abs(rounded)).astype(exact.dtype)
        alike = (y == rounded) | (np.isnan(y) & np.isnan(rounded)) | ((np.abs(exact) < tiny) & (np.abs(y) <= tiny))
    return np.where(alike, 0, np.where(np.isfinite(units), units, np.inf)).astype(float)


def worst(name, x):
    """The worst error over float32 numbers, and where it is; denormal numbers count as 0."""
    y = np.asarray(mapped(FUNCTIONS[name], np.float32, x.size)(x))
    is_tiny = np.abs(x) < np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        exact = EXACT[name](np.where(is_tiny, np.copysign(0, x), x).astype(np.float64))
    error = np.where(is_tiny, 0, errors(x, y, exact))
    return error.max(), float(x[error.argmax()])


@pytest.mark.some(6)
@pytest.mark.parametrize("lanes", widths())
@pytest.mark.parametrize("name", EXACT)
def test_float32(name, lanes):
    """Every 2,053rd number."""
    bits = np.arange(0, 1 << 32, 2053, dtype=np.uint64).astype(np.uint32)
    with forced(lanes):
        error, where = worst(name, bits[: bits.size // 1024 * 1024].view(np.float32))
    assert error <= UNITS, where


@pytest.mark.learn
@pytest.mark.parametrize("name", EXACT)
def test_all_of_float32(name):
    """Every 1,009th number, every 257th between 2^-27 and 2^8 in size and of log; JAXSEQ_LAWS=full: 61st, and each."""
    dense, rest = (1, 61) if FULL else (257, 1009)
    block, found = 1 << 24, (0.0, 0.0)
    for start in range(0, 1 << 32, block):
        exponent = (start >> 23 & 255) - 127
        step = dense if -27 <= exponent < 8 or name == "log" else rest
        bits = np.arange(start, start + block, step, dtype=np.uint64)
        found = max(found, worst(name, bits[: bits.size // 1024 * 1024].astype(np.uint32).view(np.float32)))
    assert found[0] <= UNITS, found[1]


def of_float64(name, n):
    draw = np.random.default_rng(7)
    x = np.concatenate(
        [draw.standard_normal(n // 2) * 3, draw.choice([-1, 1], n // 2) * np.exp(draw.uniform(-9, 4, n // 2))]
    )
    x = np.abs(x) if name == "log" else np.maximum(x, np.expm1(-np.abs(x))) if name == "log1p" else x
    with jax.enable_x64(True):
        y = np.asarray(mapped(FUNCTIONS[name], np.float64, n)(x))
    with np.errstate(all="ignore"):
        return errors(x, y, EXACT[name](x.astype(np.longdouble))).max()


@pytest.mark.parametrize("name", [name for name in EXACT if name != "erf"])
def test_float64(name):
    assert of_float64(name, 1 << 17) <= UNITS


@pytest.mark.learn
@pytest.mark.parametrize("name", [name for name in EXACT if name != "erf"])
def test_millions_of_float64(name):
    assert of_float64(name, (10240 if FULL else 4096) * 1024) <= UNITS


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30, 88.7, -88.7, 0.3, -0.3, 20.0]


@pytest.mark.some(3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", widths())
def test_special_values_as_xla_has_them(dtype, lanes):
    with jax.enable_x64(True), forced(lanes):
        x = np.tile(np.array(SPECIAL, dtype), 4)
        for name in (*EXACT, *INTRINSICS[:-2]):
            got = mapped(
                FUNCTIONS[name], dtype, x.size, unit=16, lanes=8 if lanes == 16 and dtype == "float64" else None
            )(x)
            with np.errstate(all="ignore"):
                want = jax.jit(BY_XLA.get(name) or getattr(jnp, name))(x)
            rtol = (500 if name == "exp2" else 20) * np.finfo(dtype).eps  # XLA's exp2 x is e to a rounded x log 2
            np.testing.assert_allclose(got, want, rtol=rtol, err_msg=name)
            np.testing.assert_array_equal(np.signbit(got)[:2], np.signbit(want)[:2], err_msg=name)


def test_functions_of_two_numbers():
    x = np.abs(np.random.default_rng(0).standard_normal(1024).astype(np.float32))
    for name, want in (("pow", jnp.power(x, x)), ("atan2", jnp.arctan2(x, x))):
        got = mapped(lambda code, x, name=name: FUNCTIONS[name](code, x, x), np.float32, x.size)(x)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", ["erfc", "cbrt", "asinh", "atanh", "lgamma"])
def test_functions_of_libm(name):
    x = np.random.default_rng(0).uniform(0.1, 0.9, 1024).astype(np.float32)
    xla = {"erfc": jax.scipy.special.erfc, "cbrt": jnp.cbrt, "lgamma": jax.scipy.special.gammaln}
    got = mapped(FUNCTIONS[name], np.float32, x.size)(x)
    np.testing.assert_allclose(got, (xla.get(name) or getattr(jnp, f"arc{name[1:]}"))(x), rtol=3e-6, atol=3e-6)
