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

import time
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.data import weather
from examples.shared.forecasters import HEAD, Ensembles, Part, Task
from examples.shared.scored_forecasts import store_and_score
from jaxseq import data, nn, train
from jaxseq.train import metrics

LENGTH, LEADS, LAST_YEAR = 14, np.arange(1, 8), 365  # days
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3, weight_decay=0.1))


def make_net(rngs: nnx.Rngs) -> nn.Forecaster:
    return nn.Forecaster(jaxseq.gru(32), 11, len(LEADS), head=HEAD, rngs=rngs)


def weather_task(days: np.ndarray, table: np.ndarray) -> Task:
    """Returns columns of normalised numbers, cut into windows whose targets lie in their part."""
    steps = data.split_in_time(len(days), (0.5, 0.25, 0.25))
    day_of_year = (days - days.astype("datetime64[Y]")).astype(float)
    calendar = np.hstack([data.cyclic(harmonic * day_of_year, 365.2425) for harmonic in (1, 2)])  # known in advance
    basis = np.hstack([np.ones((len(days), 1)), calendar])
    coefficients = np.linalg.lstsq(basis[steps[0]], table[steps[0], :2])[0]
    climatology = basis @ coefficients  # [N, 2], of maximum and minimum
    numbers = np.hstack([table[:, :2] - climatology, np.log1p(table[:, 2:3]), table[:, 3:4]])
    normalizer = data.Normalizer.fit(numbers[steps[0]])
    columns = np.hstack([normalizer.apply(numbers), table[:, 4:], calendar[:, :2]]).astype(np.float32)
    maximum = table[:, 0]

    def make_part(steps):
        inputs, _, starts = data.windows(columns, LENGTH, len(LEADS), part=steps)
        at = starts[:, None] + LENGTH - 1 + LEADS
        naive = {
            "persistence": np.repeat(maximum[at[:, :1] - 1], len(LEADS), axis=1),
            "same day of last year": np.where(at >= LAST_YEAR, maximum[at - LAST_YEAR], np.nan),
            "climatology": climatology[at, 0],
        }
        return Part(inputs, maximum[at], climatology[at, 0], naive, days[at])

    return Task(
        what="maximum temperature, °C",
        parts=[make_part(part) for part in steps],
        leads=LEADS,
        block=14,
        scale=float(normalizer.std[0]),
        naive_error=float(metrics.naive_scale(jnp.asarray(maximum[steps[0]]), season=LAST_YEAR)[0]),
        info={"climatology": coefficients.tolist(), "mean": normalizer.mean.tolist(), "std": normalizer.std.tolist()},
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "forecasting")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    started, out = time.perf_counter(), out_folder(args, "forecasting")
    task = weather_task(*weather.parse(weather.made_up() if args.smoke else weather.seattle()))
    training, validation, test = task.parts
    print(f"{len(training.xs)} windows to train on, {len(validation.xs)} to validate, {len(test.xs)} to test")

    nets = Ensembles(make_net)
    result = train.fit(
        train.make_step(nets.loss, OPTIMIZER, ensemble=True),
        nets.init(OPTIMIZER, args.seed),
        data.batches(task.batch(training), 64, seed=args.seed),
        epochs=8 if args.smoke else 40,
        validate=train.evaluator(nets.validation_loss, [task.batch(validation)]),
        patience=10,
        checkpoints=train.Checkpoints(out / "checkpoints", settings={"seed": args.seed}),
        progress=True,
    )
    store_and_score(task, nets, result, out)
    print(f"{time.perf_counter() - started:.0f} s; wrote forecasts.png, curves.png, checkpoints and model to {out}")


if __name__ == "__main__":
    main()
