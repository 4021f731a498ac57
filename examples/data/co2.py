"""CO₂ over Mauna Loa, weekly, 1958-2001 (Keeling & Whorf): co2.csv of the package statsmodels, and made-up values.

A file is a table with the columns `date`, as year, month and day in eight figures, and `co2`, in ppm, empty where it is
missing.
"""

import csv
import io

import numpy as np

from examples.data.packages import fetch, read

BUILD = "cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64"
SHA256 = "f402fc793458dd6d96e099acb44cd1de1428565bf7ef3030878a8daff091f08a"


def parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weeks, datetime64 `[N]`, and CO₂ in ppm, NaN where it is missing, `[N]`."""
    rows = list(csv.DictReader(io.StringIO(text)))
    days = np.array([f"{row['date'][:4]}-{row['date'][4:6]}-{row['date'][6:]}" for row in rows], "datetime64[D]")
    if np.any(np.diff(days).astype(int) != 7):
        raise ValueError("a week is missing")
    return days, np.array([float(row["co2"] or "nan") for row in rows])


def mauna_loa() -> str:
    """Returns the file of the package."""
    wheel = fetch("statsmodels", "0.14.5", f"statsmodels-0.14.5-{BUILD}.whl", SHA256)
    return read(wheel, "statsmodels/datasets/co2/co2.csv").decode()


def made_up(weeks: int = 700) -> str:
    """Returns a made-up series as such a file: a wave on a trend, noise that fades slowly, and gaps."""
    random = np.random.default_rng(0)
    lines, drift = ["date,co2"], 0.0
    for week in range(weeks):
        drift = 0.9 * drift + random.normal(0, 0.3)
        value = f"{315 + week / 40 + 3 * np.sin(2 * np.pi * week * 7 / 365.25) + drift:.1f}"
        date = str(np.datetime64("1958-03-29") + np.timedelta64(7 * week, "D")).replace("-", "")
        lines.append(f"{date},{'' if random.uniform() < 0.03 else value}")
    return "\n".join(lines)
