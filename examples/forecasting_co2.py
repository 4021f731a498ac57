"""Forecasting with a trend and gaps: CO₂ in the air over Mauna Loa, 1 to 52 weeks ahead.

    python -m examples.forecasting_co2 [--out runs/forecasting_co2] [--seed 0] [--smoke]

In go ten quarters of 13 weeks each, `[B, 10, 16]`: CO₂ less its season, week by week, the share of the weeks that were
measured, and the time of the year. Out come five quantiles of the value in 1, 4, 13, 26 and 52 weeks, `[B, 5, 1, 5]`.

The data are the 2,284 weeks 1958-2001 of co2.csv in the package statsmodels (Keeling & Whorf), of which 59 are missing.
Such a gap takes the last value in the inputs and counts in no loss and no score. In the order of time, 70 % are trained
on, 15 % validate and 15 % test. The series rises, so the levels of the test part are in no other. What is forecast is
therefore the change from the last four weeks, apart from the season: three harmonics of the year, fitted to the
training part together with a quadratic trend, which is then left out.

Training, baselines and tables are those of `examples.forecasting`.
"""

import csv
import io
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

import jaxseq
from examples import options, out_folder
from examples.forecasting import HEAD, Part, Task, run
from examples.packages import fetch, read
from jaxseq import data, nn
from jaxseq.train import metrics

QUARTERS, QUARTER, MONTH, YEAR = 10, 13, 4, 52  # the inputs; the others in weeks
LEADS = np.array([1, 4, 13, 26, 52])


def parse_co2(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weeks, datetime64 `[N]`, and CO₂ in ppm, NaN where it is missing, `[N]`."""
    rows = list(csv.DictReader(io.StringIO(text)))
    days = np.array([f"{row['date'][:4]}-{row['date'][4:6]}-{row['date'][6:]}" for row in rows], "datetime64[D]")
    if np.any(np.diff(days).astype(int) != 7):
        raise ValueError("a week is missing")
    return days, np.array([float(row["co2"] or "nan") for row in rows])


def co2_task(days: np.ndarray, co2: np.ndarray, epochs: int) -> Task:
    parts = data.split_in_time(len(days), (0.7, 0.15, 0.15))
    years = (days - days[0]).astype(float) / 365.2425
    harmonics = np.hstack([data.cyclic(years, 1 / harmonic) for harmonic in (1, 2, 3)])
    basis = np.hstack([years[:, None] ** (0, 1, 2), harmonics])
    known = np.flatnonzero(~np.isnan(co2[parts[0]]))
    coefficients = np.linalg.lstsq(basis[known], co2[known])[0]
    season = harmonics @ coefficients[3:]

    filled, observed = data.fill_missing((co2 - season)[:, None], means=[np.nanmean(co2[:YEAR])])
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
        return Part(xs, co2[at], level + season[at], naive, days[at])

    measured = jnp.asarray(~np.isnan(co2[parts[0]]))
    naive_error = metrics.naive_scale(jnp.asarray(whole[parts[0]]), season=YEAR, mask=measured)
    return Task(
        what="CO₂, ppm",
        parts=[make_part(part) for part in parts],
        leads=LEADS,
        block=YEAR,
        scale=scale,
        naive_error=float(naive_error[0]),
        make_net=lambda rngs: nn.Forecaster(jaxseq.gru(48), QUARTER + 3, len(LEADS), head=HEAD, rngs=rngs),
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3, weight_decay=0.1)),
        epochs=epochs,
        info={"season": coefficients[3:].tolist(), "start": str(days[0])},
    )


def make_up(weeks: int = 700) -> str:
    """Returns a made-up series as such a file: a wave on a trend, noise that fades slowly, and gaps."""
    random = np.random.default_rng(0)
    lines, drift = ["date,co2"], 0.0
    for week in range(weeks):
        drift = 0.9 * drift + random.normal(0, 0.3)
        value = f"{315 + week / 40 + 3 * np.sin(2 * np.pi * week * 7 / 365.25) + drift:.1f}"
        date = str(np.datetime64("1958-03-29") + np.timedelta64(7 * week, "D")).replace("-", "")
        lines.append(f"{date},{'' if random.uniform() < 0.03 else value}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__, "forecasting_co2")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.smoke:
        text = make_up()
    else:
        build = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
        sha256 = "f402fc793458dd6d96e099acb44cd1de1428565bf7ef3030878a8daff091f08a"
        package = fetch("statsmodels", "0.14.5", f"statsmodels-0.14.5-{build}.whl", sha256)
        text = read(package, "statsmodels/datasets/co2/co2.csv").decode()
    run(co2_task(*parse_co2(text), epochs=2 if args.smoke else 30), out_folder(args, "forecasting_co2"), args.seed)


if __name__ == "__main__":
    main()
