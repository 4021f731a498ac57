"""Anomalies in a series by forecasting: what a model of the normal did not expect.

    python -m examples.anomaly_detection [--out runs/anomaly_detection] [--seed 0] [--smoke]

In: a series of which the first 1,200 steps are known to be normal. Out: a score for each step after them, a threshold,
and the steps whose score is above it.

The data are series 135 of the KDD-21 contest on time series anomalies (Wu & Keogh 2021), arterial blood pressure of a
pig; in the package aeon. Its test file begins with the steps of the training file, so that what can be tested are the
6,301 steps from 1,200 on, of which 12 in a row are labelled.

An LSTM reads 32 steps, each a value and its change from the step before, and forecasts the next change as a normal
distribution N(μ, σ²). It learns on the first 80 % of the normal steps; the rest, 240, validate it. The score is the
squared error ((change - μ) / σ)² as the mean over 5 steps. The threshold, set before a label is seen: twice the
greatest score on the validation steps. Three naive forecasts are scored and thresholded alike, in the units of the
training part: the last value; the last value and its last change (a straight line); the value a period before, the
period found in the training part.

One event of 12 steps is one event: precision and recall by steps tell of the smoothing as much as of the model. So the
table has beside them the false alarms, stretches above the threshold that do not touch the label; the contest's
question, whether the highest score lies within 100 steps of the label; and how far that score stands over the highest
one elsewhere, which needs no threshold.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.baselines.naive import find_period, naive_forecasts
from examples.data.blood_pressure import blood_pressure, made_up
from examples.reports.anomalies import plot, print_scores, smooth
from jaxseq import data, nn, train

LENGTH, MARGIN = 32, 2.0


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "anomaly_detection")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    args.out = out_folder(args, "anomaly_detection")
    started = time.perf_counter()
    values, labels, known = made_up() if args.smoke else blood_pressure()
    epochs, size = (4, 8) if args.smoke else (40, 48)

    # The parts: to train on, to validate, to test. A step is its value and its change from the step before.
    training, validation = data.split_in_time(known, (0.8, 0.2))
    steps = np.stack([values, np.diff(values, prepend=values[0])], axis=-1)
    normalizer = data.Normalizer.fit(steps[training])
    steps = normalizer.apply(steps).astype(np.float32)

    def windows(part):
        inputs, targets, _ = data.windows(steps, LENGTH, 1, targets=[1], part=part)
        return {"xs": inputs, "targets": targets}

    # The model, its loss, the training.
    def make(key):
        cell = jaxseq.lstm(size)
        return nn.Forecaster(cell, 2, 1, head=nn.Gaussian(), rngs=nnx.Rngs(key))

    graph, params = nnx.split(make(jax.random.key(args.seed)), nnx.Param)

    def loss_fn(params, batch, key):
        mean, std = jnp.moveaxis(nnx.merge(graph, params)(batch["xs"], key=key), -1, 0)
        nll = train.losses.gaussian_nll(mean, std, batch["targets"])
        return train.metrics.mean(nll), {"rmse": train.metrics.rmse(mean, batch["targets"])}

    loader = data.batches(windows(training), 64, seed=args.seed)
    schedule = optax.cosine_decay_schedule(1e-2, epochs * len(loader))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    result = train.fit(
        train.make_step(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(args.seed)),
        loader,
        epochs=epochs,
        every=2 * len(loader),
        validate=train.evaluator(loss_fn, [windows(validation)]),
        checkpoints=train.Checkpoints(args.out / "checkpoints", settings={"seed": args.seed, "smoke": args.smoke}),
        progress=True,
    )
    train.curves.plot(result.history, args.out / "curves.png", names=("loss", "rmse"))
    info = {"mean": normalizer.mean.tolist(), "std": normalizer.std.tolist(), "size": size}
    train.save(args.out / "model", result.params, info)
    best = min(result.history, key=lambda row: row["validation/loss"])
    print(f"{known} normal steps, {len(values) - known} to test; validation, at step {best['step']}: ", end="")
    print(f"{best['validation/loss']:.2f} nats, RMSE {best['validation/rmse']:.3f} (1 = the change's deviation)")

    # Scores of all steps from the first window on, by the model that was stored; thresholds from the validation part.
    params = train.load(args.out / "model", params).tree
    forecast = jax.jit(lambda params, xs: nnx.merge(graph, params)(xs)[:, 0, 0])
    mean, std = forecast(params, windows(None)["xs"]).T
    errors = {"LSTM": np.concatenate([np.full(LENGTH, np.nan), (steps[LENGTH:, 1] - mean) / std])}
    period = find_period(values[training])
    for name, forecasts in naive_forecasts(values, period).items():
        errors[name] = (values - forecasts) / normalizer.std[0]
    scores = {name: smooth(np.nan_to_num(error) ** 2) for name, error in errors.items()}
    thresholds = {name: MARGIN * score[validation].max() for name, score in scores.items()}

    # The test part, once.
    labels, scores = labels[known:], {name: score[known:] for name, score in scores.items()}
    print_scores(labels, scores, thresholds)
    shown = {name: scores[name] for name in ("LSTM", "straight line")}
    plot(values[known:], labels, shown, thresholds, args.out / "scores.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
