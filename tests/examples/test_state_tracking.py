"""State tracking: its data against plain loops, its cell against a plain loop, and the example end to end."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from examples import state_tracking
from examples.state_tracking import MODULUS, PLUS, TASKS, diagonal


def test_parity_is_that_of_the_bits_so_far():
    xs, targets, asked = map(np.asarray, TASKS["parity"].draw(jax.random.key(0), 20, 30))
    assert asked.all()
    for bits, row in zip(xs, targets, strict=True):
        odd = 0
        for bit, target in zip(bits, row, strict=True):
            odd ^= int(bit)
            assert target == odd
    assert set(np.unique(xs)) == {0, 1}


def test_addition_asks_for_the_sum_at_each_plus():
    xs, targets, asked = map(np.asarray, TASKS["addition"].draw(jax.random.key(0), 20, 30))
    for row, wanted, where in zip(xs, targets, asked, strict=True):
        total = 0
        for t in range(0, 30, 2):
            assert 0 <= row[t] < MODULUS
            assert row[t + 1] == PLUS
            total += int(row[t])
            assert where[t : t + 2].tolist() == [False, True]
            assert wanted[t + 1] == total % MODULUS
    assert set(np.unique(xs)) == {*range(MODULUS), PLUS}


@pytest.mark.parametrize("negative", [False, True])
def test_the_diagonal_cell_is_a_plain_loop(negative):
    cell = diagonal(3, negative=negative)
    params = cell.init(jax.random.key(0), 2)._replace(b=jnp.linspace(-1, 1, 6))
    xs = np.asarray(jax.random.normal(jax.random.key(1), (7, 2)))
    w, b, h = np.asarray(params.w, float), np.asarray(params.b, float), np.zeros(3)
    for x, y in zip(xs, np.asarray(jaxseq.unroll(cell, params, xs)[1]), strict=True):
        u = x @ w + b
        h = (np.tanh(u[:3]) if negative else 1 / (1 + np.exp(-u[:3]))) * h + u[3:]
        np.testing.assert_allclose(y, h, rtol=1e-5, atol=1e-6)


@pytest.mark.learn
def test_smoke_run_tracks_parity_with_negative_factors_alone(tmp_path, capsys):
    state_tracking.main(["--smoke", "--out", str(tmp_path)])
    rows = re.findall(r"^parity +(diagonal.*?\)) +([\d.]+)% +([\d.]+)% +50%", capsys.readouterr().out, re.M)
    beyond = {name: float(later) for name, _, later in rows}
    assert beyond["diagonal, a in (0, 1)"] < 55
    assert beyond["diagonal, a in (-1, 1)"] > 99
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
