"""Kalman filtering, smoothing and draws against the joint Gaussian of all states and observations, conditioned."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import kalman
from jaxseq.structured.kalman import Params
from tests.structured.kalman_by_joint import (
    AHEAD,
    FLAGS,
    GONE,
    KINDS,
    MASK,
    MISS,
    MISS_SOME,
    MISSING,
    OBSERVED,
    PARAMS,
    ROWS,
    SEEN,
    Exact,
    T,
    cut,
    exact,
    of_row,
    xs_for,
)
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

NAMES = ["log_likelihood", "filter", "filter", "smooth", "smooth", "pairs", "predict", "predict", "predict", "predict"]


@functools.partial(jax.jit, static_argnames="parallel")
def everything(params, xs, mask=None, missing=None, parallel=False):
    options = {"mask": mask, "missing": missing, "parallel": parallel}
    ahead, params = kalman.predict(params, xs, AHEAD, **options), cut(params, T)
    return (
        kalman.log_likelihood(params, xs, **options),
        *kalman.filter(params, xs, **options),
        *kalman.smooth(params, xs, **options),
        kalman.pairs(params, xs, **options),
        *ahead.states,
        *ahead.observations,
    )


def assert_all_close(got, want, tolerance=1e-9):
    for name, one, other in zip(NAMES, got, want, strict=True):
        assert one.shape == other.shape, name
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.some(1)
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(("name", "flags"), [("regular", "steps"), ("singular", "features"), ("by step", "features")])
def test_all_patterns_of_flags_against_the_joint_gaussian(name, flags, parallel):
    got = everything(PARAMS[name], xs_for(PARAMS[name], FLAGS[flags]), MASK, FLAGS[flags], parallel=parallel)
    assert_all_close(got, exact(name, flags))


@pytest.mark.some(1)
@pytest.mark.parametrize(("some_missing", "parallel"), [(True, False), (False, True)])
def test_flags_left_out_and_any_batch_axes(some_missing, parallel):
    rng = np.random.default_rng(2)
    params, xs, missing = PARAMS["regular"], rng.normal(size=(T, 9, 9, 3)), rng.random((T, 9, 9)) < some_missing / 2
    options = {"missing": missing if some_missing else None, "parallel": parallel}
    xs = np.where(missing[..., None], np.nan, xs)
    smoothed = jax.jit(lambda xs: kalman.smooth(params, xs, **options))(xs)
    flat = everything(params, xs.reshape(T, 81, 3), np.ones((T, 81), bool), missing.reshape(T, 81), parallel=parallel)
    for one, other in zip(smoothed, flat[3:5], strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("parallel", [False, True])
def test_no_step_and_one_without_batch_axes(parallel):
    params = PARAMS["regular"]

    @jax.jit
    def run(xs):
        return kalman.log_likelihood(params, xs, parallel=parallel), kalman.smooth(params, xs, parallel=parallel)

    log_likelihood, smoothed = run(np.ones((0, 3)))
    assert log_likelihood == 0
    assert (smoothed.mean.shape, smoothed.cov.shape) == ((0, 2), (0, 2, 2))
    want = Exact(params, np.ones((1, 3)), np.array([True]))
    log_likelihood, smoothed = run(np.ones((1, 3)))
    np.testing.assert_allclose(log_likelihood, want.given(1)[2], rtol=1e-12)
    np.testing.assert_allclose(smoothed.mean[0], want.state(0, 1)[0], rtol=1e-12)
    shapes = jax.eval_shape(lambda xs: kalman.pairs(params, xs, parallel=parallel), np.ones((0, 7, 3)))
    assert shapes.shape == (0, 7, 2, 2)


@functools.partial(jax.jit, static_argnames="parallel")
def value_and_gradients(params, xs, parallel):
    weights = np.random.default_rng(3).normal(size=(T, ROWS, 2))
    options = {"mask": MASK, "missing": MISS_SOME, "parallel": parallel}

    def value(params, xs):
        smoothed = kalman.smooth(params, xs, **options)
        return jnp.mean(kalman.log_likelihood(params, xs, **options)) + jnp.mean(
            weights * (smoothed.mean + smoothed.cov[..., 0])
        )

    return jax.value_and_grad(value, (0, 1))(params, xs)


@pytest.mark.learn
@pytest.mark.parametrize(("name", "parallel"), [("by step", False), ("singular", True)])
def test_gradients_against_finite_differences_beside_hidden_nans(name, parallel):
    at = (cut(PARAMS[name], T), xs_for(PARAMS[name], MISS_SOME))  # NaN where nothing is seen
    gradients = value_and_gradients(*at, parallel=parallel)[1]
    assert not gradients[1][~MASK[..., None] | MISS_SOME].any()
    for seed in range(3):
        normal = np.random.default_rng(seed).normal
        direction = jax.tree.map(lambda leaf, normal=normal: normal(size=leaf.shape), at)
        there, back = (jax.tree.map(lambda x, d, e=e: x + e * d, at, direction) for e in (1e-5, -1e-5))
        slope = (
            value_and_gradients(*there, parallel=parallel)[0] - value_and_gradients(*back, parallel=parallel)[0]
        ) / 2e-5
        along = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradients, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(along)), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["transition_bias", "observation_bias"])
def test_no_bias_is_a_bias_of_zeros(name):
    params, xs = PARAMS["regular"], np.ones((T, 3))
    without = jax.jit(kalman.log_likelihood)(params._replace(**{name: None}), xs)
    zeros = params._replace(**{name: np.zeros_like(getattr(params, name))})
    assert without == jax.jit(kalman.log_likelihood)(zeros, xs)


def numpy_filter(given, xs):
    """Kalman's recursion, one row, in float64; the log-likelihood."""
    params: Any = Params(*(np.asarray(leaf, np.float64) for leaf in given))
    mean, cov, total = params.initial_mean, params.initial_cov, 0.0
    for t, x in enumerate(np.asarray(xs, np.float64)):
        if t:
            mean = params.transition @ mean + params.transition_bias
            cov = params.transition @ cov @ params.transition.T + params.transition_cov
        s = params.observation @ cov @ params.observation.T + params.observation_cov
        wrong = x - params.observation @ mean - params.observation_bias
        total -= 0.5 * (wrong @ np.linalg.solve(s, wrong) + np.linalg.slogdet(2 * np.pi * s)[1])
        gain = np.linalg.solve(s, params.observation @ cov).T
        mean, cov = mean + gain @ wrong, cov - gain @ params.observation @ cov
    return total, mean


@pytest.mark.learn
def test_ten_thousand_steps_in_float32():
    params = jax.tree.map(np.float32, PARAMS["regular"])

    @jax.jit
    def run(key, params):
        _, xs = kalman.sample(key, params, 10_000)
        value, gradient = jax.value_and_grad(kalman.log_likelihood)(params, xs)
        return xs, value, kalman.smooth(params, xs), gradient, kalman.log_likelihood(params, xs, parallel=True)

    xs, value, smoothed, gradient, side_by_side = jax.tree.map(np.asarray, run(jax.random.key(0), params))
    want, last = numpy_filter(params, xs)
    assert value.dtype == smoothed.cov.dtype == np.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose([value, side_by_side], want, rtol=1e-5)
    np.testing.assert_allclose(smoothed.mean[-1], last, rtol=1e-4, atol=1e-4)
    assert np.linalg.eigvalsh(smoothed.cov).min() > 0


def assert_moments(draws, mean, cov):
    """Draws `[N, n]` have the mean and covariance, within what N of them let one see."""
    N = len(draws)
    off = draws - mean
    scale = np.diag(cov)
    noise = np.sqrt(scale / N) + 1e-9
    assert np.all(np.abs(off.mean(0)) < 5 * noise)
    noise = np.sqrt((np.outer(scale, scale) + cov**2) / N) + 1e-9
    assert np.all(np.abs(off.T @ off / N - cov) < 5 * noise)


@functools.partial(jax.jit, static_argnums=2)
def draws_of(key, params, N):
    states, xs = kalman.sample(key, cut(params, T), T, batch_shape=(2, N // 2))
    return states, xs, kalman.sample(key, cut(params, 0), 0)[1]


@pytest.mark.parametrize("name", PARAMS)
def test_draws_have_the_joint_gaussian(name):
    params, N = of_row(PARAMS[name], 0), 20_000
    states, xs, nothing = map(np.asarray, draws_of(jax.random.key(0), params, N))
    Z, X = states.shape[-1], xs.shape[-1]
    assert states.shape == (T, 2, N // 2, Z)
    joint = Exact(params, np.zeros((T, X)), np.full(T, True), np.full(T, True))
    n = joint.n
    places = np.r_[: T * Z, n * Z : n * Z + T * X]
    draws = np.concatenate([np.moveaxis(part.reshape(T, N, -1), 0, 1).reshape(N, -1) for part in (states, xs)], 1)
    assert_moments(draws, joint.mean[places], joint.cov[np.ix_(places, places)])
    assert nothing.shape == (0, X)


@functools.partial(jax.jit, static_argnames="parallel")
def sample_posterior(keys, params, xs, mask, missing, parallel):
    options = {"mask": mask, "missing": missing, "parallel": parallel}
    return jax.vmap(lambda key: kalman.sample_posterior(key, params, xs, **options))(keys)


@pytest.mark.learn
@pytest.mark.parametrize(("name", "flags"), [("singular", "steps"), ("by step", "features")])
def test_draws_from_the_posterior(name, flags):
    N = 20_000
    kinds = np.array([SEEN, GONE, MISSING, SEEN])
    rows = [np.flatnonzero((kinds[:, None] == KINDS).all(0))[0], 0]  # beside it a row without steps
    params, missing = of_row(PARAMS[name], rows), FLAGS[flags][:, rows]
    xs, mask = xs_for(params, FLAGS[flags])[:, rows], MASK[:, rows]
    keys, model = jax.random.split(jax.random.key(0), N), cut(params, T)
    draws = np.asarray(sample_posterior(keys, model, xs, mask, missing, parallel=False))
    assert not draws[:, :, 1].any()
    assert not draws[:, 1].any()
    joint = Exact(of_row(params, 0), xs[:, 0], mask[:, 0], missing[:, 0])
    mean, cov, _ = joint.given(T)
    assert_moments(draws[:, [0, 2, 3], 0].reshape(N, -1), mean[: 3 * 2], cov[: 3 * 2, : 3 * 2])
    also = sample_posterior(keys[:2], model, xs, mask, missing, parallel=True)
    np.testing.assert_allclose(also, draws[:2], rtol=1e-9, atol=1e-9)


GOOD, XS = PARAMS["regular"], np.ones((4, 2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kalman.filter(untyped(tuple(GOOD)), XS), TypeError, "must be kalman.Params; got tuple"),
        (lambda: kalman.filter(GOOD._replace(transition=None), XS), TypeError, "`params.transition` must be an array"),
        (
            lambda: kalman.filter(GOOD._replace(observation=np.ones(3)), XS),
            ValueError,
            r"must be \[X, Z\], with features",
        ),
        (
            lambda: kalman.filter(GOOD._replace(initial_mean=np.ones(3)), XS),
            ValueError,
            r"`params.initial_mean` must be \[Z\]",
        ),
        (
            lambda: kalman.filter(GOOD._replace(initial_mean=np.ones(2, int)), XS),
            TypeError,
            "all float32 or all float64",
        ),
        (lambda: kalman.filter(GOOD, jnp.ones((4, 2, 3), jnp.float32)), TypeError, "`xs` must be float64"),
        (lambda: kalman.filter(GOOD, XS[..., :2]), ValueError, "`xs` must have X = 3 features"),
        (lambda: kalman.filter(GOOD, XS, mask=np.ones((4, 3), bool)), ValueError, "`mask` must be bool"),
        (lambda: kalman.filter(GOOD, XS, missing=np.ones((4, 2))), TypeError, "`missing` must be bool"),
        (
            lambda: kalman.filter(GOOD, XS, missing=np.ones((4, 2, 2), bool)),
            ValueError,
            r"`missing` must be bool \[T, B, X\] = \(4, 2, 3\)",
        ),
        (
            lambda: kalman.filter(GOOD._replace(transition=np.ones((4, 2, 2))), XS),
            ValueError,
            r"`params.transition` must be .* or for each step \[T-1, Z, Z\] = \(3, 2, 2\) or \[T-1, B, Z, Z\]; got",
        ),
        (
            lambda: kalman.smooth(GOOD._replace(observation_bias=np.ones((3, 3))), XS),
            ValueError,
            r"`params.observation_bias` must be .* or for each step \[T, X\] = \(4, 3\)",
        ),
        (
            lambda: kalman.predict(GOOD._replace(transition_bias=np.ones((3, 2))), XS, 2),
            ValueError,
            r"for each step \[T-1, Z\] = \(5, 2\)",
        ),
        (
            lambda: kalman.sample(jax.random.key(0), GOOD._replace(transition_bias=np.ones((3, 2))), 3),
            ValueError,
            r"for each step \[T-1, Z\] = \(2, 2\)",
        ),
        (
            lambda: kalman.fit(GOOD._replace(transition=np.ones((3, 2, 2))), XS, learn=["transition"]),
            ValueError,
            "same at all steps; `params.transition` is given for each step",
        ),
        (
            lambda: kalman.fit(GOOD._replace(transition_cov=np.ones((3, 2, 2))), XS, learn=["transition_bias"]),
            ValueError,
            "the noise of 'transition_bias', `params.transition_cov`, is given for each step",
        ),
        (lambda: kalman.discretise(np.ones((2, 3)), np.eye(2), np.ones(3)), ValueError, r"`drift` must be \[Z, Z\]"),
        (
            lambda: kalman.discretise(np.eye(2), np.eye(2), np.array([1, 2])),
            TypeError,
            r"`gaps` must be floating \[T-1, B\]; got int64 \(2,\)\. Cast it: gaps\.astype\(float\)\.$",
        ),
        (lambda: kalman.discretise(np.eye(2), np.eye(3), np.ones(3)), ValueError, r"`diffusion` must be \[Z, Z\]"),
        (
            lambda: kalman.discretise(np.eye(2), np.eye(2), -np.ones(3)),
            ValueError,
            "`gaps` must be finite and at least 0",
        ),
        (
            lambda: kalman.discretise(np.eye(2), np.eye(2), np.ones(3), bias=np.ones((2, 2))),
            ValueError,
            r"`bias` must be \[Z\] = \(2,\) or \[T-1, B, Z\] = \(3, 2\)",
        ),
        (lambda: kalman.discretise(np.eye(2, dtype=int), np.eye(2), np.ones(3)), TypeError, "`drift` must be float32"),
        (
            lambda: kalman.filter(GOOD, XS, parallel=untyped("no")),
            TypeError,
            "`parallel` must be True or False; got 'no'",
        ),
        (lambda: kalman.predict(GOOD, XS, 0), ValueError, "`steps` must be a positive int"),
        (lambda: kalman.sample(untyped(0), GOOD, 3), TypeError, "`key` must be"),
        (lambda: kalman.sample(jax.random.key(0), GOOD, -1), ValueError, "`T` must be an int, 0 or more"),
        (
            lambda: kalman.sample(jax.random.key(0), GOOD, 3, batch_shape=untyped(4)),
            TypeError,
            "`batch_shape` must be a sequence",
        ),
        (lambda: kalman.sample_posterior(untyped(0), GOOD, XS), TypeError, "`key` must be"),
        (lambda: kalman.fit(GOOD, XS, learn="transition"), TypeError, "`learn` must be a sequence of names"),
        (lambda: kalman.fit(GOOD, XS, learn=["A"]), ValueError, "`learn` must hold names of params that are not None"),
        (lambda: kalman.fit(GOOD, XS, max_iterations=0), ValueError, "`max_iterations` must be a positive int"),
        (lambda: kalman.fit(GOOD, XS, tolerance=-1), ValueError, "`tolerance` must be a number of at least 0"),
        (lambda: kalman.fit(GOOD, XS, missing=np.ones((4, 2), bool)), ValueError, "no observation to fit to"),
        (lambda: kalman.fit(GOOD, XS[:0]), ValueError, "no observation to fit to"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        kalman.log_likelihood,
        kalman.filter,
        kalman.smooth,
        kalman.pairs,
        lambda params, xs, **options: kalman.predict(params, xs, 1, **options),
        lambda *given, **options: kalman.sample_posterior(jax.random.key(0), *given, **options),
        kalman.fit,
    ],
)
def test_what_is_not_a_number_has_to_be_said_to_be_missing(call):
    xs = np.ones((4, 2, 3))
    xs[1, 0, 2] = np.nan
    missing = np.isnan(xs) & (np.arange(3) < 2)
    with pytest.raises(ValueError, match=r"`xs` hold NaN on steps that are real and observed; .*missing="):
        call(GOOD, xs, missing=missing)


def test_under_jit_such_a_row_is_not_a_number_and_no_other():
    xs, row = xs_for(GOOD), np.flatnonzero(OBSERVED.all(0))[0]
    xs[0, row, 1] = np.nan
    got, want = everything(GOOD, xs, MASK, MISS), exact("regular")
    for place, name in enumerate(NAMES):
        of_rows = lambda x, place=place: np.moveaxis(np.asarray(x), 0 if place == 0 else 1, 0)
        one, other = of_rows(got[place]), of_rows(want[place])
        np.testing.assert_allclose(np.delete(one, row, 0), np.delete(other, row, 0), rtol=1e-9, atol=1e-9, err_msg=name)
        if one.ndim < 4 and name != "pairs":  # the means
            assert np.isnan(one[row]).all(), name


def test_an_eager_call_compiles_two_programs_and_the_next_one_none(caplog):
    xs, params, missing = jnp.ones((5, 3)), jax.tree.map(jnp.asarray, GOOD), jnp.zeros(5, bool)
    for programs in (2, 0):
        caplog.clear()
        with jax.log_compiles():
            kalman.filter(params, xs, missing=missing)
        assert sum(record.getMessage().startswith("Compiling") for record in caplog.records) == programs


def test_a_step_that_is_not_seen_has_no_gradient():
    known = kalman.Params(
        np.zeros(2), np.zeros((2, 2)), np.array([[0.6, 0.8], [-0.8, 0.6]]), None, np.eye(2),
        np.array([[1.0, 0.0]]), None, np.zeros((1, 1)),
    )  # fmt: skip
    xs, missing = np.array([[1.0], [0.5]]), np.array([True, False])
    gradient = jax.jit(jax.grad(lambda params: kalman.log_likelihood(params, xs, missing=missing)))(known)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
