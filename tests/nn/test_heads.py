"""Heads against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxseq import nn
from tests.untyped import untyped

KEY = jax.random.key(1)
RAW = np.random.default_rng(0).normal(0, 2, (2000, 5)).astype(np.float32)
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
FIVE = nn.Quantiles(LEVELS)


@jax.jit
def say(head, raw):
    """All that a head says: parameters, points, draws and the intervals that hold 0.5 and 0.9."""
    parameters = head.parameters(raw)
    intervals = head.interval(parameters, 0.5), head.interval(parameters, 0.9)
    return parameters, head.point(parameters), head.sample(KEY, parameters), intervals


def test_point():
    parameters = nn.Point().parameters(RAW[:, :1])
    assert nn.Point().size == 1
    np.testing.assert_array_equal(parameters, RAW[:, :1])
    np.testing.assert_array_equal(nn.Point().point(parameters), RAW[:, 0])


def test_quantiles():
    """They rise by softplus, hold the intervals, and a draw inverts the distribution."""
    parameters, points, draws, (half, most) = map(np.asarray, say(FIVE, RAW))
    want = np.cumsum(np.concatenate([RAW[:, :1], np.log1p(np.exp(RAW[:, 1:].astype(np.float64)))], -1), -1)
    assert FIVE.size == 5
    np.testing.assert_allclose(parameters, want, rtol=1e-5, atol=1e-6)
    assert (np.diff(parameters) > 0).all()
    np.testing.assert_array_equal(points, parameters[:, 2])
    np.testing.assert_array_equal(half, parameters[:, [1, 3]].T)
    np.testing.assert_array_equal(most, parameters[:, [0, 4]].T)
    uniform = np.asarray(jax.random.uniform(KEY, (2000,)))
    want = [np.interp(u, LEVELS, row) for u, row in zip(uniform, parameters, strict=True)]
    np.testing.assert_allclose(draws, want, rtol=1e-5, atol=1e-5)


def test_quantiles_never_cross_and_may_be_the_median_alone():
    assert (np.diff(say(FIVE, np.full((2000, 5), -200, np.float32))[0]) >= 0).all()
    draw = jax.jit(nn.Quantiles((0.5,)).sample)
    np.testing.assert_array_equal(draw(KEY, np.full((3, 1), 2, np.float32)), [2, 2, 2])


def test_gaussian():
    parameters, points, draws, intervals = say(nn.Gaussian(), RAW[:, :2])
    assert nn.Gaussian().size == 2
    np.testing.assert_array_equal(points, RAW[:, 0])
    deviations = np.log1p(np.exp(RAW[:, 1].astype(np.float64))) + 1e-3
    np.testing.assert_allclose(parameters[:, 1], deviations, rtol=1e-5)
    for coverage, interval in zip((0.5, 0.9), intervals, strict=True):
        want = stats.norm.interval(coverage, RAW[:, 0].astype(np.float64), deviations)
        np.testing.assert_allclose(interval, want, rtol=2e-5, atol=2e-5)
    assert stats.kstest((draws - points) / deviations, stats.norm.cdf).pvalue > 0.01
    np.testing.assert_allclose(say(nn.Gaussian(), np.full((2000, 2), -300, np.float32))[0][:, 1], 1e-3)


def test_heads_keep_the_dtype_and_are_static():
    for head in (FIVE, nn.Gaussian()):
        said = jax.eval_shape(say, head, jax.ShapeDtypeStruct((3, head.size), jnp.bfloat16))
        assert {value.dtype for value in jax.tree.leaves(said)} == {jnp.dtype(jnp.bfloat16)}
    assert nn.Quantiles(untyped([0.1, 0.5])) == nn.Quantiles((0.1, 0.5))
    assert jax.tree.leaves([nn.Point(), FIVE, nn.Gaussian()]) == []
    assert len({nn.Point(), nn.Point(), FIVE, nn.Quantiles(LEVELS), nn.Gaussian()}) == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Quantiles((0.5, 0.1)), ValueError, r"`levels` must increase, lie in \(0, 1\) and contain 0.5"),
        (lambda: nn.Quantiles((0.5, 0.5)), ValueError, "`levels` must increase"),
        (lambda: nn.Quantiles((0.0, 0.5)), ValueError, "`levels` must increase"),
        (lambda: nn.Quantiles((0.5, 1)), ValueError, "`levels` must increase"),
        (lambda: nn.Quantiles((0.1, 0.9)), ValueError, r"contain 0.5; got \(0.1, 0.9\)"),
        (lambda: nn.Quantiles(()), ValueError, "`levels` must increase"),
        (lambda: nn.Quantiles(untyped(3)), TypeError, "`levels` must be a sequence of numbers; got 3"),
        (lambda: nn.Quantiles((untyped("a"),)), TypeError, "`levels` must be a sequence of numbers"),
        (lambda: nn.Quantiles().interval(jnp.ones(3), 0.9), ValueError, r"level 0.05, .*`levels` = \(0.1, 0.5, 0.9\)"),
        (lambda: nn.Quantiles().interval(jnp.ones(3), 0), ValueError, "`coverage` must be a positive number; got 0"),
        (lambda: nn.Gaussian().interval(jnp.ones(2), 1), ValueError, r"`coverage` must be in \(0, 1\); got 1"),
        (lambda: nn.Point().interval(jnp.ones(1), 0.9), ValueError, "`Point` has no interval; use"),
        (
            lambda: nn.Point().sample(untyped(None), jnp.ones(1)),
            ValueError,
            "`Point` has no distribution to sample; use",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
