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

import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines import variances
from examples.data import prices
from examples.reports.returns import plot, print_scores
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

SEEDS, MEMBERS, BATCH, LENGTH = 3, 4, 128, 40
HEAD, OPTIMIZER = nn.Gaussian(), optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(2e-3, weight_decay=0.1))


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


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "returns")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "returns")
    started = time.perf_counter()

    # Columns, their scales from the training part; windows whose targets lie in their part.
    days, returns, ranges = prices.parse(prices.made_up_waves() if args.smoke else prices.sp500())
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

    # The test part, once, and the baselines: what they say of each day is known the day before.
    known, at = slice(None, parts[0].stop), windows[2].starts + LENGTH
    constant, ours = returns[known].var(), f"jaxseq, {MEMBERS} GRUs, mean of {SEEDS} seeds"
    variance = {
        "constant variance": np.full(len(returns), constant),
        "RiskMetrics, λ = 0.94": variances.of_returns(returns, constant),
        "weighted ranges, λ fitted": variances.of_ranges(returns, ranges, known),
    }
    deviations = {ours: deviation, **{name: np.sqrt(values[at]) for name, values in variance.items()}}
    means = {ours: mean, "zero": np.zeros(len(at)), "training mean": np.full(len(at), returns[known].mean())}
    print(f"\n{len(at)} days of the test part, {days[at][0]} to {days[at][-1]}; per cent")
    print_scores(returns[at], means, deviations)
    interval = HEAD.interval(jnp.stack([jnp.asarray(mean[0]), jnp.asarray(deviation[0])], axis=-1), 0.95)
    plot(days[at], returns[at], mean[0], interval, deviations, args.out / "forecasts.png")
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s; wrote forecasts.png, curves.png, checkpoints and model to {args.out}")


if __name__ == "__main__":
    main()
