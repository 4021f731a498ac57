"""Variances of returns by exponential weights: what is known of a day's variance on the day before."""

import math

import numpy as np


def weighted(squares: np.ndarray, decay: float, first: float) -> np.ndarray:
    """Returns v_t = decay v_{t-1} + (1 - decay) squares_{t-1}, `[N]`: what is known the day before."""
    variances = [first]
    for square in squares[:-1]:
        variances.append(decay * variances[-1] + (1 - decay) * square)
    return np.array(variances)


def of_returns(returns: np.ndarray, constant: float) -> np.ndarray:
    """Returns RiskMetrics' variance of returns, `[N]`, λ = 0.94, which starts from `constant`."""
    return weighted(returns**2, 0.94, constant)


def of_ranges(returns: np.ndarray, ranges: np.ndarray, known: slice) -> np.ndarray:
    """Returns such a variance of the days' log-ranges (Parkinson 1980), `[N]`.

    Its scale and its λ are those that suit the returns of the days `known`.
    """
    constant, squares = returns[known].var(), ranges**2 / (4 * math.log(2))
    squares *= constant / squares[known].mean()
    variances = [weighted(squares, decay, constant) for decay in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)]
    return min(variances, key=lambda v: np.mean((returns**2 / v + np.log(v))[known]))
