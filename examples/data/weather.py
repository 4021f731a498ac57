"""Daily weather of Seattle, 2012-2015 (NOAA): seattle-weather.csv of the package vega-datasets, and made-up weather.

A file is a table with the columns `date`, as year/month/day, `precipitation`, in mm, `temp_max` and `temp_min`, in °C,
`wind`, in m/s, and `weather`, one of `KINDS`.
"""

import csv
import io

import numpy as np

from examples.data.packages import fetch, read

WHEEL = "vega_datasets-0.9.0-py3-none-any.whl"
SHA256 = "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d"
KINDS = ("drizzle", "fog", "rain", "snow", "sun")


def parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the days `[N]`, and `[N, 9]`: maximum, minimum, precipitation, wind, and the kind, one-hot."""
    rows = list(csv.DictReader(io.StringIO(text)))
    days = np.array([row["date"].replace("/", "-") for row in rows], "datetime64[D]")
    if np.any(np.diff(days).astype(int) != 1):
        raise ValueError("a day is missing")
    numbers = [[float(row[name]) for name in ("temp_max", "temp_min", "precipitation", "wind")] for row in rows]
    return days, np.hstack([numbers, [[row["weather"] == kind for kind in KINDS] for row in rows]])


def seattle() -> str:
    """Returns the file of the package."""
    return read(fetch("vega-datasets", "0.9.0", WHEEL, SHA256), "vega_datasets/_data/seattle-weather.csv").decode()


def made_up(days: int = 1000) -> str:
    """Returns made-up weather as such a file: a year's wave, and spells that fade by a third a day."""
    random = np.random.default_rng(0)
    lines, spell = ["date,precipitation,temp_max,temp_min,wind,weather"], 0.0
    for day in range(days):
        spell = 0.7 * spell + random.normal(0, 2)
        maximum = 15 - 10 * np.cos(2 * np.pi * day / 365.25) + spell
        date = str(np.datetime64("2012-01-01") + np.timedelta64(day, "D")).replace("-", "/")
        lines.append(f"{date},0.0,{maximum:.1f},{maximum - 8:.1f},3.0,{'sun' if spell > 0 else 'rain'}")
    return "\n".join(lines)
