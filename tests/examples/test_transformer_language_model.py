"""The Transformer next to the LSTM: windows, timing, writing, and the example end to end."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from examples import transformer_language_model as example
from examples.data.works import made_up
from examples.shared import windows as shared_windows
from examples.shared.timed_steps import TimedStep, timed
from examples.shared.windows import bits_in_windows, windows, write
from examples.transformer_language_model import Net, main
from jaxseq import nn, train
from tests.untyped import untyped

NARROW = Net(
    lambda rngs: nn.Transformer(8, 8, layers=1, heads=2, causal=True, max_length=4, rngs=rngs), 8, (3, 4), 0, False, 1
)


def test_every_character_is_scored_once_from_half_a_window_at_least():
    documents = [np.arange(start, start + size) for start, size in ((100, 12), (200, 6), (300, 5), (400, 2))]
    scored = {}
    for batch in windows(documents, (3, 4)).epoch(0):
        for xs, targets, marks in zip(batch["xs"], batch["targets"], batch["scored"], strict=True):
            for t in np.flatnonzero(marks):
                assert targets[t] not in scored
                scored[targets[t]] = xs[: t + 1].tolist()
    assert sorted(scored) == [i for document in documents for i in document[1:]]
    for target, seen in scored.items():
        assert seen == list(range(target - len(seen), target))
        assert len(seen) >= min(target % 100, 3)


def test_bits_are_those_of_each_window_by_itself():
    model = example.make_model(NARROW, 7, 0)
    documents = [np.array([1, 5, 2, 6, 3, 4, 1, 2, 0]), np.array([3, 3, 1, 2, 4])]
    read, expected = nnx.jit(lambda model, ids: jax.nn.log_softmax(model(ids))), []
    for document, start, first in ((0, 0, 0), (0, 2, 2), (0, 4, 2), (1, 0, 0)):  # 2 steps of a later window count
        window = documents[document][start : start + 5]
        log_probabilities = np.asarray(read(model, window[None, :-1])[0])
        expected.extend(-log_probabilities[np.arange(first, 4), window[1 + first :]] / np.log(2))
    assert bits_in_windows(model, documents, NARROW.batch) == pytest.approx(np.array(expected), rel=1e-4)


def test_the_learning_rate_follows_the_clock():
    """Which stands still between a row and the next."""
    clock = iter([0.0, 4.0, 7.0, 30.0, 32.0]).__next__
    rate = optax.cosine_decay_schedule(1.0, 10)
    optimizer = timed(optax.sgd, rate)
    step = TimedStep(train.make_step(lambda params, batch, key: (jnp.sum(params), {}), optimizer), clock)
    state, moved, seconds = train.init(jnp.zeros(()), optimizer, jax.random.key(0)), [0.0], []
    for number in range(3):
        if number == 2:
            step.start()
        state, _ = step(state, untyped(None))
        moved.append(float(state.params))
        seconds.append(step.seconds)
    assert seconds == [4, 7, 9]
    np.testing.assert_allclose(-np.diff(moved), [np.asarray(rate(s)) for s in seconds], rtol=1e-4)


def test_a_full_window_goes_on_from_its_last_half(monkeypatch):
    asked = []

    def generate(model, prompt, length, *, key, temperature):
        asked.append((prompt[0].tolist(), length))
        return prompt[:, -1:] + 1 + np.arange(length)

    monkeypatch.setattr(shared_windows, "generate", generate)
    key = jax.random.key(0)
    assert write(untyped(None), np.array([7]), 8, key, 4).tolist() == list(range(7, 16))
    assert asked == [([7], 3), ([9, 10], 2), ([11, 12], 2), ([13, 14], 2)]
    asked.clear()
    assert write(untyped(None), np.array([7, 8]), 8, key, None).tolist() == list(range(7, 17))
    assert asked == [([7, 8], 8)]


@pytest.mark.learn
def test_smoke_run_learns_writes_and_goes_on(tmp_path, capsys):
    main(["--smoke", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = re.findall(r"^(\S.*?) {2,}(\d\.\d{3}) +(\d\.\d{3})", printed, re.M)
    scores = {name: float(test) for name, _, test in rows}
    assert max(scores["LSTM"], scores["Transformer"]) < 1.1 < scores["n-gram, order 2"]
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    samples = re.findall(r"^--- (\w+), temperature 0.8 ---\n(.*)$", printed, re.M)
    assert [name for name, _ in samples] == ["LSTM", "Transformer"]
    known = {pair for work in made_up()[0] for pair in itertools.pairwise(work)}
    for _, sample in samples:
        assert np.mean([pair in known for pair in itertools.pairwise(sample)]) > 0.8
    assert {path.name for path in tmp_path.iterdir()} == {"LSTM", "Transformer", "curves.png"}

    main(["--smoke", "--out", str(tmp_path)])
    again = capsys.readouterr().out
    assert "step 60" not in again  # nothing was left to train
    assert rows == re.findall(r"^(\S.*?) {2,}(\d\.\d{3}) +(\d\.\d{3})", again, re.M)
