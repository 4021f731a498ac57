"""Forecasting: Seattle's maximum temperature of the next seven days, with prediction intervals.

    python -m examples.forecasting [--out runs/forecasting] [--seed 0] [--smoke]

In go two weeks of daily weather `[B, 14, D]`: maximum, minimum, precipitation, wind, the kind of weather and the time
of the year. Out come five quantiles of each of the next seven maxima, `[B, 7, 1, 5]`.

The data are the 1,461 days of seattle-weather.csv (NOAA, 2012-2015; in the package vega-datasets). The first half is
trained on, the year 2014 validates, 2015 tests. Inputs may reach back over a border, targets may not, and whatever is
learned from data, the scales of the columns and the climatology too, is learned from the training part.

A GRU forecasts how far each day will be from its climatology, two harmonics of the year. An ensemble is 4 GRUs, their
quantiles averaged; three ensembles, all trained at once by one vmapped step, show what is luck. Beside them stand
persistence, the same day of last year, the climatology itself, and ridge regression on the GRU's very inputs. The test
part is looked at once, by the model reloaded from disk.
"""

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.dates import ConciseDateFormatter
from sklearn.linear_model import Ridge

import jaxseq
from examples import options, out_folder
from examples.packages import fetch, read
from jaxseq import data, nn, train
from jaxseq.train import losses, metrics

SEEDS, MEMBERS, BATCH = 3, 4, 64
HEAD = nn.Quantiles((0.1, 0.25, 0.5, 0.75, 0.9))
ALPHAS = (0.1, 1, 10, 100, 300, 1000, 3000)  # the ridge's strengths, one of which validation chooses
MEDIAN, COVERAGE = HEAD.levels.index(0.5), 0.8
LENGTH, LAST_YEAR = 14, 365  # days
KINDS = ("drizzle", "fog", "rain", "snow", "sun")


class Part(NamedTuple):
    """M forecasts to be made. What is forecast is `(target - anchor) / scale`."""

    xs: np.ndarray  # [M, T, D], normalised
    targets: np.ndarray  # [M, H]; NaN where nothing was measured
    anchor: np.ndarray  # [M, H], what the net's forecast is added to
    naive: dict[str, np.ndarray]  # [M, H] each: forecasts that take no fitting
    days: np.ndarray  # datetime64 [M, H], of the targets


class Task(NamedTuple):
    what: str  # with its unit
    parts: list[Part]  # training, validation, test
    leads: np.ndarray  # [H], steps ahead
    block: int  # steps over which errors hang together, for the bootstrap
    scale: float
    naive_error: float  # what MASE divides by
    make_net: Callable[[Any], nn.Forecaster]
    optimizer: optax.GradientTransformation
    epochs: int
    info: dict[str, Any]  # saved with the model: what its inputs and outputs need


def parse_weather(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the days `[N]`, and `[N, 9]`: maximum, minimum, precipitation, wind, and the kind, one-hot."""
    rows = list(csv.DictReader(io.StringIO(text)))
    days = np.array([row["date"].replace("/", "-") for row in rows], "datetime64[D]")
    if np.any(np.diff(days).astype(int) != 1):
        raise ValueError("a day is missing")
    numbers = [[float(row[name]) for name in ("temp_max", "temp_min", "precipitation", "wind")] for row in rows]
    return days, np.hstack([numbers, [[row["weather"] == kind for kind in KINDS] for row in rows]])


def weather_task(days: np.ndarray, table: np.ndarray, epochs: int) -> Task:
    steps = data.split_in_time(len(days), (0.5, 0.25, 0.25))
    day_of_year = (days - days.astype("datetime64[Y]")).astype(float)
    calendar = np.hstack([data.cyclic(harmonic * day_of_year, 365.2425) for harmonic in (1, 2)])  # known in advance
    basis = np.hstack([np.ones((len(days), 1)), calendar])
    coefficients = np.linalg.lstsq(basis[steps[0]], table[steps[0], :2])[0]
    climatology = basis @ coefficients  # [N, 2], of maximum and minimum
    numbers = np.hstack([table[:, :2] - climatology, np.log1p(table[:, 2:3]), table[:, 3:4]])
    normalizer = data.Normalizer.fit(numbers[steps[0]])
    columns = np.hstack([normalizer.apply(numbers), table[:, 4:], calendar[:, :2]]).astype(np.float32)
    maximum, leads = table[:, 0], np.arange(1, 8)

    def make_part(steps):
        inputs, _, starts = data.windows(columns, LENGTH, len(leads), part=steps)
        at = starts[:, None] + LENGTH - 1 + leads
        naive = {
            "persistence": np.repeat(maximum[at[:, :1] - 1], len(leads), axis=1),
            "same day of last year": np.where(at >= LAST_YEAR, maximum[at - LAST_YEAR], np.nan),
            "climatology": climatology[at, 0],
        }
        return Part(inputs, maximum[at], climatology[at, 0], naive, days[at])

    return Task(
        what="maximum temperature, °C",
        parts=[make_part(part) for part in steps],
        leads=leads,
        block=14,
        scale=float(normalizer.std[0]),
        naive_error=float(metrics.naive_scale(jnp.asarray(maximum[steps[0]]), season=LAST_YEAR)[0]),
        make_net=lambda rngs: nn.Forecaster(jaxseq.gru(32), columns.shape[1], len(leads), head=HEAD, rngs=rngs),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3, weight_decay=0.1)),
        epochs=epochs,
        info={"climatology": coefficients.tolist(), "mean": normalizer.mean.tolist(), "std": normalizer.std.tolist()},
    )


def as_batch(part: Part, scale: float) -> dict[str, np.ndarray]:
    targets = ((part.targets - part.anchor) / scale).astype(np.float32)
    return {"xs": np.ascontiguousarray(part.xs), "targets": targets, "mask": ~np.isnan(targets)}


def train_and_reload(task: Task, out: Path, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Trains SEEDS × MEMBERS nets, saves them, and returns what the reloaded ones say: xs -> `[SEEDS, M, H, Q]`."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: task.make_net(nnx.Rngs(0))), nnx.Param)

    def init(key):
        return train.init(nnx.split(task.make_net(nnx.Rngs(key)), nnx.Param)[1], task.optimizer, key)

    def predict(params, xs, key=None):
        return nnx.merge(graph, params)(xs, key=key)[:, :, 0]

    def ensembles(members, xs):
        seeds = jax.tree.map(lambda leaf: leaf.reshape(SEEDS, MEMBERS, *leaf.shape[1:]), members)
        return jax.vmap(train.average(predict), (0, None))(seeds, xs)

    def pinball(quantiles, batch):
        targets, mask = (jnp.broadcast_to(batch[name], quantiles.shape[:-1]) for name in ("targets", "mask"))
        loss = losses.quantile(quantiles, targets, HEAD.levels, mask=mask)
        return metrics.mean(loss, mask=mask), {"MAE": metrics.mae(HEAD.point(quantiles), targets, mask=mask)}

    def loss_fn(params, batch, key):
        return pinball(predict(params, batch["xs"], key), batch)

    def validation_loss(members, batch, key):
        return pinball(ensembles(members, batch["xs"]), batch)

    training, validation = (as_batch(part, task.scale) for part in task.parts[:2])
    result = train.fit(
        train.make_step(loss_fn, task.optimizer, ensemble=True),
        jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(seed), SEEDS * MEMBERS)),
        data.batches(training, BATCH, seed=seed),
        epochs=task.epochs,
        validate=train.evaluator(validation_loss, [validation]),
        patience=10,
        checkpoints=train.Checkpoints(out / "checkpoints", settings={"seed": seed}),
        progress=True,
    )
    train.curves.plot(result.history, out / "curves.png", names=("loss", "MAE"))
    best = min(result.history, key=lambda row: row["validation/loss"])
    print(f"kept step {best['step']} of {result.history[-1]['step']}: ", end="")
    print(f"validation MAE {best['validation/MAE'] * task.scale:.3f}, of {task.what}")
    train.save(out / "model", result.params, {"levels": list(HEAD.levels), "scale": task.scale, **task.info})
    members = train.load(out / "model", result.params).tree
    return lambda xs: np.asarray(jax.jit(ensembles)(members, xs))


def fit_ridge(task: Task) -> Callable[[Part], np.ndarray]:
    """Returns the linear autoregression on the same inputs; its strength is chosen on the validation part."""

    def forecast(model, part):
        return part.anchor + task.scale * model.predict(part.xs.reshape(len(part.xs), -1))

    training, validation, _ = task.parts
    batch = as_batch(training, task.scale)
    whole = batch["mask"].all(axis=1)
    xs, targets = training.xs.reshape(len(training.xs), -1)[whole], batch["targets"][whole]
    models = [Ridge(alpha).fit(xs, targets) for alpha in ALPHAS]
    best = min(models, key=lambda model: np.nanmean(np.abs(forecast(model, validation) - validation.targets)))
    return lambda part: forecast(best, part)


def compare(ours: np.ndarray, theirs: np.ndarray, block: int) -> tuple[float, float, float, str]:
    """Returns by how much our mean loss is above theirs, the ends of its 95 % interval, and what that says of ours.

    The losses `[M]` are those of the same forecasts, in the order of time. Neighbours err alike, so the interval is by
    the circular block bootstrap (Politis & Romano 1992), which draws `block` of them together.
    """
    difference = ours - theirs
    starts = np.random.default_rng(0).integers(0, len(ours), (2000, -(-len(ours) // block)))
    means = difference[(starts[..., None] + np.arange(block)) % len(ours)].mean(axis=(1, 2))
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return float(difference.mean()), low, high, "better" if high < 0 else "worse" if low > 0 else "no clear difference"


def evaluate(
    task: Task, quantiles: np.ndarray, forecasts: dict[str, np.ndarray], earlier: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Prints the table of the test part and the verdicts, and returns the MAE `[H]` by name.

    `quantiles [SEEDS, M, H, Q]` are the nets', `forecasts [M, H]` the baselines', and `earlier` those of the validation
    part, whose errors' quantiles make the baselines' intervals.
    """
    validation, test = task.parts[1:]
    levels = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    ours = f"jaxseq, {MEMBERS} GRUs, mean of {SEEDS} seeds"
    lower, upper = map(np.asarray, HEAD.interval(jnp.asarray(quantiles), COVERAGE))
    predictions = {ours: (quantiles[..., MEDIAN], lower, upper)}
    for name, forecast in forecasts.items():
        below, above = np.nanquantile(validation.targets - earlier[name], levels, axis=0)
        predictions[name] = (forecast, forecast + below, forecast + above)

    header = "".join(f"{lead:7}" for lead in task.leads)
    print(f"\n{task.what}, {len(test.targets)} forecasts of the test part; MAE by the steps ahead")
    print(f"{'':32}{header}{'mean':>8}{'RMSE':>7}{'MASE':>7}{f'in {COVERAGE:.0%}':>9}{'width':>7}")
    maes, errors = {}, {}
    for name, (point, lower, upper) in predictions.items():
        error = np.abs(point - test.targets)
        axes = tuple(range(error.ndim - 1))
        maes[name], errors[name] = np.nanmean(error, axis=axes), np.nanmean(error, axis=(*axes[:-1], -1))
        held = np.mean(((lower <= test.targets) & (test.targets <= upper))[..., ~np.isnan(test.targets)])
        mae, rmse = maes[name].mean(), np.sqrt(np.nanmean(error**2, axis=(-2, -1))).mean()
        print(f"{name:32}" + "".join(f"{value:7.3f}" for value in maes[name]), end="")
        print(f"{mae:8.3f}{rmse:7.3f}{mae / task.naive_error:7.3f}{held:9.1%}{np.mean(upper - lower):7.2f}")
    by_seed = np.nanmean(np.abs(quantiles[..., MEDIAN] - test.targets), axis=(1, 2)).round(3).tolist()
    print(f"MAE of each seed: {by_seed}\n")
    for name in forecasts:
        *changes, verdict = compare(errors[ours], errors[name], task.block)
        change, low, high = np.array(changes) / errors[name].mean()
        print(f"MAE against {name}: {change:+.1%} (95 % interval {low:+.1%} to {high:+.1%}), {verdict}")
    return maes


def plot(task: Task, quantiles: np.ndarray, maes: dict[str, np.ndarray], path: Path) -> None:
    """Draws the first ten forecasts of the test part that do not overlap, by one ensemble, and the MAE by lead."""
    test, last = task.parts[2], int(task.leads[-1])
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained", width_ratios=(5, 3))
    rows = np.arange(0, len(test.days), last)[:10]
    for row in rows:
        lower, q25, median, q75, upper = quantiles[0, row].T
        for low, high, alpha in ((lower, upper, 0.2), (q25, q75, 0.35)):
            left.fill_between(test.days[row], low, high, color="C0", alpha=alpha, linewidth=0)
        left.plot(test.days[row], median, color="C0")
    left.plot(test.days[rows].ravel(), test.targets[rows].ravel(), "k.", markersize=4)
    left.set(title=f"Test part: a forecast every {last} steps", ylabel=task.what)
    drawn, names = [*left.collections[:2], left.lines[0], left.lines[-1]], ("80 %", "50 %", "median", "measured")
    left.legend(drawn, names, loc="lower center", bbox_to_anchor=(0.5, -0.25), frameon=False, ncols=4)
    left.xaxis.set_major_formatter(ConciseDateFormatter(left.xaxis.get_major_locator()))
    for name, values in maes.items():
        right.plot(task.leads, values, "o-", markersize=3, label=name, zorder=3 if name.startswith("jaxseq") else 2)
    right.set(title="Test part", xlabel="steps ahead", ylabel=f"MAE, {task.what}", ylim=(0, None), xticks=task.leads)
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def run(task: Task, out: Path, seed: int) -> None:
    """Trains, saves, reloads and evaluates."""
    started = time.perf_counter()
    training, validation, test = task.parts
    print(f"{len(training.xs)} windows to train on, {len(validation.xs)} to validate, {len(test.xs)} to test")
    nets, ridge = train_and_reload(task, out, seed), fit_ridge(task)
    quantiles = test.anchor[..., None] + task.scale * nets(test.xs)
    earlier, forecasts = ({**part.naive, "linear autoregression": ridge(part)} for part in (validation, test))
    maes = evaluate(task, quantiles, forecasts, earlier)
    plot(task, quantiles, maes, out / "forecasts.png")
    print(f"{time.perf_counter() - started:.0f} s; wrote forecasts.png, curves.png, checkpoints and model to {out}")


def make_up(days: int = 1000) -> str:
    """Returns made-up weather as such a file: a year's wave, and spells that fade by a third a day."""
    random = np.random.default_rng(0)
    lines, spell = ["date,precipitation,temp_max,temp_min,wind,weather"], 0.0
    for day in range(days):
        spell = 0.7 * spell + random.normal(0, 2)
        maximum = 15 - 10 * np.cos(2 * np.pi * day / 365.25) + spell
        date = str(np.datetime64("2012-01-01") + np.timedelta64(day, "D")).replace("-", "/")
        lines.append(f"{date},0.0,{maximum:.1f},{maximum - 8:.1f},3.0,{'sun' if spell > 0 else 'rain'}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "forecasting")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.smoke:
        text = make_up()
    else:
        sha256 = "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d"
        package = fetch("vega-datasets", "0.9.0", "vega_datasets-0.9.0-py3-none-any.whl", sha256)
        text = read(package, "vega_datasets/_data/seattle-weather.csv").decode()
    run(weather_task(*parse_weather(text), epochs=8 if args.smoke else 40), out_folder(args, "forecasting"), args.seed)


if __name__ == "__main__":
    main()
