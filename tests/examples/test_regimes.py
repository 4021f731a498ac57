"""The regimes end to end on made-up prices; forecasts know the days before, and are the model's own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from examples import regimes
from examples.data.prices import made_up_regimes, parse
from jaxseq.structured import hmm

PARAMS = hmm.Params(
    jnp.log(jnp.array([0.7, 0.3])),
    jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8]])),
    hmm.GaussianParams(jnp.array([[0.1], [-0.2]]), jnp.array([[0.5], [4.0]])),
)
RETURNS = np.random.default_rng(0).normal(size=12)


def test_a_day_ahead_is_what_the_days_before_predict():
    ahead, smoothed = regimes.regimes(PARAMS, jnp.asarray(RETURNS, jnp.float32))
    log_obs = hmm.observe(regimes.EMISSION, PARAMS.emission, jnp.asarray(RETURNS, jnp.float32)[:, None])
    chain = PARAMS.log_initial, PARAMS.log_transition
    np.testing.assert_allclose(ahead[0], PARAMS.log_initial)
    for day in (1, 11):
        np.testing.assert_allclose(ahead[day], hmm.predict(*chain, log_obs[:day], 1)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(smoothed, hmm.smooth(*chain, log_obs), rtol=1e-4, atol=1e-5)


def test_a_forecast_adds_up_to_the_likelihood_and_its_quantiles_to_the_mixture():
    density, quantile = regimes.forecast(PARAMS, RETURNS)
    log_obs = hmm.observe(regimes.EMISSION, PARAMS.emission, jnp.asarray(RETURNS, jnp.float32)[:, None])
    total = hmm.log_likelihood(PARAMS.log_initial, PARAMS.log_transition, log_obs)
    np.testing.assert_allclose(density.sum(), float(total), rtol=1e-5)
    by_hand = 0.7 * stats.norm.cdf(RETURNS[0], 0.1, 0.5**0.5) + 0.3 * stats.norm.cdf(RETURNS[0], -0.2, 2)
    np.testing.assert_allclose(quantile[0], by_hand, rtol=1e-6)
    changed = regimes.forecast(PARAMS, np.append(RETURNS[:-1], 9.0))
    np.testing.assert_array_equal(changed.density[:-1], density[:-1])  # of days to come nothing is known


def test_regimes_come_in_the_order_of_their_volatility():
    _, returns, _ = parse(made_up_regimes())
    for seed in range(2):
        params = regimes.fit(returns, 2, 2, jax.random.key(seed)).params
        _, deviation = regimes.moments(params)
        np.testing.assert_allclose(deviation, [0.5, 1.5], rtol=0.1)
        np.testing.assert_allclose(np.diag(np.exp(params.log_transition)), 0.98, atol=0.015)


@pytest.mark.learn
def test_end_to_end(tmp_path, capsys):
    regimes.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "chosen: 2;" in printed
    nll = {name.strip(): float(number) for name, number in re.findall(r"^(\S.*?)  +(\d\.\d{4}) .*%$", printed, re.M)}
    assert set(nll) == {"2 regimes", "normal", "Student's t", "RiskMetrics, λ = 0.94"}
    assert nll["2 regimes"] < min(nll["normal"], nll["RiskMetrics, λ = 0.94"]) - 0.05
    assert re.search(r"^NLL against normal: .* better$", printed, re.M)
    assert "No price prediction is claimed" in printed
    assert (tmp_path / "regimes.png").stat().st_size > 10_000
    regimes.main(["--smoke", "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]
