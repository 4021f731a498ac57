"""Sampling against the definitions, written out one row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import decoding

LOGITS = np.random.default_rng(0).normal(0, 2, (40, 9)).astype(np.float32)
LOGITS[0] = 0.0  # all equal
LOGITS[1, [2, 5, 7]] = 4.0  # ties at the top
LOGITS[2, 3:] = -np.inf

filter_logits = jax.jit(decoding.filter_logits, static_argnames="top_k")
sample = jax.jit(decoding.draw, static_argnames=("temperature", "top_k"))


def kept_by_hand(logits, temperature, top_k, top_p):
    """The ids that may be drawn from one row."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if temperature == 0:
        return set(order[:1])
    order = order[:top_k]
    weights = np.exp((logits[order].astype(np.float64) - logits[order].max()) / temperature)
    probabilities = weights / weights.sum()
    if top_p is None or top_p == 1:
        return set(order)
    kept, total = [], 0.0
    for i, p in zip(order, probabilities, strict=True):
        if kept and total >= top_p:
            break
        kept.append(i)
        total += p
    return set(kept)


@pytest.mark.parametrize("top_k", [None, 4, 50])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.55, 0.93, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 3.0])
def test_what_is_kept_also_where_temperature_and_top_p_are_traced(temperature, top_p, top_k):
    got = np.asarray(filter_logits(LOGITS, temperature=temperature, top_k=top_k, top_p=top_p))
    for row, logits in zip(got, LOGITS, strict=True):
        kept = {i for i in kept_by_hand(logits, temperature, top_k, top_p) if np.isfinite(logits[i])}
        assert set(np.flatnonzero(np.isfinite(row))) == kept
        where = sorted(kept)
        np.testing.assert_allclose(row[where], logits[where] / (temperature or 1), rtol=1e-6)


def test_samples_have_the_frequencies_of_the_softmax():
    logits = jnp.log(jnp.array([0.5, 0.1, 0.3, 0.1], jnp.bfloat16))
    draws = sample(jax.random.key(0), jnp.broadcast_to(logits, (40000, 4)), temperature=0.5, top_k=3)
    assert draws.dtype == jnp.int32
    want = np.array([0.25, 0.01, 0.09, 0.0]) / 0.35
    np.testing.assert_allclose(np.bincount(draws, minlength=4) / 40000, want, atol=0.01)


def test_greedy_is_argmax_with_and_without_a_key():
    want = np.argmax(LOGITS, axis=-1)
    np.testing.assert_array_equal(sample(None, LOGITS, temperature=0), want)
    np.testing.assert_array_equal(sample(jax.random.key(0), LOGITS, temperature=0.0), want)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": -1.0}, ValueError, "`temperature` must be a number of at least 0; got -1.0"),
        ({"temperature": float("inf")}, ValueError, "`temperature` must be a number of at least 0; got inf"),
        ({"temperature": "hot"}, TypeError, "`temperature` must be a number of at least 0; got 'hot'"),
        ({"top_p": 0.0}, ValueError, r"`top_p` must be a number in \(0, 1\]; got 0.0"),
        ({"top_p": True}, TypeError, r"`top_p` must be a number in \(0, 1\]; got True"),
        ({"top_k": 0}, ValueError, "`top_k` must be a positive int; got 0"),
        ({"top_k": 1.5}, TypeError, "`top_k` must be a positive int; got 1.5"),
        ({"logits": jnp.arange(3)}, TypeError, r"`logits` must be floating \[..., V\]; got int32 \(3,\)"),
        ({"logits": [1.0]}, TypeError, r"`logits` must be an array \[..., V\]; got list"),
        ({"key": None}, ValueError, "`key` must be a jax.random.key; it may be None only if temperature=0"),
        ({"key": 0}, TypeError, "`key` must be a jax.random.key or None; got int"),
    ],
)
def test_errors(options, error, message):
    arguments = {"key": jax.random.key(0), "logits": LOGITS} | options
    with pytest.raises(error, match=message):
        decoding.draw(**arguments)


def test_narrow_logits_stay_finite_at_low_temperatures():
    logits, keys = jnp.array([10.0, 30.0, 20.0], jnp.float16), jax.random.split(jax.random.key(0), 8)
    drawn = jax.vmap(lambda key: decoding.draw(key, logits, temperature=1e-4))(keys)
    assert drawn.tolist() == [1] * 8
