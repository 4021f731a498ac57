import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxseq
from jaxseq.data import pack, place, unpack
from tests import reference

LENGTHS = st.lists(st.integers(0, 8), max_size=12)


def sequences(lengths, features=()):
    """Sequences of numbers that are all different, from 1."""
    ends = np.cumsum(lengths)
    return [
        1 + np.arange(end - n, end).repeat(int(np.prod(features))).reshape(n, *features)
        for n, end in zip(lengths, ends, strict=True)
    ]


@given(LENGTHS, st.integers(8, 11))
def test_each_sequence_stands_in_one_piece(lengths, length):
    packed = pack(sequences(lengths), length, value=-1)
    flat = packed.xs.ravel()
    assert packed.xs.shape == packed.mask.shape == packed.reset.shape
    assert sorted(flat[flat > 0]) == list(range(1, sum(lengths) + 1))
    np.testing.assert_array_equal(packed.mask, packed.xs > 0)
    assert packed.reset.sum() == sum(n > 0 for n in lengths)
    for sequence, row, start in zip(sequences(lengths), packed.row, packed.start, strict=True):
        n = len(sequence)
        np.testing.assert_array_equal(packed.xs[row, start : start + n], sequence)
        np.testing.assert_array_equal(packed.reset[row, start : start + n], np.arange(n) == 0)


@given(LENGTHS, st.integers(8, 11))
def test_rows_are_full(lengths, length):
    """No two rows would go into one; that is at most 2 × the least number of rows, and padding stands at the end."""
    mask = pack(sequences(lengths), length).mask
    used = sorted(mask.sum(axis=1))
    assert len(used) < 2 or used[0] + used[1] > length
    np.testing.assert_array_equal(mask, np.arange(length) < mask.sum(axis=1)[:, None])


def test_rows_are_as_few_as_by_first_fit_decreasing():
    lengths = np.random.default_rng(0).integers(1, 60, 400)
    rows = []
    for n in sorted(lengths, reverse=True):
        at = next((i for i, used in enumerate(rows) if used + n <= 100), None)
        if at is None:
            rows.append(n)
        else:
            rows[at] += n
    fewest = -(-lengths.sum() // 100)
    assert fewest <= len(pack(sequences(lengths), 100).xs) <= min(len(rows), 11 / 9 * fewest + 4)


@given(LENGTHS, st.sampled_from([(), (2,), (2, 3)]))
def test_unpack_gives_back_what_was_packed(lengths, features):
    given_ = sequences(lengths, features)
    packed = pack(given_, 8)
    for back, sequence in zip(unpack(packed.xs, packed), given_, strict=True):
        assert len(back) == len(sequence)
        np.testing.assert_array_equal(back, sequence)


@given(LENGTHS)
def test_place_puts_others_in_the_same_places(lengths):
    packed = pack(sequences(lengths), 8)
    tags = place([10 * sequence for sequence in sequences(lengths)], packed, value=-10)
    np.testing.assert_array_equal(tags, np.where(packed.mask, 10 * packed.xs, -10))


def test_an_lstm_reads_packed_rows_as_if_they_were_apart():
    random = np.random.default_rng(0)
    apart = [random.normal(size=(n, 3)).astype(np.float32) for n in (4, 0, 1, 7, 3, 5)]
    packed = pack(apart, 8, value=np.nan)
    cell = jaxseq.lstm(4)
    shapes = jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0))
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    xs, mask, reset = (np.swapaxes(x, 0, 1) for x in (packed.xs, packed.mask, packed.reset))
    _, ys = jax.jit(jaxseq.unroll)(cell, params, xs, mask=mask, reset=reset)
    weights = {name: np.asarray(value, float) for name, value in params._asdict().items() if value is not None}
    for sequence, got in zip(apart, unpack(np.swapaxes(ys, 0, 1), packed), strict=True):
        start = (np.zeros([1, 4]), np.zeros([1, 4]))
        _, want = reference.unroll(reference.lstm(), weights, sequence[:, None].astype(float), start)
        np.testing.assert_allclose(got, np.reshape(want, [-1, 4]), atol=1e-6)


def test_packing_is_the_same_at_every_call_and_empty_lists_have_no_rows():
    lengths = np.random.default_rng(1).integers(0, 9, 50)
    for one, other in zip(pack(sequences(lengths), 9), pack(sequences(lengths), 9), strict=True):
        np.testing.assert_array_equal(one, other)
    assert pack([], 5).xs.shape == (0, 5)
    assert unpack(np.zeros([0, 5]), pack([], 5)) == []
    assert pack([[], []], 5).mask.sum() == 0


PACKED = pack([[1], [2, 2]], 4)
BAD = {
    "too long": (
        lambda: pack([[1], [1, 2, 3]], 2),
        ValueError,
        r"`sequences\[1\]` has 3 steps, more than `length`, 2",
    ),
    "length 0": (lambda: pack([[1]], 0), ValueError, r"`length` must be a positive int; got 0"),
    "texts": (lambda: pack(["ab"], 2), TypeError, r"`sequences\[0\]` must hold numbers; got text"),
    "value": (lambda: pack([[1]], 2, value=0.5), TypeError, r"`value` must be one number that int32 can hold; got 0.5"),
    "place: number": (
        lambda: place([[1]], PACKED),
        ValueError,
        r"`sequences` must be 2 sequences, as when packed; got 1",
    ),
    "place: lengths": (lambda: place([[1], [1]], PACKED), ValueError, r"`sequences\[1\]` must have 2 steps, .*; got 1"),
    "unpack: time-major": (
        lambda: unpack(np.ones([4, 1]), PACKED),
        ValueError,
        r"`ys` must be \[R, length, ...\] of the packed \(1, 4\); got \(4, 1\)",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
