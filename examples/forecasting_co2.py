"""Forecasting with a trend and gaps: CO₂ in the air over Mauna Loa, 1 to 52 weeks ahead.

    python -m examples.forecasting_co2 [--out runs/forecasting_co2] [--seed 0] [--smoke]

In go ten quarters of 13 weeks each, `[B, 10, 16]`: CO₂ less its season, week by week, the share of the weeks that were
measured, and the time of the year. Out come five quantiles of the value in 1, 4, 13, 26 and 52 weeks, `[B, 5, 1, 5]`.

The data are the 2,284 weeks 1958-2001 of co2.csv in the package statsmodels (Keeling & Whorf), of which 59 are missing.
Such a gap takes the last value in the inputs and counts in no loss and no score. In the order of time, 70 % are trained
on, 15 % validate and 15 % test. The series rises, so the levels of the test part are in no other. What is forecast is
therefore the change from the last four weeks, apart from the season: three harmonics of the year, fitted to the
training part together with a quadratic trend, which is then left out.

Four GRUs are an ensemble, three ensembles show what is luck, and the test part is looked at once, by the model reloaded
from disk, as in `forecasting`.
"""

import time
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxseq
from examples import options, out_folder
from examples.data import co2
from examples.shared.forecasters import HEAD, Ensembles, Part, Task
from examples.shared.scored_forecasts import store_and_score
from jaxseq import data, nn, train
from jaxseq.train import metrics

QUARTERS, QUARTER, MONTH, YEAR = 10, 13, 4, 52  # the inputs; the others in weeks
LEADS = np.array([1, 4, 13, 26, 52])
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3, weight_decay=0.1))


def make_net(rngs: nnx.Rngs) -> nn.Forecaster:
    return nn.Forecaster(jaxseq.gru(48), QUARTER + 3, len(LEADS), head=HEAD, rngs=rngs)


def co2_task(days: np.ndarray, ppm: np.ndarray) -> Task:
    """Returns the change from the last weeks, apart from the season, quarter by quarter."""
    parts = data.split_in_time(len(days), (0.7, 0.15, 0.15))
    years = (days - days[0]).astype(float) / 365.2425
    harmonics = np.hstack([data.cyclic(years, 1 / harmonic) for harmonic in (1, 2, 3)])
    basis = np.hstack([years[:, None] ** (0, 1, 2), harmonics])
    known = np.flatnonzero(~np.isnan(ppm[parts[0]]))
    coefficients = np.linalg.lstsq(basis[known], ppm[known])[0]
    season = harmonics @ coefficients[3:]

    filled, observed = data.fill_missing((ppm - season)[:, None], means=[np.nanmean(ppm[:YEAR])])
    columns = np.hstack([filled, observed, harmonics[:, :2]])
    whole, length = filled[:, 0] + season, QUARTERS * QUARTER
    scale = float(np.std(filled[parts[0]][YEAR:] - filled[parts[0]][:-YEAR]))  # of a year's change

    def make_part(steps):
        inputs, _, starts = data.windows(columns, length, LEADS[-1], part=steps)
        last = starts[:, None] + length - 1
        at = last + LEADS
        level = inputs[:, -MONTH:, 0].mean(axis=1)[:, None]
        weeks, measured, *calendar = np.moveaxis(inputs.reshape(len(inputs), QUARTERS, QUARTER, -1), -1, 0)
        weeks = (weeks - level[..., None]) / scale
        others = [measured.mean(axis=-1), *(column[..., -1] for column in calendar)]
        naive = {
            "persistence": np.repeat(whole[last], len(LEADS), axis=1),
            "last year + its rise": whole[at - YEAR] + whole[last] - whole[last - YEAR],
        }
        xs = np.concatenate([weeks, np.stack(others, axis=-1)], axis=-1).astype(np.float32)
        return Part(xs, ppm[at], level + season[at], naive, days[at])

    measured = jnp.asarray(~np.isnan(ppm[parts[0]]))
    naive_error = metrics.naive_scale(jnp.asarray(whole[parts[0]]), season=YEAR, mask=measured)
    return Task(
        what="CO₂, ppm",
        parts=[make_part(part) for part in parts],
        leads=LEADS,
        block=YEAR,
        scale=scale,
        naive_error=float(naive_error[0]),
        info={"season": coefficients[3:].tolist(), "start": str(days[0])},
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "forecasting_co2")
    parser.add_argument("--seed", type=int, default=0, help="of params and batches")
    args = parser.parse_args(argv)
    started, out = time.perf_counter(), out_folder(args, "forecasting_co2")
    task = co2_task(*co2.parse(co2.made_up() if args.smoke else co2.mauna_loa()))
    training, validation, test = task.parts
    print(f"{len(training.xs)} windows to train on, {len(validation.xs)} to validate, {len(test.xs)} to test")

    nets = Ensembles(make_net)
    result = train.fit(
        train.make_step(nets.loss, OPTIMIZER, ensemble=True),
        nets.init(OPTIMIZER, args.seed),
        data.batches(task.batch(training), 64, seed=args.seed),
        epochs=2 if args.smoke else 30,
        validate=train.evaluator(nets.validation_loss, [task.batch(validation)]),
        patience=10,
        checkpoints=train.Checkpoints(out / "checkpoints", settings={"seed": args.seed}),
        progress=True,
    )
    store_and_score(task, nets, result, out)
    print(f"{time.perf_counter() - started:.0f} s; wrote forecasts.png, curves.png, checkpoints and model to {out}")


if __name__ == "__main__":
    main()
