"""The forecaster of returns end to end on made-up prices, and its variances by hand."""

import numpy as np
import pytest

from examples import returns
from examples.baselines import variances
from examples.data import prices

PRICES = """Date,Open,High,Low,Close,Adj Close,Volume
1/4/1999,100,110,90,100,100,877000000
1/5/1999,100,120,100,110,110,775000000
12/31/1999,110,121,110,99,99,986900000
"""


def scores(printed, name):
    """The numbers of the last row that starts with `name`."""
    row = [line for line in printed.splitlines() if line.startswith(name)][-1]
    return [float(word.rstrip("%")) for word in row[34:].split()]


def test_prices_are_parsed():
    days, log_returns, ranges = prices.parse(PRICES)
    np.testing.assert_array_equal(days, np.array(["1999-01-05", "1999-12-31"], "datetime64[D]"))
    np.testing.assert_allclose(log_returns, 100 * np.log([1.1, 0.9]))
    np.testing.assert_allclose(ranges, 100 * np.log([1.2, 1.1]))


def test_a_weighted_variance_knows_only_the_days_before():
    variance = variances.weighted(np.array([1.0, 4.0, 9.0]), 0.5, 2.0)
    np.testing.assert_array_equal(variance, [2.0, 1.5, 2.75])


def test_a_variance_of_ranges_has_the_scale_of_the_returns_it_knows():
    random = np.random.default_rng(0)
    deviation = np.exp(np.sin(np.arange(400) / 20))
    returns, ranges = deviation * random.normal(size=(2, 400))
    ranges, known = 1.5 * np.abs(ranges) + 0.1, slice(None, 200)
    found = variances.of_ranges(returns, ranges, known)
    changed = variances.of_ranges(np.append(returns[:-1], 99.0), np.append(ranges[:-1], 99.0), known)
    np.testing.assert_array_equal(changed, found)  # of a day nothing is known, nor of those behind what is known
    squares = ranges**2 * returns[known].var() / np.mean(ranges[known] ** 2)
    choices = {}
    for decay in (0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        v = [returns[known].var()]
        for square in squares[:-1]:
            v.append(decay * v[-1] + (1 - decay) * square)
        choices[sum(r**2 / w + np.log(w) for r, w in zip(returns[known], v[:200], strict=True))] = v
    np.testing.assert_allclose(found, choices[min(choices)], rtol=1e-9)


@pytest.mark.learn
def test_end_to_end(tmp_path, capsys):
    returns.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    ours, constant = scores(printed, "jaxseq"), scores(printed, "constant variance")
    assert ours[0] < constant[0] - 0.1
    assert 70 < ours[1] < 90
    line = next(line for line in printed.splitlines() if line.startswith("NLL against constant variance"))
    assert line.endswith("better")
    assert "No price prediction is claimed" in printed
    for name in ("forecasts.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    returns.main(["--smoke", "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]
