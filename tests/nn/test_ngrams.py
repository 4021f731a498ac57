"""Embeddings of n-grams, against windows made by a plain loop."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from jaxseq.nn._flax import given
from jaxseq.nn.models._ngrams import NGramEmbedding
from tests.nn.drawn import drawn

V, B, T = 5, 4, 40
RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(0, V, (B, T))
MASK, RESET = RANDOM.random((B, T)) < 0.7, RANDOM.random((B, T)) < 0.15
ORDERS = (3, 2)


@functools.cache
def make(buckets):
    return drawn(lambda rngs: NGramEmbedding(nn.NGrams(ORDERS, buckets, 4), given(None, None, rngs)), scale=1)


unroll = nnx.jit(lambda layer, *args: layer.unroll(*args))


def windows(mask, reset):
    """What stands before and at each step of each row, by appending to a list; None on padding."""
    rows = []
    for b in range(B):
        seen, row = [], []
        for t in range(T):
            if reset[b, t]:
                seen = []
            if mask[b, t]:
                seen.append(IDS[b, t])
            row.append([None if not mask[b, t] else (min(len(seen), n), *seen[-n:]) for n in ORDERS])
        rows.append(row)
    return rows


@pytest.mark.some(2)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("resets", [False, True])
def test_windows_have_an_embedding_each(masked, resets):
    """In so many buckets no two of these windows share one; the same window has the same wherever it stands."""
    mask, reset = MASK if masked else None, RESET if resets else None
    ids = np.where(MASK, IDS, 99) if masked else IDS
    ys = np.asarray(unroll(make(2**20), ids, None, mask, reset)[1])
    assert ys.shape == (B, T, 8)
    found = {}
    every = windows(MASK if masked else np.ones_like(MASK), RESET if resets else np.zeros_like(RESET))
    for b in range(B):
        for t in range(T):
            for place, window in enumerate(every[b][t]):
                embedded = tuple(ys[b, t, 4 * place : 4 * place + 4].tolist())
                if window is None:
                    assert embedded == (0, 0, 0, 0)
                else:
                    assert found.setdefault((place, window), embedded) == embedded
    assert len(set(found.values())) == len(found) > 30


def test_chunks_are_the_whole():
    layer = make(16)
    want_carry, want = unroll(layer, IDS, None, MASK, RESET)
    carry, first = unroll(layer, IDS[:, :13], None, MASK[:, :13], RESET[:, :13])
    carry, second = unroll(layer, IDS[:, 13:], carry, MASK[:, 13:], RESET[:, 13:])
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), want)
    np.testing.assert_array_equal(carry, want_carry)
    assert unroll(layer, IDS[:, :0], carry, MASK[:, :0], RESET[:, :0])[1].shape == (B, 0, 8)
    np.testing.assert_array_equal(unroll(layer, IDS[0], None, MASK[0], RESET[0])[1], np.asarray(want)[0])


def test_buckets_fill_evenly_and_rows_start_at_zero():
    layer = NGramEmbedding(nn.NGrams((6,), 64, 2), given(None, None, nnx.Rngs(0)))
    assert not np.any(layer.table.embedding[...])
    ids = RANDOM.integers(0, 80, (6400, 6))
    counts = np.bincount(np.asarray(jax.jit(layer._rows)(ids))[:, 0], minlength=64)
    assert len(counts) == 64
    assert np.sum((counts - 100) ** 2 / 100) < 104  # chi-squared of 63 degrees of freedom: p = 0.001


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        (nn.NGrams(()), r"`ngrams.orders` must be numbers of 2 or more; got \(\)"),
        (nn.NGrams((1, 2)), r"`ngrams.orders` must be numbers of 2 or more; got \(1, 2\)"),
        (nn.NGrams((2,), buckets=0), "`ngrams.buckets` must be a positive int"),
        (nn.NGrams((2,), features=0), "`ngrams.features` must be a positive int"),
    ],
)
def test_errors(ngrams, message):
    with pytest.raises(ValueError, match=message):
        NGramEmbedding(ngrams, given(None, None, nnx.Rngs(0)))


@pytest.mark.parametrize("orders", [3, "23"])
def test_orders_are_a_sequence(orders):
    with pytest.raises(TypeError, match=f"`ngrams.orders` must be a sequence of ints; got {orders!r}"):
        NGramEmbedding(nn.NGrams(orders), given(None, None, nnx.Rngs(0)))
