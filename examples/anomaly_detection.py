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
from matplotlib.figure import Figure

import jaxseq
from examples import options, out_folder
from examples.packages import fetch, read
from examples.ts_files import SHA256, WHEEL
from jaxseq import data, nn, train

LENGTH, SMOOTH, MARGIN, TOLERANCE = 32, 5, 2.0, 100
MEMBER = "aeon/datasets/data/KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_{}.csv"


def parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Parses lines of `timestamp,value,is_anomaly` under a head; returns values and labels, bool, `[N]` each."""
    _, values, labels = np.loadtxt(text.splitlines(), delimiter=",", skiprows=1, unpack=True)
    return values, labels.astype(bool)


def blood_pressure() -> tuple[np.ndarray, np.ndarray, int]:
    """Returns values, labels, and how many of the first steps are to train on."""
    wheel = fetch("aeon", "1.6.0", WHEEL, SHA256)
    normal, values = (read(wheel, MEMBER.format(part)).decode() for part in ("TRAIN", "TEST"))
    return *parse(values), len(parse(normal)[0])


def made_up() -> tuple[np.ndarray, np.ndarray, int]:
    """Returns a wave whose period is 40 steps, with a stretch of noise, for smoke runs."""
    source, steps = np.random.default_rng(0), np.arange(1200)
    labels = (steps >= 900) & (steps < 912)
    values = 10 * np.sin(2 * np.pi * steps / 40) + source.normal(scale=np.where(labels, 5.0, 0.05))
    return values, labels, 600


def find_period(values: np.ndarray, shortest: int = 10) -> int:
    """Returns the lag, from `shortest` to half of all steps, where the autocorrelation has its highest peak."""
    centred = values - values.mean()
    correlation = np.correlate(centred, centred, "full")[len(values) - 1 :]
    lags = np.arange(shortest, len(values) // 2)
    peaks = lags[(correlation[lags] > correlation[lags - 1]) & (correlation[lags] >= correlation[lags + 1])]
    return int(peaks[np.argmax(correlation[peaks])])


def naive_forecasts(values: np.ndarray, period: int) -> dict[str, np.ndarray]:
    """Returns forecasts `[N]` of each step from those before it, NaN where these do not suffice."""
    last, before = (np.concatenate([np.full(lag, np.nan), values[:-lag]]) for lag in (1, 2))
    season = np.concatenate([np.full(period, np.nan), values[:-period]])
    return {"last value": last, "straight line": 2 * last - before, f"{period} steps before": season}


def smooth(squares: np.ndarray) -> np.ndarray:
    """Returns the mean over the SMOOTH steps that lie around each."""
    return np.convolve(squares, np.ones(SMOOTH) / SMOOTH, mode="same")


def runs(flags: np.ndarray) -> list[slice]:
    """Returns where flags are True: a slice for each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return [slice(*edges[i : i + 2].tolist()) for i in range(0, len(edges), 2)]


def hit(score: np.ndarray, anomaly: slice) -> bool:
    """Says whether the highest score lies within the anomaly, or near it: the contest's rule (Wu & Keogh 2021)."""
    reach = max(TOLERANCE, anomaly.stop - anomaly.start)
    return anomaly.start - reach < np.argmax(score) < anomaly.stop - 1 + reach


def plot(values, labels, scores, thresholds, path):
    """Draws the series and two scores: all that is tested, and beside it what lies around the anomaly."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    panels = figure.subplots(1 + len(scores), 2, sharex="col", width_ratios=[2, 1])
    (anomaly,) = runs(labels)
    around = slice(anomaly.start - 150, anomaly.stop + 150)
    steps = np.arange(len(values))
    for column, shown in enumerate((slice(None), around)):
        panels[0, column].plot(steps[shown], values[shown], color="0.3", linewidth=0.8)
        for axes, (name, score) in zip(panels[1:, column], scores.items(), strict=True):
            axes.semilogy(steps[shown], score[shown], linewidth=0.8, label="score")
            axes.axhline(thresholds[name], color="C3", linestyle="--", label="threshold")
        for axes in panels[:, column]:
            axes.axvspan(anomaly.start - 0.5, anomaly.stop - 0.5, color="C1", alpha=0.4, label="labelled")
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1, column].set_xlabel("step of the tested part")
    panels[0, 0].set(title="all steps", ylabel="value")
    panels[0, 1].set(title="around the anomaly")
    for axes, name in zip(panels[1:, 0], scores, strict=True):
        axes.set_ylabel(f"score, {name}")
    panels[1, 1].legend(frameon=False, loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, "anomaly_detection")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
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
    (anomaly,) = runs(labels)
    print(f"\n{'test part':20}{'threshold':>10}{'precision':>10}{'recall':>8}{'F1':>8}{'false alarms':>14}", end="")
    print(f"{'highest at':>12}{'hit':>5}{'over rest':>11}")
    rest = np.ones(len(labels), bool)
    rest[max(0, anomaly.start - TOLERANCE) : anomaly.stop + TOLERANCE] = False
    for name, score in scores.items():
        alarms = score > thresholds[name]
        found = train.metrics.confusion(jnp.asarray(alarms, int), jnp.asarray(labels, int), 2).binary
        false = sum(not labels[max(0, run.start - SMOOTH) : run.stop + SMOOTH].any() for run in runs(alarms))
        print(f"{name:20}{thresholds[name]:10.3g}{found.precision:10.1%}{found.recall:8.1%}{found.f1:8.1%}", end="")
        print(f"{false:14d}{np.argmax(score):12d}{'yes' if hit(score, anomaly) else 'no':>5}", end="")
        print(f"{score.max() / score[rest].max():11.3g}")
    print(f"labelled: {anomaly.start} … {anomaly.stop - 1}, {labels.sum()} of {len(labels)} steps, one event")
    shown = {name: scores[name] for name in ("LSTM", "straight line")}
    plot(values[known:], labels, shown, thresholds, args.out / "scores.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote {args.out}")


if __name__ == "__main__":
    main()
