"""Speculative decoding writes as the target model does, whatever the draft model guesses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq import decoding
from tests.decoding import by_hand
from tests.decoding.by_hand import ROWS, START, V, rows_of
from tests.untyped import untyped

END = 2
OTHER = np.random.default_rng(1).normal(0, 1.5, (V, V))


def draft(carry, token):
    """A model of the last token alone, that counts its steps."""
    return carry + 1, jnp.asarray(OTHER, jnp.result_type(float))[token]


speculative = jax.jit(
    decoding.speculative,
    static_argnames=("step", "draft", "max_length", "end", "ahead", "temperature", "read"),
)
greedy = jax.jit(decoding.greedy, static_argnames=("step", "max_length", "end"))


@pytest.mark.some(1)
@pytest.mark.parametrize("ahead", [1, 3, 9])
def test_at_temperature_0_it_is_greedy(ahead, x64):
    want = greedy(by_hand.step, by_hand.carry(), START, max_length=8, end=END)
    for guesser, guess_carry in ((draft, np.zeros(ROWS, np.int32)), (by_hand.step, by_hand.carry())):
        found = speculative(
            jax.random.key(0), by_hand.step, by_hand.carry(), guesser, guess_carry, START,
            max_length=8, end=END, ahead=ahead, temperature=0.0,
        )  # fmt: skip
        np.testing.assert_array_equal(found.tokens, want.tokens)
        np.testing.assert_array_equal(found.lengths, want.lengths)
        np.testing.assert_allclose(found.scores, want.scores, rtol=1e-12)
        assert np.all(np.asarray(found.rounds) <= np.asarray(found.lengths))
    np.testing.assert_array_equal(found.rounds, -(-np.asarray(found.lengths) // (ahead + 1)))  # all guesses are right


@pytest.mark.some(1)
@pytest.mark.parametrize("own", [False, True])
def test_draws_have_the_probabilities_of_sequences(own):
    N, row = 30_000, 1
    carry = {"row": np.full(N, row, np.int32), "before": np.full((N, 1), START[row], np.int32)}
    guesser, guess_carry = (by_hand.step, carry) if own else (draft, np.zeros(N, np.int32))

    @jax.jit
    def run(key):
        start = int(START[row])
        return decoding.speculative(
            key, by_hand.step, carry, guesser, guess_carry, start, max_length=3, end=END, ahead=2
        )

    found = run(jax.random.key(0))
    rows = rows_of(found)
    for score, tokens in by_hand.best(row, 3, END):
        p = np.exp(score)
        assert abs(rows.count(tokens) / N - p) <= 5 * np.sqrt(p * (1 - p) / N), tokens
    np.testing.assert_allclose(
        np.asarray(found.scores)[:50], [by_hand.log_prob(row, tokens) for tokens in rows[:50]], rtol=1e-5
    )


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "options",
    [{"top_k": 2}, {"top_p": 0.7}, {"typical": 0.6}, {"temperature": 0.5}, {"top_k": 2, "temperature": 1.5}],
    ids=str,
)
def test_draws_are_from_what_the_filters_leave_over_any_batch_axes(options):
    half, row, length = 10_000, 2, 2
    carry = {"row": np.full((2, half), row, np.int32), "before": np.full((2, half, 1), START[row], np.int32)}

    def step(carry, token):
        logits = jnp.asarray(by_hand.TABLE, jnp.float32)[carry["row"], carry["before"][..., 0], token]
        return {"row": carry["row"], "before": token[..., None]}, logits

    @jax.jit
    def run(key):
        start, guesses = jnp.full((2, half), START[row]), (draft, jnp.zeros((2, half), jnp.int32))
        return decoding.speculative(key, step, carry, *guesses, start, max_length=length, ahead=3, **options)

    found = run(jax.random.key(1))
    assert found.tokens.shape == (length, 2, half)
    assert found.scores.shape == found.rounds.shape == (2, half)
    written = list(by_hand.sequences(length, None))
    parts = np.array([[by_hand.log_probs(row, tokens[:t]) for t in range(length)] for tokens in written])
    softmax = jax.jit(lambda logits: jax.nn.softmax(decoding.filter_logits(logits, **options)))
    shares = np.take_along_axis(np.asarray(softmax(np.float32(parts))), np.array(written)[..., None], -1)
    p = dict(zip(written, shares.prod((1, 2)).tolist(), strict=True))
    np.testing.assert_allclose(sum(p.values()), 1, rtol=1e-5)
    for half_of in np.moveaxis(np.asarray(found.tokens), 1, 0):
        rows = [tuple(row.tolist()) for row in half_of.T]
        for tokens, share in p.items():
            assert abs(rows.count(tokens) / half - share) <= 5 * np.sqrt(share * (1 - share) / half), tokens


def test_many_steps_at_once_are_read_by_read():
    def read(carry, tokens):
        seen = jnp.concatenate([carry["before"].T, tokens])  # [1 + n, B]
        logits = jnp.asarray(by_hand.TABLE, jnp.float32)[carry["row"], seen[:-1], seen[1:]]

        def after(count):
            return {"row": carry["row"], "before": jnp.take_along_axis(seen, count[None], axis=0).T}

        return logits, after

    options = {"max_length": 9, "end": END, "ahead": 3}
    arguments = jax.random.key(3), by_hand.step, by_hand.carry(), draft, np.zeros(ROWS, np.int32), START
    one, other = (speculative(*arguments, **options, read=how) for how in (None, read))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one, other)


def test_errors():
    arguments = (
        by_hand.step,
        by_hand.carry(),
        lambda carry, token: (carry, jnp.zeros((ROWS, 5), jnp.float32)),
        None,
        START,
    )
    with pytest.raises(ValueError, match="`draft` must return logits of the V = 3 tokens of `step`; got 5"):
        decoding.speculative(jax.random.key(0), *arguments, max_length=2)
    with pytest.raises(TypeError, match=r"`key` must be a jax\.random\.key, to draw by; got NoneType"):
        decoding.speculative(untyped(None), *arguments, max_length=2)
    with pytest.raises(ValueError, match="`ahead` must be a positive int; got 0"):
        decoding.speculative(jax.random.key(0), *arguments, max_length=2, ahead=0)
    of_more_rows = (*arguments[:3], np.zeros((ROWS + 1, 2), np.float32), START)
    with pytest.raises(ValueError, match="`start`, one token per row, and `draft_carry` must have the same batch"):
        decoding.speculative(jax.random.key(0), *of_more_rows, max_length=2)
