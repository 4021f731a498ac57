"""Prefix beam search against all paths, where it holds every prefix, and against dictionaries, where it does not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import ctc
from tests.structured import ctc_by_hand as by_hand
from tests.untyped import untyped

V = 4
TRIGRAMS = np.random.default_rng(0).normal(0, 2, (V, V, V))  # logits after two tokens


def trigrams(carry, tokens):
    """A language model that remembers the token before: carry [N]."""
    return tokens, jnp.asarray(TRIGRAMS)[carry, tokens]


def trigrams_by_hand(prefix, start):
    """The logarithm of its probability of each label after a prefix."""
    before, last = (start, start, *prefix)[-2:]
    return by_hand.log_softmax(TRIGRAMS[before, last])


search = jax.jit(
    lambda log_probs, size, model=None, **options: ctc.beam_search(log_probs, size, language_model=model, **options),
    static_argnums=(1, 2),
    static_argnames=("blank", "start", "expand"),
)


def dictionary_search(log_probs, size, blank, gain, expand):
    """One row by dictionaries from prefixes to the sums of paths, `gain(prefix, label)` added at each label."""
    beam = {(): (0.0, -np.inf)}
    for frame in log_probs:
        tried = sorted((v for v in range(V) if v != blank), key=lambda v: -frame[v])[:expand]
        new = {}

        def add(prefix, ends_blank=-np.inf, ends_label=-np.inf, new=new):
            before = new.get(prefix, (-np.inf, -np.inf))
            new[prefix] = np.logaddexp(before[0], ends_blank), np.logaddexp(before[1], ends_label)

        for prefix, (ends_blank, ends_label) in beam.items():
            both = np.logaddexp(ends_blank, ends_label)
            add(prefix, ends_blank=both + frame[blank])
            if prefix:
                add(prefix, ends_label=ends_label + frame[prefix[-1]])
            for v in range(V):
                if v != blank and (v in tried or (*prefix, v) in beam):
                    paths = ends_blank if prefix[-1:] == (v,) else both
                    add((*prefix, v), ends_label=paths + frame[v] + gain(prefix, v))
        possible = [item for item in new.items() if np.logaddexp(item[1][0], item[1][1]) > -np.inf]
        beam = dict(sorted(possible, key=lambda item: -np.logaddexp(item[1][0], item[1][1]))[:size])
    return [(prefix, np.logaddexp(sums[0], sums[1])) for prefix, sums in beam.items()]


def assert_row(found, place, want, T):
    """The beam of one row is `want`, [(labels, score), ...], and what is left over of it is empty."""
    size = found.score.shape[-1]
    labels = [by_hand.padded(labels, T) for labels, _ in want] + [[-1] * T] * (size - len(want))
    assert found.labels[(slice(None), *place)].T.tolist() == labels
    assert found.lengths[place].tolist() == [len(labels) for labels, _ in want] + [0] * (size - len(want))
    np.testing.assert_allclose(found.score[place][: len(want)], [score for _, score in want], rtol=1e-10)
    assert np.all(found.score[place][len(want) :] == -np.inf)


def test_a_beam_of_all_prefixes_is_exact(x64):
    """For all masks; and what it finds is what the loss says."""
    T, V, generator = 4, 3, np.random.default_rng(1)
    masks = np.array(list(itertools.product([True, False], repeat=T))).T
    log_probs = by_hand.log_softmax(generator.normal(0, 1, (T, masks.shape[1], V)))
    log_probs[2, :3, 1] = -np.inf
    blank = 2
    found = search(np.where(masks[..., None], log_probs, np.nan), 32, mask=masks, blank=blank)
    for i in range(masks.shape[1]):
        known = by_hand.paths(log_probs[masks[:, i], i], blank)
        want = [(labels, by_hand.total(of)) for labels, of in known.items() if by_hand.total(of) > -np.inf]
        assert_row(found, (i,), sorted(want, key=lambda one: -one[1]), T)

    def loss(log_probs, labels):
        return ctc.loss(log_probs, labels, mask=masks, label_mask=labels >= 0, blank=blank)

    exact = jax.vmap(jax.jit(loss), (None, 2), 1)(log_probs, found.labels)
    real = found.score > -np.inf
    np.testing.assert_allclose(found.score[real], -exact[real], rtol=1e-10)


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("size", "blank", "expand", "options"),
    [
        (1, 0, None, {}),
        (6, 3, 2, {}),
        (4, 0, 1, {"bonus": 0.7}),
        (5, 0, 9, {"weight": 0.8, "bonus": 0.3}),
        (4, 1, 2, {"weight": 1.5, "start": 2}),
    ],
)
def test_small_beams_against_dictionaries(x64, size, blank, expand, options):
    """Prefixes fall out of the beam and come again; also with a language model that has a carry."""
    T, B, generator = 12, 6, np.random.default_rng(2)
    log_probs = by_hand.log_softmax(generator.normal(0, 1, (T, B, V)))
    mask = generator.random((T, B)) < 0.85
    mask[:, 1] = False
    weight, bonus = options.get("weight"), options.get("bonus", 0.0)
    start = options.get("start", blank)
    model, carry = (None, None) if weight is None else (trigrams, jnp.full(B, start, jnp.int32))

    def gain(prefix, label):
        return bonus + (0 if weight is None else weight * trigrams_by_hand(prefix, start)[label])

    given = np.where(mask[..., None], log_probs, np.nan)
    found = search(given, size, model, mask=mask, blank=blank, carry=carry, expand=expand, **options)
    for i in range(B):
        assert_row(found, (i,), dictionary_search(log_probs[mask[:, i], i], size, blank, gain, expand), T)


def test_prefixes_that_fall_out_and_come_again(x64):
    """Long rows with small beams and few symbols, so that equal prefixes are made again and again; no mask."""
    T, B, generator = 40, 16, np.random.default_rng(3)
    log_probs = by_hand.log_softmax(generator.normal(0, 0.5, (T, B, V)))
    found = search(log_probs, 7)
    for i in range(B):
        assert_row(found, (i,), dictionary_search(log_probs[:, i], 7, 0, lambda *_: 0, None), T)


def test_what_a_language_model_forbids_is_not_found(x64):
    log_probs = by_hand.log_softmax(np.random.default_rng(4).normal(0, 1, (6, 2, V)))

    def never_twice(carry, tokens):
        return carry, jnp.where(jnp.arange(V) == tokens[:, None], -jnp.inf, 0.0)

    def gain(prefix, label):
        return -np.inf if prefix[-1:] == (label,) else -np.log(V - 1)

    for weight, gains in ((1.0, gain), (0.0, lambda *_: 0)):
        found = search(log_probs, 6, never_twice, weight=weight)
        for i in range(2):
            assert_row(found, (i,), dictionary_search(log_probs[:, i], 6, 0, gains, None), 6)


def test_batch_axes_vmap_and_no_frames():
    generator = np.random.default_rng(5)
    log_probs = by_hand.log_softmax(generator.normal(0, 1, (7, 2, 3, V))).astype(np.float32)
    mask = generator.random((7, 2, 3)) < 0.8
    carry = jnp.array([[0, 1, 2], [3, 0, 1]], jnp.int32)

    @jax.jit
    def run(log_probs, mask, carry):
        return ctc.beam_search(log_probs, 4, mask=mask, language_model=trigrams, carry=carry)

    want = run(log_probs, mask, carry)
    assert [x.shape for x in want] == [(7, 2, 3, 4), (2, 3, 4), (2, 3, 4)]
    rows = jax.vmap(
        jax.vmap(run, (1, 1, 0), ctc.Decoded(*untyped((1, 0, 0)))),
        (1, 1, 0),
        ctc.Decoded(*untyped((1, 0, 0))),
    )
    got = rows(log_probs, mask, carry)
    np.testing.assert_array_equal(got.labels, want.labels)
    np.testing.assert_array_equal(got.lengths, want.lengths)
    np.testing.assert_allclose(got.score, want.score, rtol=1e-5)


def test_no_frames_and_no_labels():
    nothing, blanks = jax.jit(lambda *given: [ctc.beam_search(x, 2) for x in given])(
        np.zeros((0, 2, V)), np.zeros((3, 1))
    )
    assert (nothing.labels.shape, nothing.lengths.tolist()) == ((0, 2, 2), [[0, 0]] * 2)
    assert nothing.score.tolist() == [[0, -np.inf]] * 2
    assert blanks.score.tolist() == [0, -np.inf]


@pytest.mark.learn
def test_scores_of_long_rows_in_float32():
    T = 10_000
    log_probs = by_hand.log_softmax(np.random.default_rng(6).normal(0, 3, (T, 3)))
    narrow = search(log_probs.astype(np.float32), 2)
    with jax.enable_x64(True):
        wide = search(log_probs, 2)
    np.testing.assert_allclose(narrow.score, wide.score, rtol=1e-5)
    np.testing.assert_array_equal(narrow.labels[:, 0], wide.labels[:, 0])


LOG_PROBS = np.zeros((4, 2, V), np.float32)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": 0}, ValueError, "`size` must be a positive int; got 0"),
        ({"expand": 0}, ValueError, "`expand` must be a positive int; got 0"),
        ({"blank": V}, ValueError, "`blank` must be one of the V = 4 symbols"),
        ({"weight": "a"}, TypeError, "`weight` must be a number that is finite; got 'a'"),
        ({"bonus": True}, TypeError, "`bonus` must be a number that is finite; got True"),
        ({"bonus": np.nan}, ValueError, "`bonus` must be a number that is finite; got nan"),
        ({"language_model": lambda: 0}, TypeError, "`language_model` must be a function of 2 arguments"),
        ({"carry": jnp.zeros(2)}, ValueError, "`carry` is an option of the language model; it needs"),
        ({"start": 1}, ValueError, "`start` is an option of the language model; it needs"),
        ({"weight": 0.5}, ValueError, "`weight` is an option of the language model; it needs"),
        ({"language_model": 3}, TypeError, r"`language_model` must be \(carry, tokens \[N\]\) -> .*; got 3"),
        ({"language_model": trigrams, "start": 1.5}, TypeError, "`start` must be an int, 0 or more; got 1.5"),
        (
            {"language_model": trigrams, "carry": jnp.zeros(3, jnp.int32)},
            ValueError,
            r"`carry` must have the batch axes \(2,\) of `log_probs` first; got int32 \(3,\)",
        ),
        (
            {"language_model": lambda carry, tokens: (tokens, jnp.zeros((6, V))), "carry": jnp.zeros(2)},
            ValueError,
            r"`language_model` must return a carry like .*, float32 \(6,\); got int32 \(6,\)",
        ),
        (
            {"language_model": lambda carry, tokens: (carry, jnp.zeros((2, V)))},
            ValueError,
            r"`language_model` must return logits \[N, V\] = \(6, 4\); got float32 \(2, 4\)",
        ),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error, match=message):
        ctc.beam_search(**({"log_probs": LOG_PROBS, "size": 3} | options))
