"""Regimes: calm and stormy days of the S&P 500, by a hidden Markov model of its daily returns.

    python -m examples.regimes [--out runs/regimes] [--seed 0] [--smoke]

In goes a series of log-returns, `[T, 1]`, in per cent. Out come K regimes, each with its mean, its volatility and how
long it lasts; for each day the probability of each regime; and the distribution of the next return.

The data are those of `examples/data/prices.py`, 5,030 days from 1999 to 2018. In the order of time, 60 % are fitted to,
20 % choose how many regimes there are, by their likelihood a day ahead, and 20 % test, once, what was fitted again to
all days before them, and stored. Fits are by expectation maximisation from twenty starts each.

A forecast is made of filtered probabilities, which know the days before, and of no others: p(s_t | x_1 … x_{t-1}). Only
the picture of the past is coloured by smoothed ones, which know what came after. Beside the model stand one normal
distribution, one of Student's t, and RiskMetrics' exponentially weighted variance. No price prediction is claimed.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from examples import options, out_folder
from examples.baselines import variances
from examples.data import prices
from examples.reports.regimes import Forecast, describe, plot, print_scores
from jaxseq import data, train
from jaxseq.structured import hmm

EMISSION = hmm.gaussian()


def fit(returns: np.ndarray, states: int, restarts: int, key: jax.Array) -> hmm.Fit:
    """Fits the model to returns `[T]`; the regimes come in the order of their volatility."""
    xs = jnp.asarray(returns, jnp.float32)[:, None]
    fitted = hmm.fit(EMISSION, states, xs, key=key, restarts=restarts, max_iterations=1000, tolerance=1e-6)
    order = jnp.argsort(fitted.params.emission.variance[:, 0])
    log_initial, log_transition, emission = fitted.params
    emission = jax.tree.map(lambda leaf: leaf[order], emission)
    return fitted._replace(params=hmm.Params(log_initial[order], log_transition[order][:, order], emission))


@jax.jit
def regimes(params: hmm.Params, returns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the log-probabilities of regimes `[T, K]` the day before, p(s_t | x_1 … x_{t-1}), and in hindsight."""
    chain = params.log_initial, params.log_transition
    log_obs = hmm.observe(EMISSION, params.emission, returns[:, None])
    filtered = hmm.filter(*chain, log_obs)
    moved = jax.nn.logsumexp(filtered[:-1, :, None] + params.log_transition, axis=1)
    return jnp.concatenate([params.log_initial[None], moved]), hmm.smooth(*chain, log_obs)


def forecast(params: hmm.Params, returns: np.ndarray) -> Forecast:
    """Returns what the model says a day ahead: a mixture of its regimes' normal distributions."""
    weights = np.exp(np.asarray(regimes(params, jnp.asarray(returns, jnp.float32))[0], float))
    densities, quantiles = (f(returns[:, None], *moments(params)) for f in (stats.norm.pdf, stats.norm.cdf))
    return Forecast(np.log(np.sum(weights * densities, axis=1)), np.sum(weights * quantiles, axis=1))


def moments(params: hmm.Params) -> tuple[np.ndarray, np.ndarray]:
    """Returns each regime's mean and standard deviation, `[K]`."""
    mean, variance = (np.asarray(leaf, float)[:, 0] for leaf in params.emission)
    return mean, np.sqrt(variance)


def as_forecast(distribution, returns: np.ndarray) -> Forecast:
    return Forecast(distribution.logpdf(returns), distribution.cdf(returns))


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "regimes")
    parser.add_argument("--seed", type=int, default=0, help="of the starts")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "regimes")
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    days, returns, _ = prices.parse(prices.made_up_regimes() if args.smoke else prices.sp500())
    first, second, test = data.split_in_time(len(returns), (0.6, 0.2, 0.2))
    known, key = slice(0, test.start), jax.random.key(args.seed)
    restarts = 4 if args.smoke else 20

    # How many regimes? The log-likelihood of what was not fitted to, a day ahead, says; BIC beside it.
    print(f"{len(returns[first])} days to fit to, {len(returns[second])} to choose by, {len(returns[test])} to test")
    print(f"\n{'regimes':8}{'log-likelihood':>16}{'BIC':>10}{'chosen by, NLL a day':>22}{'starts within 1 nat':>21}")
    scores = {}
    for states in range(1, 4 if args.smoke else 5):
        fitted = fit(returns[first], states, restarts, key)
        reached = np.nanmax(np.asarray(fitted.log_likelihoods), axis=1)
        count = states**2 - 1 + 2 * states
        bic = count * np.log(len(returns[first])) - 2 * reached.max()
        scores[states] = -forecast(fitted.params, returns[known]).density[second].mean()
        near = f"{np.sum(reached > reached.max() - 1)} of {restarts}"
        print(f"{states:<8}{reached.max():16.1f}{bic:10.1f}{scores[states]:22.4f}{near:>21}")
    chosen = min(scores, key=lambda states: scores[states])

    # The model of that many, fitted to all that is known before the test part, stored and read again.
    params = fit(returns[known], chosen, restarts, key).params
    train.save(args.out / "model", params, {"states": chosen, "until": str(days[test.start - 1])})
    params = train.load(args.out / "model", params).tree
    print(f"\nchosen: {chosen}; fitted again, to {days[0]} … {days[test.start - 1]}", end="")
    describe(*moments(params), np.exp(np.asarray(params.log_transition, float)))

    # The test part, once. All that baselines know is of the days before, too.
    constant = returns[known].var()
    variance = variances.of_returns(returns, constant)
    forecasts = {
        f"{chosen} regimes": forecast(params, returns),
        "normal": as_forecast(stats.norm(returns[known].mean(), np.sqrt(constant)), returns),
        "Student's t": as_forecast(stats.t(*stats.t.fit(returns[known])), returns),
        "RiskMetrics, λ = 0.94": as_forecast(stats.norm(0, np.sqrt(variance)), returns),
    }
    print(f"\n{len(returns[test])} days of the test part, {days[test.start]} to {days[-1]}: the next return, per cent")
    print_scores(forecasts, test)
    ahead, smoothed = (np.exp(np.asarray(leaf)) for leaf in regimes(params, jnp.asarray(returns, jnp.float32)))
    plot(days, returns, moments(params), ahead, smoothed, variance, test.start, args.out / "regimes.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote regimes.png and model to {args.out}")


if __name__ == "__main__":
    main()
