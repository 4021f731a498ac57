"""Forecasters against their parts, and feeding back against a plain Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn
from tests.nn.drawn import drawn
from tests.untyped import untyped

GRU = jaxseq.gru(4)
XS = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0]], bool)
NAN = np.where(MASK[..., None], XS, np.nan)
AUTO = drawn(nn.AutoregressiveForecaster, GRU, 2, head=nn.Gaussian())


def test_a_direct_forecast_is_the_head_of_the_last_real_output():
    model = drawn(nn.Forecaster, GRU, 2, 3, targets=2, head=nn.Quantiles())
    got, ys = nnx.jit(lambda model: (model(NAN, mask=MASK), model.recurrent(NAN, mask=MASK)))(model)
    last = np.asarray(ys)[np.arange(3), [4, 1, 3]]
    assert model.output.bias is not None
    raw = (last @ np.asarray(model.output.kernel[...]) + np.asarray(model.output.bias[...])).reshape(3, 3, 2, 3)
    np.testing.assert_allclose(got, jax.jit(model.head.parameters)(raw), atol=1e-5)


def test_autoregressive_parameters_are_of_each_output():
    got, ys = nnx.jit(lambda model: (model(XS), model.recurrent(XS)))(AUTO)
    assert AUTO.output.bias is not None
    raw = (np.asarray(ys) @ np.asarray(AUTO.output.kernel[...]) + np.asarray(AUTO.output.bias[...])).reshape(3, 5, 2, 2)
    np.testing.assert_allclose(got, jax.jit(nn.Gaussian().parameters)(raw), atol=1e-5)


def test_a_forecast_feeds_back_its_points():
    horizon = 4
    carry = np.full((3, 4), 0.3, np.float32)
    got = nnx.jit(lambda model, xs: model.forecast(xs, horizon, mask=MASK, carry=carry))(AUTO, NAN)
    got = np.asarray(got)
    assert got.shape == (3, horizon, 2, 2)
    run = nnx.jit(lambda model, xs, mask: model(xs, carry[:1], mask=mask))
    for row, xs, mask in zip(got, XS, MASK, strict=True):
        past, n = np.zeros((1, 5 + horizon, 2), np.float32), int(mask.sum())
        past[0, :n] = xs[mask]
        for t in range(horizon):
            want = np.asarray(run(AUTO, past, np.arange(5 + horizon)[None] < n + t))[0, n + t - 1]
            np.testing.assert_allclose(row[t], want, atol=1e-6)
            past[0, n + t] = AUTO.head.point(want)
    alone = nnx.jit(lambda model, xs: model.forecast(xs, horizon, carry=carry[1]))(AUTO, XS[1, :2])
    np.testing.assert_allclose(alone, got[1], atol=1e-6)  # without batch axes


def test_paths_feed_back_what_they_draw():
    horizon, paths, key = 3, 2, jax.random.key(1)
    got = nnx.jit(lambda model, xs: model.sample_paths(xs, horizon, key=key, paths=paths, mask=MASK))(AUTO, NAN)
    got = np.asarray(got)
    assert got.shape == (paths, 3, horizon, 2)

    @nnx.jit
    def by_hand(model, path_key):
        carry, ys = model.recurrent.unroll(XS, mask=MASK)
        y, path = nn.last_pool(ys, MASK), []
        for step_key in jax.random.split(path_key, horizon):
            parameters = model.head.parameters(model.output(y).reshape(3, 2, 2))
            path.append(model.head.sample(step_key, parameters))
            carry, y = model.recurrent.step(carry, path[-1])
        return jnp.stack(path, 1)

    for path, path_key in zip(got, jax.random.split(key, paths), strict=True):
        np.testing.assert_allclose(path, by_hand(AUTO, path_key), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.AutoregressiveForecaster(jaxseq.bidirectional(GRU), 2, rngs=nnx.Rngs(0)),
            ValueError,
            "`cell` must be causal",
        ),
        (lambda: nn.Forecaster(GRU, 2, 0, rngs=nnx.Rngs(0)), ValueError, "`horizon` must be a positive int; got 0"),
        (lambda: nn.Forecaster(GRU, 2, 3, targets=0, rngs=nnx.Rngs(0)), ValueError, "`targets` must be a positive"),
        (
            lambda: nn.Forecaster(GRU, 2, 3, head=untyped(nn.Point), rngs=nnx.Rngs(0)),
            TypeError,
            r"`head` must be a head such as nn.Point\(\)",
        ),
        (lambda: nn.AutoregressiveForecaster(GRU, 2, head=untyped("mean"), rngs=nnx.Rngs(0)), TypeError, "got 'mean'"),
        (lambda: AUTO.forecast(XS, 0), ValueError, "`horizon` must be a positive int; got 0"),
        (
            lambda: AUTO.forecast(XS[:, :0], 3),
            ValueError,
            "`xs` must hold at least one step to continue from; got none",
        ),
        (lambda: AUTO.sample_paths(XS, 3, key=jax.random.key(0), paths=0), ValueError, "`paths` must be a positive"),
        (
            lambda: drawn(nn.AutoregressiveForecaster, GRU, 2).sample_paths(XS, 3, key=jax.random.key(0), paths=2),
            ValueError,
            "`Point` has no distribution to sample",
        ),
        (
            lambda: AUTO.sample_paths(XS, 3, key=untyped(None), paths=2),
            TypeError,
            "`key` must be a jax.random.key; got None",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(call)


def test_what_is_fed_back_keeps_the_dtype():
    model = drawn(nn.AutoregressiveForecaster, GRU, 2, head=nn.Quantiles(), param_dtype=jnp.bfloat16)
    xs = jnp.asarray(XS, jnp.bfloat16)
    paths = jax.eval_shape(lambda xs: model.sample_paths(xs, 3, key=jax.random.key(0), paths=2), xs)
    assert paths.dtype == jax.eval_shape(lambda xs: model.forecast(xs, 3), xs).dtype == jnp.bfloat16
