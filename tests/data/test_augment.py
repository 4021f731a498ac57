import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.data import feature_mask, jitter, time_mask, token_dropout
from tests.untyped import untyped

KEY, OTHER_KEY = (jax.random.key(seed, impl="rbg") for seed in range(2))  # compiled sooner than the default kind
T, D, WIDTH = 12, 5, 4
LENGTHS = np.arange(4000) % (T + 1)
PATTERN = np.isin(np.arange(T), [1, 2, 5, 7, 8, 11])
MASK = np.concatenate([np.arange(T) < LENGTHS[:, None], np.tile(PATTERN, [1000, 1])])
B = len(MASK)
XS = np.where(MASK[..., None], np.random.default_rng(0).uniform(1, 2, (B, T, D)), np.nan).astype(np.float32)
SCALE = np.array([0.0, 0.5, 1.0, 2.0, 3.0], np.float32)

AUGMENTATIONS = {
    "time_mask": functools.partial(time_mask, spans=1, width=WIDTH, mask=MASK, value=-1.0),
    "two spans": functools.partial(time_mask, spans=2, width=WIDTH),
    "feature_mask": functools.partial(feature_mask, spans=1, width=D, value=-SCALE),
    "jitter": functools.partial(jitter, scale=SCALE, mask=MASK),
}


@functools.cache
def compiled(name):
    """The augmented xs, and the gradient of the sum of their real steps."""

    def loss(xs, key):
        ys = AUGMENTATIONS[name](key, xs)
        return jnp.sum(ys, where=MASK[..., None]), ys

    return jax.jit(lambda key: jax.grad(loss, has_aux=True)(jnp.asarray(XS), key))


def draw(name, key=KEY) -> np.ndarray:
    return np.asarray(compiled(name)(key)[1])


def runs(hidden):
    """The start and the width of the one run of True in each row; a row without has the width 0."""
    edges = np.diff(np.pad(hidden.astype(int), [(0, 0), (1, 1)]), axis=1)
    assert ((edges == 1).sum(axis=1) <= 1).all()
    return edges.argmax(axis=1), hidden.sum(axis=1)


def drawn_from(values, shares):
    """Whether ints 0 … n - 1 were drawn with these probabilities, to 5 standard deviations."""
    shares, n = np.asarray(shares), len(values)
    counts = np.bincount(values, minlength=len(shares))
    return len(counts) == len(shares) and np.all(np.abs(counts - n * shares) <= 5 * np.sqrt(n * shares * (1 - shares)))


def test_time_mask_hides_whole_steps_and_leaves_the_others():
    xs = draw("time_mask")
    hidden = (xs == -1).all(axis=2)
    np.testing.assert_array_equal(xs[~hidden], XS[~hidden])
    assert not (hidden & ~MASK).any()


def test_widths_and_starts_of_time_mask_are_uniform_within_each_length():
    starts, widths = runs((draw("time_mask")[:4000] == -1).all(axis=2))
    for length in range(T + 1):
        cut = np.minimum(np.arange(WIDTH + 1), length)  # wider spans are cut to the row
        assert drawn_from(widths[length == LENGTHS], np.bincount(cut) / (WIDTH + 1))
    for width in range(1, WIDTH + 1):
        places = T - width + 1
        assert drawn_from(starts[(LENGTHS == T) & (widths == width)], np.full(places, 1 / places))


def test_time_mask_counts_real_steps_where_padding_lies_between():
    _, widths = runs((draw("time_mask")[4000:] == -1).all(axis=2)[:, PATTERN])
    assert drawn_from(widths, np.full(WIDTH + 1, 1 / (WIDTH + 1)))


def test_spans_of_a_row_are_drawn_each_for_itself():
    hidden = (draw("two spans") == 0).all(axis=2)
    lone = np.zeros([WIDTH + 1, 2 * WIDTH + 1])
    for first in range(WIDTH + 1):  # all that two spans may cover
        for other in range(WIDTH + 1):
            for a in range(T - first + 1):
                for b in range(T - other + 1):
                    covered = len({*range(a, a + first), *range(b, b + other)})
                    lone[first, covered] += 1 / ((WIDTH + 1) ** 2 * (T - first + 1) * (T - other + 1))
    assert drawn_from(hidden.sum(axis=1), lone.sum(axis=0))


def test_feature_mask():
    xs = draw("feature_mask")
    hidden = np.any(xs[MASK.any(axis=1)] <= 0, axis=1)
    np.testing.assert_array_equal(xs[MASK.any(axis=1)], np.where(hidden[:, None], -SCALE, XS[MASK.any(axis=1)]))
    starts, widths = runs(hidden)
    assert drawn_from(widths, np.full(D + 1, 1 / (D + 1)))
    assert drawn_from(starts[widths == 2], np.full(D - 1, 1 / (D - 1)))


def test_jitter():
    noise = (draw("jitter") - XS)[MASK]
    n = len(noise)
    np.testing.assert_array_less(np.abs(noise.mean(axis=0)), 5 * SCALE / np.sqrt(n) + 1e-9)
    np.testing.assert_allclose(noise.std(axis=0), SCALE, rtol=5 / np.sqrt(2 * n))
    assert np.abs(np.corrcoef(noise[:, 1:].T) - np.eye(D - 1)).max() < 5 / np.sqrt(n)
    assert np.isnan(draw("jitter")[~MASK]).all()


def test_token_dropout():
    ids = np.full((B, T), 7, np.int32)
    got = np.asarray(token_dropout(KEY, ids, 0.3, 1, mask=MASK))
    assert got.dtype == np.int32
    assert (got[~MASK] == 7).all()
    assert set(np.unique(got)) == {1, 7}
    assert drawn_from((got[MASK] == 1).astype(int), [0.7, 0.3])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_padding_reaches_no_gradient_and_keys_differ(name):
    gradient, xs = compiled(name)(KEY)
    assert np.isfinite(gradient).all()
    assert np.isfinite(np.asarray(xs)[MASK]).all()
    np.testing.assert_array_equal(gradient, MASK[..., None] & ((xs > 0) | (name == "jitter")))
    assert (draw(name)[MASK] != draw(name, OTHER_KEY)[MASK]).any()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_key_no_change_and_dtypes_are_kept(name):
    xs = jnp.asarray(XS)
    assert AUGMENTATIONS[name](None, xs) is xs
    assert jax.eval_shape(AUGMENTATIONS[name], KEY, xs.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_token_dropout_without_a_key():
    ids = jnp.ones([2, 3], int)
    assert token_dropout(None, ids, 0.3, 1) is ids


def test_empty_batches_and_sequences():
    for shape in ((0, 3, 2), (2, 0, 2)):
        for augment in (
            functools.partial(time_mask, spans=1, width=1),
            functools.partial(feature_mask, spans=1, width=1),
        ):
            assert jax.eval_shape(augment, KEY, jnp.ones(shape)).shape == shape


X, IDS = jnp.ones([2, 3, 4]), jnp.ones([2, 3], int)
BAD = {
    "key": (
        lambda: time_mask(untyped(3), X, spans=1, width=1),
        TypeError,
        r"`key` must be a jax.random.key or None; got int",
    ),
    "spans": (lambda: time_mask(KEY, X, spans=0, width=1), ValueError, r"`spans` must be a positive int; got 0"),
    "width": (
        lambda: time_mask(None, X, spans=1, width=untyped(0.5)),
        TypeError,
        r"`width` must be a positive int; got 0.5",
    ),
    "mask": (
        lambda: time_mask(KEY, X, spans=1, width=1, mask=jnp.ones([2, 3])),
        TypeError,
        r"bool \[B, T\] = \(2, 3\)",
    ),
    "time-major mask": (lambda: jitter(KEY, X, 1.0, mask=jnp.ones([3, 2], bool)), ValueError, r"`mask` must be bool"),
    "axes": (lambda: jitter(KEY, X[0], 1.0), ValueError, r"`xs` must be \[B, T, D\]; got \(3, 4\)"),
    "ids": (lambda: jitter(KEY, X.astype(int), 1.0), TypeError, r"`xs` must be floating \[B, T, D\]; got int32"),
    "a list": (lambda: jitter(KEY, untyped([[[1.0]]]), 1.0), TypeError, r"`xs` must be an array \[B, T, D\]; got list"),
    "scale": (
        lambda: jitter(None, X, jnp.ones(3)),
        ValueError,
        r"`scale` must be a number, or \[D\] = \(4,\); got .*\(3,\)",
    ),
    "features": (
        lambda: feature_mask(None, X, spans=1, width=5),
        ValueError,
        r"`width` must be at most D = 4, .*; got 5",
    ),
    "floats": (lambda: token_dropout(KEY, X[0], 0.1, 1), TypeError, r"`ids` must be int \[B, T\]; got float32"),
    "rate": (lambda: token_dropout(KEY, IDS, 1.0, 1), ValueError, r"`rate` must be a rate in \[0, 1\); got 1.0"),
    "unknown": (
        lambda: token_dropout(KEY, IDS, 0.1, untyped("<unk>")),
        TypeError,
        r"`unknown` must be an int, .*; got '<unk>'",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
