"""The recurrence for a linear step of one's own: against a plain loop, and what it refuses."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import semiring
from tests.untyped import untyped

T, B, K = 5, 2, 3
GENERATOR = np.random.default_rng(0)
START = GENERATOR.normal(size=(B, K)).astype(np.float32)
STEPS = {"scores": GENERATOR.normal(size=(T, 1, K, K)).astype(np.float32)}
MASK = np.array([[True, True], [False, True], [True, True], [True, False], [True, True]])


def move(v, step):
    return semiring.log_sum(v[..., None] + step["scores"], -2)


run = functools.partial(semiring.run, semiring.log, move)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_step_of_ones_own_against_a_loop(parallel):
    messages = run(START, STEPS, MASK, parallel=parallel)
    v = START.astype(np.float64)
    for t in range(T):
        moved = np.logaddexp.reduce(v[:, :, None] + STEPS["scores"][t], axis=1)
        v = np.where(MASK[t][:, None], moved, v)
    got = messages.last + jnp.sum(messages.scale, 0)[:, None]
    np.testing.assert_allclose(got, v, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: semiring.run(untyped(None), move, START, STEPS),
            TypeError,
            "`semiring` must be a Semiring.*; got None",
        ),
        (
            lambda: semiring.run(semiring.log, untyped(lambda: 0), START, STEPS),
            TypeError,
            "`move` must be a function of 2",
        ),
        (lambda: run(untyped("a"), STEPS), TypeError, r"`start` must be an array \[B, K\]; got str"),
        (lambda: run(START[:, :0], STEPS), ValueError, r"`start` must be \[B, K\], with at least one state"),
        (lambda: run(START.astype(int), STEPS), TypeError, r"`start` must be floating \[B, K\]"),
        (
            lambda: run(START, {"scores": np.full((T, K), "a")}),
            TypeError,
            r"`steps\['scores'\]` must hold numbers",
        ),
        (lambda: run(START, {}), ValueError, r"`steps` must be arrays \[T, ...\], at least one"),
        (lambda: run(START, {**STEPS, "of": np.ones(T - 1)}), ValueError, "`steps` must be .*, and all of one T; got"),
        (lambda: run(START, STEPS, MASK.T), ValueError, r"`mask` must be bool \[T, B\] = \(5, 2\).*batch-major"),
        (lambda: run(START, STEPS, MASK, reverse=untyped("no")), TypeError, "`reverse` must be a Python bool"),
        (
            lambda: run(START, STEPS, MASK, parallel=untyped("no")),
            TypeError,
            "`parallel` must be True, False or a .*; got 'no'",
        ),
        (
            lambda: semiring.run(semiring.log, lambda v, step: v[..., 0], START, STEPS),
            ValueError,
            r"`move` must return a v like that of `start`; for a v float32 \(2, 3\) and .* it returned float32 \(2,\)",
        ),
        (lambda: semiring.log_sum(untyped("a"), 0), TypeError, "`x` must be an array"),
        (
            lambda: semiring.log_sum(START, untyped(0.5)),
            TypeError,
            "`axis` must be an int, or a tuple of them; got 0.5",
        ),
        (
            lambda: semiring.log_sum(START, 2),
            ValueError,
            r"`axis` must be one of the 2 axes of float32 \(2, 3\)",
        ),
        (lambda: semiring.scaled(START * 1j), TypeError, r"`v` must be real numbers \[..., K\]; got complex64"),
        (lambda: semiring.scaled(START[:, :0]), ValueError, "`v` must have at least one entry along `axis` -1"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("parallel", [False, True])
def test_what_fails_inside_a_move_is_told_with_what_it_was_given(parallel):
    with pytest.raises(TypeError) as caught:
        semiring.run(semiring.log, lambda v, step: v + step, jnp.asarray(START), STEPS, parallel=parallel)
    assert any("`move` was given a v float32" in note and "`steps`" in note for note in caught.value.__notes__)
