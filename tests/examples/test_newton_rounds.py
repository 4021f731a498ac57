"""Newton's rounds: the example end to end, and the exponent that its table shows."""

import jax
import numpy as np
import pytest

from examples import newton_rounds


@pytest.mark.learn
def test_the_exponent_is_the_growth_of_a_small_difference(x64):
    params, xs = newton_rounds.draw(0, 2.0, 400)
    w_h, rows = np.asarray(params.w_h), np.asarray(xs)
    one, growth = np.zeros(newton_rounds.H), []
    other = one + 1e-9 / newton_rounds.H**0.5
    for x in rows:
        one, other = np.tanh(x + one @ w_h), np.tanh(x + other @ w_h)
        gap = np.linalg.norm(other - one)
        growth.append(np.log(gap / 1e-9))
        other = one + (other - one) * 1e-9 / gap
    np.testing.assert_allclose(newton_rounds.exponent_of(params, xs), np.mean(growth), atol=0.02)


@pytest.mark.learn
def test_end_to_end(tmp_path, capsys):
    newton_rounds.main(["--smoke", "--seeds", "2", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    gains = {float(line.split()[0]): line.split() for line in lines[1:4]}
    assert list(gains) == list(newton_rounds.GAINS[::5])
    exponents = [float(row[1]) for row in gains.values()]
    assert sorted(exponents) == exponents
    assert exponents[0] < -0.5
    assert gains[0.5][2:] == ["2,", "2", "2,", "2"]
    assert all(float(word) < 1e-10 for line in lines if line.startswith("largest") for word in line.split()[-1:])
    assert (tmp_path / "rounds.png").stat().st_size > 10_000
    assert not jax.config.read("jax_enable_x64")
