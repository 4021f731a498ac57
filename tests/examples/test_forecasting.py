"""The forecasters end to end on made-up series, and what they are made of on tiny ones."""

import numpy as np
import pytest

from examples import forecasting, forecasting_co2
from examples.data import co2 as co2_data
from examples.data import weather
from examples.reports.bootstrap import compare

WEATHER = """date,precipitation,temp_max,temp_min,wind,weather
2012/02/28,0.0,12.8,5.0,4.7,drizzle
2012/02/29,10.9,10.6,2.8,4.5,rain
2012/03/01,0.8,11.7,7.2,2.3,sun
"""
CO2 = "date,co2\n19580329,316.1\n19580405,\n19580412,317.6\n"


def mae(printed, name):
    """The mean MAE in the row of the table that starts with `name`."""
    row = next(line for line in printed.splitlines() if line.startswith(name))
    return float(row.split()[-5])


def test_weather_is_parsed():
    days, table = weather.parse(WEATHER)
    np.testing.assert_array_equal(days, np.array(["2012-02-28", "2012-02-29", "2012-03-01"], "datetime64[D]"))
    np.testing.assert_array_equal(table[1], [10.6, 2.8, 10.9, 4.5, 0, 0, 1, 0, 0])
    with pytest.raises(ValueError, match="a day is missing"):
        weather.parse(WEATHER.replace("2012/02/29", "2012/02/27"))


def test_co2_is_parsed():
    days, co2 = co2_data.parse(CO2)
    np.testing.assert_array_equal(days, np.array(["1958-03-29", "1958-04-05", "1958-04-12"], "datetime64[D]"))
    np.testing.assert_array_equal(co2, [316.1, np.nan, 317.6])
    with pytest.raises(ValueError, match="a week is missing"):
        co2_data.parse(CO2.replace("19580405", "19580406"))


def test_weather_parts_do_not_leak():
    days, table = weather.parse(weather.made_up(1000))
    whole = forecasting.weather_task(days, table)
    changed = table.copy()
    changed[500:] += 100.0  # from the validation part on
    other = forecasting.weather_task(days, changed)
    for ours, theirs in zip(whole.parts[0][:3], other.parts[0][:3], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert whole.scale == other.scale
    borders = [part.days[0, 0] for part in whole.parts], [part.days[-1, -1] for part in whole.parts]
    assert [days[14], days[500], days[750]] == borders[0]
    assert [days[499], days[749], days[999]] == borders[1]
    test, maximum = whole.parts[2], table[:, 0]
    np.testing.assert_array_equal(test.targets[0], maximum[750:757])
    np.testing.assert_array_equal(test.naive["persistence"][0], np.full(7, maximum[749]))
    np.testing.assert_array_equal(test.naive["same day of last year"][0], maximum[385:392])


def test_co2_forecasts_a_change_and_leaves_gaps_out():
    days, co2 = co2_data.parse(co2_data.made_up(600))
    co2[30] = np.nan
    task = forecasting_co2.co2_task(days, co2)
    risen = forecasting_co2.co2_task(days, co2 + 50.0)
    for part, other in zip(task.parts, risen.parts, strict=True):
        np.testing.assert_allclose(part.xs, other.xs, atol=1e-4)
        np.testing.assert_allclose(part.anchor + 50.0, other.anchor)
        np.testing.assert_allclose(part.xs[:, -1, 9:13].mean(axis=1), 0, atol=1e-5)
    training = task.parts[0]
    np.testing.assert_array_equal(training.targets[0], co2[129 + forecasting_co2.LEADS])
    assert training.xs[0, 2, 4] == training.xs[0, 2, 3]
    np.testing.assert_allclose(training.xs[0, 2, 13], np.mean(~np.isnan(co2[26:39])), rtol=1e-6)
    batch = task.batch(training)
    np.testing.assert_array_equal(batch["mask"], ~np.isnan(training.targets))
    assert not batch["mask"].all()
    rows = 129 + np.arange(len(training.targets))  # of the last values that are read
    rises = training.naive["last year + its rise"][:, -1]
    measured = ~np.isnan(co2[rows]) & ~np.isnan(co2[rows - 52])
    np.testing.assert_allclose(rises[measured], (2 * co2[rows] - co2[rows - 52])[measured])


def test_the_bootstrap_finds_what_is_plain_and_nothing_else():
    random = np.random.default_rng(0)
    noise = random.normal(size=(2, 400))
    change, low, high, verdict = compare(noise[0], noise[1], 14)
    assert low < change < high
    assert verdict == "no clear difference"
    assert compare(noise[0], noise[1] + 1, 14)[3] == "better"
    assert compare(noise[0] + 1, noise[1], 14)[3] == "worse"
    # Blocks of one are the plain bootstrap of a mean, whose interval is that of the normal distribution.
    ends = np.array(compare(noise[0], noise[1], 1)[1:3]) - change
    np.testing.assert_allclose(ends, np.array([-1.96, 1.96]) * np.std(noise[0] - noise[1]) / 20, rtol=0.1)


@pytest.mark.learn
@pytest.mark.parametrize("program", [forecasting, forecasting_co2])
def test_end_to_end(program, tmp_path, capsys):
    program.main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert mae(printed, "jaxseq") < 0.95 * mae(printed, "persistence")
    assert "MAE against persistence: -" in printed
    for name in ("forecasts.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    if program is forecasting:  # a second run finds the first one's checkpoints
        program.main(["--smoke", "--out", str(tmp_path)])
        assert capsys.readouterr().out.splitlines()[:-1] == printed.splitlines()[:-1]
