import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import pad, unpad
from tests.untyped import untyped

ROWS = st.lists(st.lists(st.integers(-9, 9), max_size=7), max_size=5)


def plain_pad(rows, T, side, truncate, value):
    """A plain loop over steps."""
    xs, mask = [], []
    for row in rows:
        row = row[:T] if truncate == "right" else row[len(row) - min(T, len(row)) :]
        empty = T - len(row)
        xs.append(row + [value] * empty if side == "right" else [value] * empty + row)
        mask.append([True] * len(row) + [False] * empty if side == "right" else [False] * empty + [True] * len(row))
    return xs, mask


@given(
    ROWS,
    st.none() | st.integers(0, 9),
    st.integers(1, 4),
    st.sampled_from(["right", "left"]),
    st.sampled_from(["right", "left"]),
    st.integers(-3, 3),
)
def test_pad(rows, length, multiple, side, truncate, value):
    xs, mask = pad(rows, length=length, multiple=multiple, side=side, truncate=truncate, value=value)
    T = max(map(len, rows), default=0) if length is None else length
    while T % multiple:
        T += 1
    want, want_mask = plain_pad(rows, T, side, truncate, value)
    assert xs.shape == mask.shape == (len(rows), T)
    np.testing.assert_array_equal(xs, np.array(want).reshape(len(rows), T))
    np.testing.assert_array_equal(mask, np.array(want_mask, bool).reshape(len(rows), T))
    assert mask.dtype == bool
    if any(rows):
        assert xs.dtype == np.int32


@given(ROWS, st.sampled_from(["right", "left"]), st.integers(1, 4))
def test_unpad_gives_back_what_was_padded(rows, side, multiple):
    padded = pad(rows, side=side, multiple=multiple, value=7)
    assert [row.tolist() for row in unpad(*padded)] == rows


def test_unpad_takes_any_pattern_and_jax_arrays():
    mask = jnp.array([[True, False, True], [False, False, False]])
    assert [row.tolist() for row in unpad(jnp.arange(6).reshape(2, 3), mask)] == [[0, 2], []]


@pytest.mark.parametrize("dtype", [bool, np.float16, np.float32, np.float64, jnp.bfloat16])
def test_dtypes_are_kept_and_an_empty_list_has_no_say(dtype):
    xs, mask = pad([np.ones([2, 3], dtype), [], np.ones([0, 3], np.float64)])
    assert xs.dtype == dtype
    assert xs.shape == (3, 2, 3)
    assert mask.sum(axis=1).tolist() == [2, 0, 0]


def test_dtypes_of_integers_of_empty_and_of_nothing():
    assert pad([np.ones(2, np.int64), np.ones(1, np.uint8), []]).xs.dtype == np.int32
    assert pad([np.zeros(0, np.int64)]).xs.dtype == np.int32
    assert pad([[1], [0.5]]).xs.dtype == np.float64
    assert pad([[1, 2], [3]], length=0, truncate="left").xs.shape == (2, 0)
    assert pad([], length=4).xs.shape == (0, 4)
    assert pad([[], []], multiple=8).xs.shape == (2, 0)
    assert pad(np.ones([2, 3, 4], np.float32)).xs.shape == (2, 3, 4)
    assert np.isnan(pad([[1.0]], length=2, value=np.nan).xs[0, 1])


BAD = {
    "a text": (lambda: pad("abc"), TypeError, r"`sequences` must be a list of sequences \[T, ...\]; got str"),
    "texts": (lambda: pad(["abc"]), TypeError, r"`sequences\[0\]` must hold numbers; got text. Encode it first"),
    "tokens": (lambda: pad([["a", "b"]]), TypeError, r"`sequences\[0\]` must hold numbers; got text"),
    "None": (
        lambda: pad([untyped([1, None])]),
        TypeError,
        r"`sequences\[0\]` must hold numbers; got object from a list",
    ),
    "a generator": (
        lambda: pad(untyped(x for x in [[1]])),
        TypeError,
        r"must be a list of sequences .*; got generator",
    ),
    "one sequence": (
        lambda: pad([1, 2]),
        ValueError,
        r"`sequences\[0\]` must be .* got one number. For one .*: \[xs\]",
    ),
    "ragged features": (
        lambda: pad([[[1], [2, 3]]]),
        ValueError,
        r"`sequences\[0\]` must be an array; its parts have different shapes",
    ),
    "features": (
        lambda: pad([[], np.ones([2, 3]), np.ones([2, 4])]),
        ValueError,
        r"`sequences\[1\]` is \(2, 3\), `sequences\[2\]` is \(2, 4\)",
    ),
    "too large": (lambda: pad([[2**40]]), ValueError, r"`sequences` must fit into int32; got integers from"),
    "side": (lambda: pad([[1]], side="post"), ValueError, r"`side` must be 'right' or 'left'; got 'post'"),
    "truncate": (lambda: pad([[1]], truncate=untyped(0)), ValueError, r"`truncate` must be 'right' or 'left'; got 0"),
    "multiple": (lambda: pad([[1]], multiple=0), ValueError, r"`multiple` must be a positive int; got 0"),
    "length": (lambda: pad([[1]], length=-1), ValueError, r"`length` must be an int, 0 or more; got -1"),
    "length float": (
        lambda: pad([[1]], length=untyped(2.0)),
        TypeError,
        r"`length` must be an int, 0 or more; got 2.0",
    ),
    "value": (lambda: pad([[1]], value=np.nan), TypeError, r"`value` must be one number that int32 can hold; got nan"),
    "values": (
        lambda: pad([[1.0]], value=untyped([1, 2])),
        TypeError,
        r"`value` must be one number that float64 can hold",
    ),
    "mask dtype": (lambda: unpad(np.ones([2, 3]), np.ones([2, 3])), TypeError, r"`mask` must be bool .*; got float64"),
    "time-major": (
        lambda: unpad(np.ones([2, 3]), np.ones([3, 2], bool)),
        ValueError,
        r"the first axes of `xs` \(2, 3\); got \(3, 2\). Are they time-major\?",
    ),
    "mask shape": (lambda: unpad(np.ones([2, 3]), np.ones([2], bool)), ValueError, r"`mask` must be \[B, T\]"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
