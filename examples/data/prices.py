"""Daily prices: the S&P 500, 1999-2018, in sp500.csv.gz of the package arch, and made-up ones for smoke runs.

A file is a table with the columns `Date`, as month/day/year, `Open`, `High`, `Low`, `Close`, `Adj Close` and `Volume`.
"""

import csv
import gzip
import io
import math

import jax
import jax.numpy as jnp
import numpy as np

from examples.data.packages import fetch, read
from jaxseq.structured import hmm

BUILD = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
SHA256 = "975ec3bdf7926335742ac362251fafe32b448b8f194dead062f22a00beef772d"
HEAD = "Date,Open,High,Low,Close,Adj Close,Volume"


def sp500() -> str:
    """Returns the table of daily prices that the package arch carries."""
    wheel = fetch("arch", "8.0.0", f"arch-8.0.0-{BUILD}.whl", SHA256)
    return gzip.decompress(read(wheel, "arch/data/sp500/sp500.csv.gz")).decode()


def parse(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the days `[N]`, the log-returns of the closes and the log-ranges of the days, per cent `[N]`."""
    rows = list(csv.DictReader(io.StringIO(text)))
    months, numbers, years = zip(*(map(int, row["Date"].split("/")) for row in rows), strict=True)
    days = [f"{year}-{month:02d}-{day:02d}" for year, month, day in zip(years, months, numbers, strict=True)]
    high, low, close = (np.array([float(row[name]) for row in rows]) for name in ("High", "Low", "Adj Close"))
    return np.array(days, "datetime64[D]")[1:], 100 * np.diff(np.log(close)), 100 * np.log(high / low)[1:]


def made_up_waves(days: int = 900) -> str:
    """Returns made-up prices as such a file: no drift, and a volatility that comes in waves of 60 days."""
    random = np.random.default_rng(0)
    lines, close = [HEAD], 1000.0
    for day in range(days):
        steps = np.cumsum(random.normal(0, 0.002 * math.exp(math.sin(2 * math.pi * day / 60)), 30))
        path = close * np.exp(np.append(0, steps))
        close = path[-1]
        lines.append(f"{_date(day)},{path[0]},{path.max()},{path.min()},{close},{close},1")
    return "\n".join(lines)


def made_up_regimes(days: int = 1000) -> str:
    """Returns made-up prices as a file: two regimes, one three times as volatile, that last fifty days each."""
    stay = jnp.log(jnp.array([[0.98, 0.02], [0.02, 0.98]]))
    emission = hmm.GaussianParams(jnp.zeros((2, 1)), jnp.array([[0.5**2], [1.5**2]]))
    _, xs = hmm.simulate(jax.random.key(1), hmm.gaussian(), hmm.Params(stay[0], stay, emission), days)
    lines = [HEAD]
    for day, close in enumerate(1000 * np.exp(np.cumsum(np.asarray(xs)[:, 0]) / 100)):
        lines.append(f"{_date(day)},{close},{1.01 * close},{close},{close},{close},1")
    return "\n".join(lines)


def _date(day):
    year, month, number = str(np.datetime64("2000-01-01") + np.timedelta64(day, "D")).split("-")
    return f"{int(month)}/{int(number)}/{year}"
