"""Greedy decoding and beam search against all sequences, written out."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import decoding
from tests.decoding import by_hand
from tests.decoding.by_hand import ROWS, START, V, rows_of
from tests.untyped import untyped

END, T = 2, 4
beam_search = jax.jit(decoding.beam_search, static_argnames=("step", "size", "max_length", "end", "penalty", "allowed"))
greedy = jax.jit(decoding.greedy, static_argnames=("step", "max_length", "end", "allowed"))
sample = jax.jit(
    decoding.sample,
    static_argnames=("step", "max_length", "end", "allowed", "temperature", "top_k", "top_p", "typical"),
)


def assert_the_same(tokens, scores, want):
    """Sequences of the same transitions have the same score, and come in any order."""
    np.testing.assert_allclose(scores, [score for score, _ in want], rtol=1e-12)
    score_of = {tokens: score for score, tokens in want}
    assert set(tokens) == set(score_of)
    np.testing.assert_allclose(scores, [score_of[row] for row in tokens], rtol=1e-12)


@pytest.mark.some(2)
@pytest.mark.parametrize("end", [END, None])
@pytest.mark.parametrize(("length_penalty", "penalty"), [(0.0, "gnmt"), (0.8, "gnmt"), (1.0, "power")])
def test_a_beam_of_all_sequences_is_exhaustive(end, length_penalty, penalty, x64):
    size = V**T
    options = {"size": size, "max_length": T, "end": end, "length_penalty": length_penalty, "penalty": penalty}
    found = beam_search(by_hand.step, by_hand.carry(), START, **options)
    assert found.tokens.shape == (T, ROWS, size)
    found = jax.tree.map(np.asarray, found)
    for row, tokens in enumerate(rows_of(found)):
        want = by_hand.best(row, T, end, length_penalty, penalty)
        assert_the_same(tokens[: len(want)], found.scores[row, : len(want)], want)
        log_probs = [by_hand.log_prob(row, row_tokens) for row_tokens in tokens[: len(want)]]
        np.testing.assert_allclose(found.log_probs[row, : len(want)], log_probs, rtol=1e-12)
        assert np.all(np.isneginf(found.log_probs[row, len(want) :]))
        assert np.all(np.isneginf(found.scores[row, len(want) :]))
        assert np.all(found.lengths[row, len(want) :] == 0)


@pytest.mark.parametrize("end", [END, None])
def test_greedy_is_a_beam_of_one_and_the_best_step_by_step(end, x64):
    found = greedy(by_hand.step, by_hand.carry(), START, max_length=T, end=end)
    found = jax.tree.map(np.asarray, found)
    for row, (tokens, score) in enumerate(zip(rows_of(found), found.scores, strict=True)):
        want = []
        while len(want) < T and not (want and want[-1] == end):
            want.append(int(np.argmax(by_hand.log_probs(row, want))))
        assert tokens == tuple(want)
        np.testing.assert_allclose(score, by_hand.log_prob(row, want), rtol=1e-12)
    beam = beam_search(by_hand.step, by_hand.carry(), START, size=1, max_length=T, end=end)
    beam = jax.tree.map(np.asarray, beam)
    np.testing.assert_array_equal(beam.tokens[..., 0], found.tokens)
    np.testing.assert_array_equal(beam.lengths[:, 0], found.lengths)
    np.testing.assert_allclose(beam.scores[:, 0], found.scores, rtol=1e-12)


def beam_by_hand(row, size, max_length, end, length_penalty, penalty):
    """As the module says it, with lists."""
    live, finished = [((), 0.0)], []
    for n in range(1, max_length + 1):
        longer = [((*tokens, v), p + by_hand.log_probs(row, tokens)[v]) for tokens, p in live for v in range(V)]
        longer.sort(key=lambda pair: -pair[1])
        for place, (tokens, p) in enumerate(longer[: 2 * size]):
            if n == max_length or (tokens[-1] == end and place < size):
                finished.append((by_hand.penalised(p, n, length_penalty, penalty), tokens))
        live = [pair for pair in longer if pair[0][-1] != end][:size]
        finished = sorted(finished, key=lambda pair: -pair[0])[:size]
    return finished


@pytest.mark.some(6)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(("length_penalty", "penalty"), [(0.0, "gnmt"), (1.3, "gnmt"), (0.0, "power"), (1.3, "power")])
def test_small_beams_by_hand(size, length_penalty, penalty, x64):
    options = {"size": size, "max_length": 7, "end": END, "length_penalty": length_penalty, "penalty": penalty}
    found = beam_search(by_hand.step, by_hand.carry(), START, **options)
    found = jax.tree.map(np.asarray, found)
    for row, tokens in enumerate(rows_of(found)):
        want = beam_by_hand(row, size, 7, END, length_penalty, penalty)
        assert tokens == [tokens for _, tokens in want]
        np.testing.assert_allclose(found.scores[row], [score for score, _ in want], rtol=1e-12)
        np.testing.assert_allclose(found.log_probs[row], [by_hand.log_prob(row, t) for _, t in want], rtol=1e-12)


def never_twice(tokens, t):
    """What no token may: to follow itself, or to be 1 at the fourth place."""
    before = tokens[jnp.maximum(t - 1, 0)]
    repeats = (jnp.arange(V) == before[:, None]) & (t > 0)
    return ~repeats & ((jnp.arange(V) != 1) | (t != 3))


def may_follow(tokens, token):
    return (not tokens or tokens[-1] != token) and (len(tokens) != 3 or token != 1)


def test_what_is_not_allowed_is_not_found(x64):
    found = beam_search(by_hand.step, by_hand.carry(), START, size=V**T, max_length=T, end=END, allowed=never_twice)
    found = jax.tree.map(np.asarray, found)
    for row, tokens in enumerate(rows_of(found)):
        want = by_hand.best(row, T, END, allowed=may_follow)
        assert_the_same(tokens[: len(want)], found.scores[row, : len(want)], want)
        assert np.all(found.lengths[row, len(want) :] == 0)
    for decoded in (
        greedy(by_hand.step, by_hand.carry(), START, max_length=T, end=END, allowed=never_twice),
        sample(jax.random.key(0), by_hand.step, by_hand.carry(), START, max_length=T, allowed=never_twice),
    ):
        for tokens in rows_of(decoded):
            assert all(may_follow(tokens[:t], token) for t, token in enumerate(tokens))


def test_where_nothing_is_allowed_nothing_is_found():
    nothing = lambda tokens, t: jnp.zeros((tokens.shape[1], V), bool)
    found = beam_search(by_hand.step, by_hand.carry(), START, size=2, max_length=T, allowed=nothing)
    found = jax.tree.map(np.asarray, found)
    assert np.all(found.tokens == -1)
    assert np.all(found.lengths == 0)
    assert np.all(np.isneginf(found.scores))
    assert np.all(np.isneginf(greedy(by_hand.step, by_hand.carry(), START, max_length=2, allowed=nothing).scores))


def test_the_loop_ends_early():
    """A step that is never reached must not count: a model of which every row ends at once."""
    ends = np.log(np.array([0.1, 0.2, 0.7], np.float32))

    def step(carry, token):
        return carry + 1, jnp.where(carry[:, None] > 0, jnp.nan, ends)

    @jax.jit
    def run(carry):
        return (
            decoding.greedy(step, carry, 0, max_length=9, end=END),
            decoding.beam_search(step, carry, 0, size=1, max_length=9, end=END),
        )

    for found in run(np.zeros(2, np.int32)):
        assert rows_of(found) in ([(END,), (END,)], [[(END,)], [(END,)]])
        np.testing.assert_allclose(np.ravel(found.scores), np.log(0.7), rtol=1e-6)


def test_samples_have_the_probabilities_of_sequences():
    N = 20_000
    carry = {"row": np.full(N, 1, np.int32), "before": np.full((N, 1), START[1], np.int32)}
    run = jax.jit(lambda key: decoding.sample(key, by_hand.step, carry, int(START[1]), max_length=3, end=END))
    found = run(jax.random.key(0))
    rows = rows_of(found)
    for score, tokens in by_hand.best(1, 3, END):
        p = np.exp(score)
        assert abs(rows.count(tokens) / N - p) <= 5 * np.sqrt(p * (1 - p) / N)
    want = [by_hand.log_prob(1, tokens) for tokens in rows[:50]]
    np.testing.assert_allclose(np.asarray(found.scores)[:50], want, rtol=1e-5)


def test_samples_at_temperature_0_are_greedy_and_options_reach_the_draw():
    key, carry = jax.random.key(0), by_hand.carry()
    want = greedy(by_hand.step, carry, START, max_length=T, end=END)
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}):
        found = sample(key, by_hand.step, carry, START, max_length=T, end=END, **options)
        np.testing.assert_array_equal(found.tokens, want.tokens)
        np.testing.assert_allclose(found.scores, want.scores, rtol=1e-6)
    found = sample(None, by_hand.step, carry, START, max_length=T, end=END, temperature=0)
    np.testing.assert_array_equal(found.tokens, want.tokens)
    typical = sample(key, by_hand.step, carry, START, max_length=1, typical=1e-6)
    log_p = np.array([by_hand.log_probs(row, ()) for row in range(ROWS)])
    surprise = np.abs(log_p - (np.exp(log_p) * log_p).sum(-1, keepdims=True))
    np.testing.assert_array_equal(np.asarray(typical.tokens)[0], np.argmin(surprise, -1))


def test_one_start_for_all_rows_batch_axes_and_no_carry():
    transition = np.float32(by_hand.TABLE[0, 0])
    free = lambda carry, token: (carry, jnp.asarray(transition)[token])
    ones = np.ones((2, 3), np.int32)

    @jax.jit
    def run(carry):
        return (
            decoding.greedy(free, None, np.array([1]), max_length=T).tokens,
            decoding.greedy(free, None, ones, max_length=T).tokens,
            decoding.beam_search(free, None, ones, size=2, max_length=T).tokens,
            decoding.beam_search(free, None, np.array(1), size=2, max_length=T).tokens,
            decoding.greedy(by_hand.step, carry, 1, max_length=T).tokens,
            decoding.greedy(by_hand.step, carry, np.ones(ROWS, int), max_length=T).tokens,
        )

    one, both, beams, alone, same, of_ones = map(np.asarray, run(by_hand.carry()))
    np.testing.assert_array_equal(both, np.broadcast_to(one[..., None], (T, 2, 3)))
    assert beams.shape == (T, 2, 3, 2)
    np.testing.assert_array_equal(beams[..., 0], np.broadcast_to(beams[:, :1, :1, 0], (T, 2, 3)))
    np.testing.assert_array_equal(same, of_ones)
    np.testing.assert_array_equal(alone, beams[:, 0, 0])


def call(function=decoding.greedy, step=by_hand.step, carry=None, start=START, **options):
    return function(step, by_hand.carry() if carry is None else carry, start, **{"max_length": 2, **options})


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: call(max_length=0), ValueError, "`max_length` must be a positive int; got 0"),
        (lambda: call(end=V), ValueError, r"`end` must be one of the V = 3 tokens, 0 to 2, or None; got 3"),
        (lambda: call(start=START * 1.0), TypeError, r"`start` must be int \[B\], one token per row; got float"),
        (
            lambda: decoding.greedy(
                lambda carry, token: (token, jnp.zeros((1, V), jnp.float32)), None, START[:1], max_length=1
            ),
            ValueError,
            r"such as model\.initial_carry",
        ),
        (lambda: call(start=untyped("a")), TypeError, "`start` must be an int, 0 or more; got 'a'"),
        (
            lambda: call(start=START[:2]),
            ValueError,
            r"`start`, one token per row, and `carry` must have the same batch axes, \(2,\) for",
        ),
        (
            lambda: decoding.greedy(
                lambda carry, token: (carry, jnp.zeros((1, V), jnp.float32)), None, 0, max_length=1
            ),
            ValueError,
            r"`start` must be int \[B\], because there is no `carry`",
        ),
        (lambda: call(step=lambda carry, token: carry), TypeError, r"`step` must return \(carry, logits \[B, V\]\)"),
        (
            lambda: call(step=lambda carry, token: (carry["row"], np.zeros((ROWS, V), np.float32))),
            ValueError,
            "`step` must return a carry like the one that it is given",
        ),
        (
            lambda: call(step=lambda carry, token: (carry, np.zeros((V, ROWS), np.float32))),
            ValueError,
            r"`step` must return logits \[B, V\] of the batch \(4,\); got float32 \(3, 4\)",
        ),
        (
            lambda: call(allowed=lambda tokens, t: np.ones((V,), bool)),
            ValueError,
            r"`allowed` must be bool \[B, V\] = \(4, 3\)",
        ),
        (
            lambda: call(step=None),
            TypeError,
            r"`step` must be a function \(carry, token\) -> \(carry, logits\); got None",
        ),
        (lambda: call(step=lambda carry: carry), TypeError, "`step` must be a function of 2 arguments by position"),
        (lambda: call(allowed=3), TypeError, "`allowed` must be a function of 2 arguments by position; got 3"),
        (lambda: call(decoding.beam_search, size=0), ValueError, "`size` must be a positive int; got 0"),
        (
            lambda: call(decoding.beam_search, size=1, length_penalty=-1.0),
            ValueError,
            "`length_penalty` must be a number of at least 0; got -1.0",
        ),
        (
            lambda: call(decoding.beam_search, size=1, penalty="mean"),
            ValueError,
            "`penalty` must be 'gnmt' or 'power'; got 'mean'",
        ),
        (
            lambda: decoding.sample(None, by_hand.step, by_hand.carry(), START, max_length=2),
            ValueError,
            "`key` must be a jax.random.key; it may be None only if temperature=0, which is greedy",
        ),
    ],
)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()


def test_nan_is_never_the_best():
    table = np.random.default_rng(0).normal(size=(V, V))
    step = lambda carry, token: (carry, jnp.where(token[:, None] == 1, jnp.nan, jnp.asarray(table)[token]))

    @jax.jit
    def run(starts):
        return (
            decoding.beam_search(step, None, starts[:1], size=8, max_length=3),
            decoding.greedy(step, None, starts[1:], max_length=3),
        )

    found, greedy = jax.tree.map(np.asarray, run(np.array([0, 1], np.int32)))
    log_p = table - np.log(np.exp(table).sum(-1, keepdims=True))
    want = [
        (sum(log_p[a, b] for a, b in itertools.pairwise((0, *t))), t) for t in itertools.product((0, 1, 2), repeat=3)
    ]
    want = [tokens for _, tokens in sorted(want, reverse=True) if 1 not in tokens[:2]]
    assert rows_of(found)[0] == (want + [()] * 8)[:8]
    assert greedy.tokens.ravel().tolist() == [-1, -1, -1]
    assert greedy.lengths[0] == 0
    assert np.isnan(greedy.scores[0])


def test_a_temperature_is_one_number():
    for name in ("temperature", "top_p", "typical"):
        with pytest.raises(ValueError, match=rf"`{name}` must be one number .*; got float32 \(2,\)"):
            decoding.filter_logits(np.zeros((2, 3), np.float32), **untyped({name: np.ones(2, np.float32)}))


@pytest.mark.parametrize(
    "bad",
    [np.float32(np.nan), np.array(-1.0), 10**400, "a", None, np.ones(2), 1j, True, np.array("a")],
    ids=lambda bad: repr(bad)[:20],
)
def test_numbers_are_looked_at_as_arrays_too(bad):
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises((TypeError, ValueError), match="`temperature` must be"):
        decoding.filter_logits(logits, temperature=bad)
    with pytest.raises((TypeError, ValueError), match="`length_penalty` must be"):
        call(decoding.beam_search, size=1, length_penalty=bad)
    if bad is not None:
        with pytest.raises((TypeError, ValueError), match="`top_p` must be"):
            decoding.draw(jax.random.key(0), logits, top_p=bad)


def test_where_a_model_says_that_nothing_follows():
    step = lambda carry, token: (carry, jnp.full((len(token), V), -jnp.inf))

    @jax.jit
    def run(start):
        return (
            decoding.greedy(step, None, start, max_length=2).scores,
            decoding.beam_search(step, None, start, size=2, max_length=2).scores,
        )

    assert all(np.all(np.isneginf(scores)) for scores in run(START))
    with pytest.raises(ValueError, match=r"`logits` must be \[..., V\] with V of at least 1"):
        decoding.filter_logits(np.zeros((2, 0), np.float32))
    np.testing.assert_array_equal(decoding.filter_logits(np.ones(2, np.float32), temperature=np.array(0.5)), [2, 2])


def test_rows_of_two_batch_axes_are_their_own():
    options: dict[str, Any] = {"size": 3, "max_length": T, "end": END}
    flat = jax.tree.map(np.asarray, beam_search(by_hand.step, by_hand.carry(), START, **options))
    carry = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), by_hand.carry())
    folded = jax.tree.map(np.asarray, decoding.beam_search(by_hand.step, carry, START.reshape(2, 2), **options))
    np.testing.assert_array_equal(folded.tokens.reshape(flat.tokens.shape), flat.tokens)
    np.testing.assert_allclose(folded.scores.reshape(flat.scores.shape), flat.scores, rtol=1e-6)
