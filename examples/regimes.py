"""Regimes: calm and stormy days of the S&P 500, by a hidden Markov model of its daily returns.

    python -m examples.regimes [--out runs/regimes] [--seed 0] [--smoke]

In goes a series of log-returns, `[T, 1]`, in per cent. Out come K regimes, each with its mean, its volatility and how
long it lasts; for each day the probability of each regime; and the distribution of the next return.

The data are those of `examples/returns.py`, 5,030 days from 1999 to 2018. In the order of time, 60 % are fitted to,
20 % choose how many regimes there are, by their likelihood a day ahead, and 20 % test, once, what was fitted again to
all days before them, and stored. Fits are by expectation maximisation from twenty starts each.

A forecast is made of filtered probabilities, which know the days before, and of no others: p(s_t | x_1 … x_{t-1}). Only
the picture of the past is coloured by smoothed ones, which know what came after. Beside the model stand one normal
distribution, one of Student's t, and RiskMetrics' exponentially weighted variance. No price prediction is claimed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from scipy import stats

from examples import options, out_folder
from examples.forecasting import compare
from examples.returns import BLOCK, parse, prices, weighted_variance
from jaxseq import data, train
from jaxseq.structured import hmm

EMISSION = hmm.gaussian()
YEAR = 252  # trading days
COLORS = ("C0", "C1", "C3", "k")


class Forecast(NamedTuple):
    """What was said of each return `[T]` the day before, told by what came: its log-density, and its quantile."""

    density: np.ndarray
    quantile: np.ndarray  # the probability of a lower return


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


def make_up(days: int = 1000) -> str:
    """Returns made-up prices as a file: two regimes, one three times as volatile, that last fifty days each."""
    stay = jnp.log(jnp.array([[0.98, 0.02], [0.02, 0.98]]))
    emission = hmm.GaussianParams(jnp.zeros((2, 1)), jnp.array([[0.5**2], [1.5**2]]))
    _, xs = hmm.simulate(jax.random.key(1), EMISSION, hmm.Params(stay[0], stay, emission), days)
    lines = ["Date,Open,High,Low,Close,Adj Close,Volume"]
    for day, close in enumerate(1000 * np.exp(np.cumsum(np.asarray(xs)[:, 0]) / 100)):
        year, month, number = str(np.datetime64("2000-01-01") + np.timedelta64(day, "D")).split("-")
        lines.append(f"{int(month)}/{int(number)}/{year},{close},{1.01 * close},{close},{close},{close},1")
    return "\n".join(lines)


def describe(params: hmm.Params) -> None:
    """Prints each regime."""
    mean, deviation = moments(params)
    transition = np.exp(np.asarray(params.log_transition, float))
    transition /= transition.sum(axis=1, keepdims=True)
    share = np.linalg.matrix_power(transition, 100_000)[0]
    print(f"\n{'regime':8}{'mean, % a day':>15}{'volatility, % a year':>22}{'lasts, days':>13}{'share of days':>15}")
    for k, stays in enumerate(np.diag(transition)):
        lasts = 1 / (1 - stays) if stays < 1 else np.inf
        print(f"{k + 1:<8}{mean[k]:15.3f}{np.sqrt(YEAR) * deviation[k]:22.1f}{lasts:13.1f}{share[k]:15.1%}")


def plot(path: Path, days: np.ndarray, returns: np.ndarray, params: hmm.Params, variance: np.ndarray, test) -> None:
    ahead, smoothed = (np.exp(np.asarray(leaf)) for leaf in regimes(params, jnp.asarray(returns, jnp.float32)))
    mean, deviation = moments(params)
    level = 100 * np.exp(np.cumsum(returns) / 100)
    second = ahead @ (deviation**2 + mean**2) - (ahead @ mean) ** 2
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(10, 6.5), layout="constrained", sharex=True, height_ratios=(3, 2)
    )
    top.plot(days, level, color="0.8", linewidth=0.8)
    for k in range(len(mean)):
        at = smoothed.argmax(axis=1) == k
        label = f"regime {k + 1}: {np.sqrt(YEAR) * deviation[k]:.0f} % a year"
        top.plot(days[at], level[at], ".", color=COLORS[k], markersize=2.5, label=label)
    top.set(yscale="log", ylabel="price, first day 100", title="Regimes in hindsight: smoothed probabilities")
    top.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6, 8)))
    top.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    top.yaxis.set_minor_locator(NullLocator())
    bottom.plot(days, np.sqrt(YEAR * variance), color="0.6", linewidth=0.8, label="RiskMetrics, λ = 0.94")
    bottom.plot(days, np.sqrt(YEAR * second), color="C2", linewidth=0.8, label=f"{len(mean)} regimes, filtered")
    bottom.set(ylabel="volatility, % a year", ylim=(0, None), title="A day ahead: filtered probabilities")
    for axes in (top, bottom):
        axes.axvline(days[test.start], color="k", linestyle=":", linewidth=1, label="test part, from here")
        axes.legend(frameon=False, fontsize="small", markerscale=3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "regimes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out = out_folder(args, "regimes")
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    days, returns, _ = parse(make_up() if args.smoke else prices())
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
    describe(params)

    # The test part, once. All that baselines know is of the days before, too.
    constant = returns[known].var()
    variance = weighted_variance(returns**2, 0.94, constant)
    ours = f"{chosen} regimes"
    forecasts = {
        ours: forecast(params, returns),
        "normal": as_forecast(stats.norm(returns[known].mean(), np.sqrt(constant)), returns),
        "Student's t": as_forecast(stats.t(*stats.t.fit(returns[known])), returns),
        "RiskMetrics, λ = 0.94": as_forecast(stats.norm(0, np.sqrt(variance)), returns),
    }
    print(f"\n{len(returns[test])} days of the test part, {days[test.start]} to {days[-1]}: the next return, per cent")
    print(f"{'':24}{'NLL':>9}{'in 80%':>9}{'in 95%':>9}{'in 99%':>9}")
    for name, (density, quantile) in forecasts.items():
        held = "".join(f"{np.mean(np.abs(2 * quantile[test] - 1) < share):9.1%}" for share in (0.8, 0.95, 0.99))
        print(f"{name:24}{-density[test].mean():9.4f}{held}")
    print()
    for name in list(forecasts)[1:]:
        mine, theirs = (-forecasts[which].density[test] for which in (ours, name))
        change, low, high, verdict = compare(mine, theirs, BLOCK)
        print(f"NLL against {name}: {change:+.3f} (95 % interval {low:+.3f} to {high:+.3f}), {verdict}")
    print("No price prediction is claimed: what can be forecast is how far the price will move, not where to.")
    plot(args.out / "regimes.png", days, returns, params, variance, test)
    print(f"{time.perf_counter() - started:.0f} s; wrote regimes.png and model to {args.out}")


if __name__ == "__main__":
    main()
