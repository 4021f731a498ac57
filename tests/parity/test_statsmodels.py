"""statsmodels' Kalman filter and smoother on the same models, with observations missing, in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from statsmodels.tsa.statespace import kalman_smoother as smoother

from jaxseq.structured import kalman

pytestmark = pytest.mark.usefixtures("x64")

T, Z, X = 60, 3, 2


def spd(rng, n):
    root = rng.normal(size=(n, n + 1))
    return root @ root.T


def model(singular):
    rng = np.random.default_rng(0)
    transition = rng.normal(size=(Z, Z))
    params = kalman.Params(
        initial_mean=rng.normal(size=Z),
        initial_cov=spd(rng, Z),
        transition=0.9 * transition / np.abs(np.linalg.eigvals(transition)).max(),
        transition_bias=rng.normal(size=Z),
        transition_cov=spd(rng, Z),
        observation=rng.normal(size=(X, Z)),
        observation_bias=rng.normal(size=X),
        observation_cov=spd(rng, X),
    )
    if singular:  # one disturbance for three states, which start known
        one = rng.normal(size=(Z, 1))
        params = params._replace(initial_cov=np.zeros((Z, Z)), transition_cov=one @ one.T)
    return params


def theirs(params, xs) -> Any:
    """Their results of one row `[T, X]`, whose missing steps are NaN."""
    peer = smoother.KalmanSmoother(k_endog=X, k_states=Z)
    peer.bind(np.asfortranarray(xs.T))
    peer["transition"], peer["state_intercept"] = params.transition, params.transition_bias[:, None]
    peer["design"], peer["obs_intercept"] = params.observation, params.observation_bias[:, None]
    peer["selection"], peer["state_cov"], peer["obs_cov"] = np.eye(Z), params.transition_cov, params.observation_cov
    peer.initialize_known(params.initial_mean, params.initial_cov)
    return peer.smooth()


def rows():
    rng = np.random.default_rng(1)
    xs = rng.normal(0, 3, (T, 2, X))
    xs[rng.random((T, 2)) < 0.3] = np.nan
    xs[0, 1] = np.nan
    return xs


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("singular", [False, True])
def test_likelihood_filter_smoother_and_lag_one_covariances(singular, parallel):
    params, xs = model(singular), rows()
    options = {"missing": jnp.isnan(xs[..., 0]), "parallel": parallel}
    log_likelihood = kalman.log_likelihood(params, xs, **options)
    filtered, smoothed = (
        jax.tree.map(np.asarray, run(params, xs, **options)) for run in (kalman.filter, kalman.smooth)
    )
    cross = kalman.pairs(params, xs, **options)
    for b in range(xs.shape[1]):
        want = theirs(params, xs[:, b])
        close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9)
        close(log_likelihood[b], want.llf)
        close(filtered.mean[:, b], want.filtered_state.T)
        close(filtered.cov[:, b], np.moveaxis(want.filtered_state_cov, -1, 0))
        close(smoothed.mean[:, b], want.smoothed_state.T)
        close(smoothed.cov[:, b], np.moveaxis(want.smoothed_state_cov, -1, 0))
        # Theirs at t is Cov(z_{t+1}, z_t).
        close(cross[:, b], np.moveaxis(want.smoothed_state_autocov, -1, 0)[:-1].swapaxes(1, 2))


def test_predictions():
    params, xs, ahead = model(singular=False), rows(), 5
    got = kalman.predict(params, xs, ahead, missing=jnp.isnan(xs[..., 0]))
    for b in range(xs.shape[1]):
        want = theirs(params, np.concatenate([xs[:, b], np.full((ahead, X), np.nan)]))
        close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9)
        close(got.states.mean[:, b], want.predicted_state.T[-ahead - 1 : -1])
        close(got.states.cov[:, b], np.moveaxis(want.predicted_state_cov, -1, 0)[-ahead - 1 : -1])
        close(got.observations.mean[:, b], want.forecasts.T[-ahead:])
        close(got.observations.cov[:, b], np.moveaxis(want.forecasts_error_cov, -1, 0)[-ahead:])
