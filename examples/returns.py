"""Returns: the distribution of the S&P 500's next daily return. What can be forecast, and what cannot?

    python -m examples.returns [--out runs/returns] [--seed 0] [--smoke]

In go 40 trading days `[B, 40, 4]`: the log-return, its size, its fall, and the log of the day's range, high to low. Out
come mean and standard deviation of the next log-return, `[B, 1, 1, 2]`, in per cent.

The data are 5,031 days of the S&P 500, 1999-2018, which the package arch carries. In the order of time, 60 % are
trained on (to 2010), 20 % validate (2011-2014) and 20 % test (2015-2018). Three ensembles of four GRUs are trained at
once; within each, means and deviations are averaged.

For the mean, the baselines are zero and the mean of the training part. For the distribution they are normal too: a
constant variance, RiskMetrics' exponentially weighted variance of returns (λ = 0.94), and such a variance of ranges
(Parkinson 1980), its λ chosen on the training part. The program prints who is better, with intervals by the block
bootstrap; no price prediction is claimed.
"""

import csv
import gzip
import io
import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.forecasting import compare
from examples.packages import fetch, read
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

SEEDS, MEMBERS, BATCH, LENGTH = 3, 4, 128, 40
BLOCK = 20  # trading days, a month: what the bootstrap draws together
HEAD, OPTIMIZER = nn.Gaussian(), optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=0.1))


def prices() -> str:
    """Returns the table of daily prices that the package arch carries."""
    build = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
    sha256 = "975ec3bdf7926335742ac362251fafe32b448b8f194dead062f22a00beef772d"
    package = fetch("arch", "8.0.0", f"arch-8.0.0-{build}.whl", sha256)
    return gzip.decompress(read(package, "arch/data/sp500/sp500.csv.gz")).decode()


def parse(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the days `[N]`, the log-returns of the closes and the log-ranges of the days, per cent `[N]`."""
    rows = list(csv.DictReader(io.StringIO(text)))
    months, numbers, years = zip(*(map(int, row["Date"].split("/")) for row in rows), strict=True)
    days = [f"{year}-{month:02d}-{day:02d}" for year, month, day in zip(years, months, numbers, strict=True)]
    high, low, close = (np.array([float(row[name]) for row in rows]) for name in ("High", "Low", "Adj Close"))
    return np.array(days, "datetime64[D]")[1:], 100 * np.diff(np.log(close)), 100 * np.log(high / low)[1:]


def weighted_variance(squares: np.ndarray, decay: float, first: float) -> np.ndarray:
    """Returns v_t = decay v_{t-1} + (1 - decay) squares_{t-1}, `[N]`: what is known the day before."""
    variances = [first]
    for square in squares[:-1]:
        variances.append(decay * variances[-1] + (1 - decay) * square)
    return np.array(variances)


def make_net(rngs: nnx.Rngs) -> nn.Forecaster:
    return nn.Forecaster(jaxseq.gru(16), 4, 1, head=HEAD, rngs=rngs)


def predict(params: nnx.State, xs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns mean and deviation `[B, 2]`, in deviations of the training part."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: make_net(nnx.Rngs(0))), nnx.Param)
    return nnx.merge(graph, params)(xs, key=key)[:, 0, 0]


@jax.jit
def ensembles(members: nnx.State, xs: jax.Array) -> jax.Array:
    """Returns mean and deviation `[SEEDS, B, 2]` of each ensemble."""
    seeds = jax.tree.map(lambda leaf: leaf.reshape(SEEDS, MEMBERS, *leaf.shape[1:]), members)
    return jax.vmap(train.average(predict), (0, None))(seeds, xs)


def nll(parameters: jax.Array, targets: jax.Array) -> jax.Array:
    return losses.gaussian_nll(parameters[..., 0], parameters[..., 1], jnp.broadcast_to(targets, parameters.shape[:-1]))


def make_up(days: int = 900) -> str:
    """Returns made-up prices as such a file: no drift, and a volatility that comes in waves of 60 days."""
    random = np.random.default_rng(0)
    lines, close = ["Date,Open,High,Low,Close,Adj Close,Volume"], 1000.0
    for day in range(days):
        steps = np.cumsum(random.normal(0, 0.002 * math.exp(math.sin(2 * math.pi * day / 60)), 30))
        path = close * np.exp(np.append(0, steps))
        close = path[-1]
        year, month, number = str(np.datetime64("2000-01-01") + np.timedelta64(day, "D")).split("-")
        lines.append(f"{int(month)}/{int(number)}/{year},{path[0]},{path.max()},{path.min()},{close},{close},1")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "returns")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    args.out = out_folder(args, "returns")
    started = time.perf_counter()

    # Columns, their scales from the training part; windows whose targets lie in their part.
    days, returns, ranges = parse(make_up() if args.smoke else prices())
    parts = data.split_in_time(len(returns), (0.6, 0.2, 0.2))
    columns = np.stack([returns, np.log(np.abs(returns) + 0.1), np.minimum(returns, 0), np.log(ranges)], axis=1)
    normalizer, scale = data.Normalizer.fit(columns[parts[0]]), returns[parts[0]].std()
    series = np.column_stack([normalizer.apply(columns), returns / scale]).astype(np.float32)
    windows = [data.windows(series, LENGTH, 1, targets=[-1], part=part) for part in parts]
    training, validation, test = (
        {"xs": np.ascontiguousarray(inputs[..., :-1]), "targets": targets[:, 0, 0]} for inputs, targets, _ in windows
    )

    def init(key):
        return train.init(nnx.split(make_net(nnx.Rngs(key)), nnx.Param)[1], OPTIMIZER, key)

    def loss_fn(params, batch, key):
        return metrics.mean(nll(predict(params, batch["xs"], key), batch["targets"])), {}

    def validation_loss(members, batch, key):
        return metrics.mean(nll(ensembles(members, batch["xs"]), batch["targets"])), {}

    result = train.fit(
        train.make_step(loss_fn, OPTIMIZER, ensemble=True),
        jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(args.seed), SEEDS * MEMBERS)),
        data.batches(training, BATCH, seed=args.seed),
        epochs=8 if args.smoke else 25,
        validate=train.evaluator(validation_loss, [validation]),
        patience=5,
        checkpoints=train.Checkpoints(args.out / "checkpoints", settings={"seed": args.seed, "smoke": args.smoke}),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png")
    best = min(row["validation/loss"] for row in result.history)
    print(f"{len(training['xs'])} windows to train on; validation NLL {best + math.log(scale):.4f} nats a day")
    info = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist(), "scale": scale}
    train.save(args.out / "model", result.params, info)
    members = train.load(args.out / "model", result.params).tree
    mean, deviation = np.moveaxis(scale * np.asarray(ensembles(members, test["xs"]), float), -1, 0)  # [SEEDS, M]

    # The baselines: what they say of every day from what is known the day before, then of the test part.
    known = slice(None, parts[0].stop)
    constant, squares = returns[known].var(), ranges**2 / (4 * math.log(2))
    squares *= constant / squares[known].mean()
    by_range = [weighted_variance(squares, decay, constant) for decay in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)]
    variances = {
        "constant variance": np.full(len(returns), constant),
        "RiskMetrics, λ = 0.94": weighted_variance(returns**2, 0.94, constant),
        "weighted ranges, λ fitted": min(by_range, key=lambda v: np.mean((returns**2 / v + np.log(v))[known])),
    }
    at = windows[2].starts + LENGTH
    actual, ours = returns[at], f"jaxseq, {MEMBERS} GRUs, mean of {SEEDS} seeds"
    deviations = {ours: deviation, **{name: np.sqrt(variance[at]) for name, variance in variances.items()}}
    means = {ours: mean, "zero": np.zeros(len(at)), "training mean": np.full(len(at), returns[known].mean())}

    print(f"\n{len(at)} days of the test part, {days[at][0]} to {days[at][-1]}; per cent")
    print(f"{'the next return':34}{'MAE':>9}{'RMSE':>9}")
    for name, point in means.items():
        mae, rmse = np.abs(point - actual).mean(), np.sqrt(np.mean((point - actual) ** 2, axis=-1)).mean()
        print(f"{name:34}{mae:9.4f}{rmse:9.4f}")
    print(f"\n{'its distribution':34}{'NLL':>9}{'in 80%':>9}{'in 95%':>9}{'in 99%':>9}")
    scores = {}
    for name, sigma in deviations.items():
        z = (actual - means.get(name, 0)) / sigma
        held = "".join(f"{np.mean(np.abs(z) < reach):9.1%}" for reach in (1.2816, 1.9600, 2.5758))
        scores[name] = np.mean((0.5 * z**2 + np.log(sigma) + 0.5 * math.log(2 * math.pi)).reshape(-1, len(at)), axis=0)
        print(f"{name:34}{scores[name].mean():9.4f}{held}")

    print()
    for what, error in (("absolute", np.abs), ("squared", np.square)):
        change, low, high, verdict = compare(np.mean(error(mean - actual), axis=0), error(actual), BLOCK)
        interval = f"95 % interval {low:+.4f} to {high:+.4f}"
        print(f"{what} error of the mean against zero: {change:+.4f} ({interval}), {verdict}")
    for name in variances:
        change, low, high, verdict = compare(scores[ours], scores[name], BLOCK)
        print(f"NLL against {name}: {change:+.3f} (95 % interval {low:+.3f} to {high:+.3f}), {verdict}")
    print("No price prediction is claimed: what can be forecast is how far the price will move, not where to.")

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 6), layout="constrained", sharex=True, height_ratios=(3, 2))
    lower, upper = HEAD.interval(jnp.stack([jnp.asarray(mean[0]), jnp.asarray(deviation[0])], axis=-1), 0.95)
    top.fill_between(days[at], lower, upper, color="C0", alpha=0.3, linewidth=0, label="95 % interval, a day ahead")
    top.plot(days[at], mean[0], color="C0", linewidth=1, label="mean, a day ahead")
    top.plot(days[at], actual, "k.", markersize=2, label="S&P 500")
    top.set(title="Test part", ylabel="log-return, %")
    for name, sigma in deviations.items():
        bottom.plot(days[at], np.atleast_2d(sigma)[0], linewidth=1, label=name)
    bottom.set(ylabel="deviation, %", ylim=(0, None))
    for axes in (top, bottom):
        axes.legend(frameon=False, fontsize="small", ncols=2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.out / "forecasts.png", dpi=150)
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s; wrote forecasts.png, curves.png, checkpoints and model to {args.out}")


if __name__ == "__main__":
    main()
