"""The memory tasks: their data against plain loops, what the cells learn, and the example end to end."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import memory_tasks
from examples.data import memory
from examples.memory_tasks import TASKS, evaluate, make_cell, train
from tests.full import FULL


@pytest.fixture
def optimised():
    """What runs for longer than it compiles has LLVM optimise its programs."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", not FULL)


def draw(name, T, B):
    return jax.tree.map(np.asarray, TASKS[name].draw(jax.random.key(3), T, B))


@pytest.mark.parametrize("T", [2, 7, 100])
def test_adding_asks_for_the_sum_of_two_marked_values(T):
    B = 200
    xs, targets, reset = draw("adding", T, B)
    assert xs.shape == (T, B, 2)
    assert targets.shape == (1, B, 1)
    assert reset is None
    seen = set()
    for row in range(B):
        marked = [t for t in range(T) if xs[t, row, 1] == 1]
        first, second = marked
        assert first < T // 2 <= second
        assert xs[:, row, 1].sum() == 2
        assert targets[0, row, 0] == pytest.approx(float(xs[first, row, 0]) + float(xs[second, row, 0]), abs=1e-6)
        seen.update(marked)
    assert len(seen) > 0.9 * T
    assert xs[..., 0].min() >= 0
    assert xs[..., 0].max() < 1


@pytest.mark.parametrize("T", [1, 7, 50])
def test_copy_asks_for_the_ten_symbols_after_the_delimiter(T):
    B = 100
    xs, targets, reset = draw("copy", T, B)
    assert xs.shape == (T + 20, B, 10)
    assert reset is None
    expected_xs, expected_targets = np.zeros((T + 20, B, 10)), np.zeros((10, B, 8))
    for row in range(B):
        symbols = [int(np.flatnonzero(xs[t, row])[0]) for t in range(10)]
        for t, kind in enumerate([*symbols, *[8] * (T - 1), 9, *[8] * 10]):
            expected_xs[t, row, kind] = 1
        for t, kind in enumerate(symbols):
            expected_targets[t, row, kind] = 1
    np.testing.assert_array_equal(xs, expected_xs)
    np.testing.assert_array_equal(targets, expected_targets)
    assert abs(targets.mean((0, 1)) - 1 / 8).max() < 0.04


@pytest.mark.parametrize("T", [1, 7, 100])
def test_parity_counts_from_the_last_reset(T):
    B = 200
    xs, targets, reset = draw("parity", T, B)
    assert xs.shape == targets.shape == (T, B, 1)
    expected = np.zeros((T, B, 1))
    for row in range(B):
        odd = 0
        for t in range(T):
            odd = (0 if reset[t, row] else odd) ^ int(xs[t, row, 0])
            expected[t, row, 0] = odd
    np.testing.assert_array_equal(targets, expected)
    assert reset.dtype == bool
    if T == 100:
        assert reset.mean() == pytest.approx(0.1, abs=0.01)
        assert xs.mean() == pytest.approx(0.5, abs=0.02)


def test_the_baselines_are_what_the_best_constant_gets():
    for name, constant in (("adding", 1.0), ("copy", 0.0), ("parity", 0.0)):
        targets = TASKS[name].draw(jax.random.key(0), 20, 20_000).targets
        loss = TASKS[name].loss(jnp.full_like(targets, constant), targets).mean()
        assert float(loss) == pytest.approx(TASKS[name].baseline, rel=0.02)


def test_gates_start_chrono():
    lstm, gru = (make_cell(name, 64, 100).init(jax.random.key(0), 2).b for name in ("lstm", "gru"))
    for keep in (lstm[64:128], gru[64:128]):
        assert 0 <= keep.min() < 2
        assert 4 < keep.max() <= np.log(99)
    np.testing.assert_array_equal(lstm[:64], -lstm[64:128])
    assert not lstm[128:].any()
    assert not gru[:64].any()
    assert not gru[128:].any()


def learn(task, cell, **options):
    params, losses = train(task, cell, jax.random.key(0), **options)
    assert losses.shape == (options["steps"],)
    return params, *evaluate(task, cell, params, jax.random.key(1), T=options["T"])


@pytest.mark.learn
def test_adding_is_learned():
    _, loss, accuracy = learn(TASKS["adding"], make_cell("gru", 32, 100), T=100, steps=800)
    assert loss < 0.01
    assert accuracy > 0.9


@pytest.mark.learn
def test_copy_is_learned(optimised):
    _, loss, accuracy = learn(TASKS["copy"], make_cell("lstm", 64, 50), T=50, steps=3000)
    assert loss < 0.25 * np.log(8)
    assert accuracy > 0.7


def without_resets(batch):
    return batch._replace(reset=None)


def best_without_resets(batch):
    """The accuracy of the Bayes filter that knows the bits and how often, but not when, a piece starts."""
    xs, targets = np.asarray(batch.xs[..., 0]), np.asarray(batch.targets[..., 0])
    odd, right = np.zeros(xs.shape[1]), []
    for x, target in zip(xs, targets, strict=True):
        odd = memory.RESET_RATE * x + (1 - memory.RESET_RATE) * np.where(x == 1, 1 - odd, odd)
        right.append((odd > 0.5) == target)
    return np.mean(right)


@pytest.mark.learn
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_parity_is_learned_with_resets(name):
    task = TASKS["parity"]
    cell = make_cell(name, 32, 100)
    params, _, accuracy = learn(task, cell, T=100, steps=300)
    assert accuracy > 0.99
    blind = task._replace(draw=lambda *shape: without_resets(task.draw(*shape)))
    assert evaluate(blind, cell, params, jax.random.key(1), T=100)[1] < 0.75


@pytest.mark.learn
def test_parity_is_not_to_be_learned_without_resets():
    task = TASKS["parity"]
    blind = task._replace(draw=lambda *shape: without_resets(task.draw(*shape)))
    _, _, accuracy = learn(blind, make_cell("gru", 32, 100), T=100, steps=300)
    best = best_without_resets(task.draw(jax.random.key(1), 100, 1000))
    assert best < 0.65
    assert best - 0.03 < accuracy < best + 0.003


@pytest.mark.learn
@pytest.mark.parametrize(
    ("tasks", "cells", "T"), [(["adding", "copy", "parity"], ["gru"], 2), (["copy"], ["rnn", "lstm"], 9)]
)
def test_end_to_end(tasks, cells, T, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "picture.png"
    options = {"--task": tasks, "--cells": cells, "--T": [T], "--size": [4], "--steps": [3], "--out": [out]}
    arguments = [str(word) for name, words in options.items() for word in (name, *words)]
    monkeypatch.setattr(sys, "argv", ["memory_tasks", *arguments])
    memory_tasks.main()
    header, *rows, last = capsys.readouterr().out.strip().splitlines()
    assert header.split() == ["task", "cell", "loss", "baseline", "accuracy"]
    assert [row.split()[:2] for row in rows] == [[task, cell] for task in tasks for cell in cells]
    for row in rows:
        loss, baseline = (float(word) for word in row.split()[2:4])
        assert baseline == pytest.approx(TASKS[row.split()[0]].baseline, rel=5e-3)
        assert 0 < loss < np.inf
    assert last.endswith(f"wrote {out}")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size > 10_000


def test_T_has_two_halves(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["memory_tasks", "--T", "1"])
    with pytest.raises(SystemExit):
        memory_tasks.main()
    assert "--T must be at least 2" in capsys.readouterr().err
