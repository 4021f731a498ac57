"""Text classifiers: what is drawn in training alone, several nets at once, and probabilities in the order of texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.shared.text_classifiers import UNKNOWN, classify, of_each, read, score, spread
from tests.untyped import untyped


def test_words_are_dropped_in_training_alone():
    seen = []

    def model(ids, *, mask, key):
        seen.append(np.asarray(ids))
        return ids

    batch = {"xs": jnp.full((40, 50), 7), "mask": jnp.ones((40, 50), bool)}
    read(model, batch, None, 0.3)
    read(model, batch, jax.random.key(0), 0.3)
    assert np.all(seen[0] == 7)
    assert set(np.unique(seen[1])) == {7, UNKNOWN}
    assert np.mean(seen[1] == UNKNOWN) == pytest.approx(0.3, abs=0.05)


def test_scores_are_of_real_rows_and_smoothed_where_asked():
    logits = jnp.array([[2.0, 0.0], [1.0, 3.0], [9.0, -9.0]])
    batch = {"labels": jnp.array([0, 0, 1]), "real": jnp.array([True, True, False])}
    nats = -np.log(np.exp([2.0, 1.0]) / (np.exp([2.0, 1.0]) + np.exp([0.0, 3.0])))
    other = nats + np.array([2.0, -2.0])  # of the label that is not theirs
    for smoothing in (0.0, 0.1):
        loss, aux = score(logits, batch, smoothing)
        want = np.mean((1 - smoothing / 2) * nats + smoothing / 2 * other)
        np.testing.assert_allclose(loss.value, want, rtol=1e-5)
        assert float(aux["accuracy"].value) == 0.5


def test_several_nets_are_scored_together_and_each():
    batch = {"labels": jnp.array([0, 1]), "real": jnp.array([True, True])}

    def loss_fn(params, batch, key):
        return score(params, batch)

    members = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])  # all right; half
    loss, aux = of_each(loss_fn, 2)(members, batch, None)
    single = [float(loss_fn(member, batch, None)[0].value) for member in members]
    np.testing.assert_allclose(loss.value, np.mean(single), rtol=1e-6)
    values = {f"each/{name}": float(metric.value) for name, metric in aux["each"].items()}
    assert values == {"each/0": 1.0, "each/1": 0.5}
    assert spread({"loss": 9.0, "accuracy": 0.75, **values}) == (0.75, 0.25)


def test_probabilities_come_in_the_order_of_the_texts():
    ids = [np.full(length, length) for length in (3, 40, 1, 17, 0)]

    def vote(members, batch):
        return members * np.where(batch["mask"], batch["xs"], 0).max(axis=1, initial=0)[:, None] * np.array([1, -1])

    np.testing.assert_array_equal(classify(vote, untyped(2), ids, 2)[:, 0], [6, 80, 2, 34, 0])
