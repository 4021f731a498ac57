"""Naive forecasts of the next step of a series: its last values, and those a period before."""

import numpy as np


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
