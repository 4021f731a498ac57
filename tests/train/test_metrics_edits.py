import jax
import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.train import metrics
from tests.untyped import untyped

B, U, L = 3, 6, 5


def levenshtein(a, b):
    """The whole table, cell by cell."""
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = range(len(a) + 1), range(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            change = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, change)
    return table[-1, -1]


def rows(length, values):
    return st.lists(values, min_size=B * length, max_size=B * length).map(lambda x: np.array(x).reshape(B, length))


distances = jax.jit(
    lambda predicted, labels, p, m: (
        metrics.edit_distance(predicted, labels, predicted_mask=p, mask=m),
        metrics.edits(predicted, labels, predicted_mask=p, mask=m),
    )
)


@given(
    rows(U, st.integers(0, 2)),
    rows(L, st.integers(0, 2)),
    rows(U, st.booleans()),
    rows(L, st.booleans()),
    st.booleans(),
)
def test_distance_by_the_table(predicted, labels, predicted_mask, mask, prefixes):
    if prefixes:
        predicted_mask, mask = (np.sort(x)[:, ::-1] for x in (predicted_mask, mask))
    want = [levenshtein(y[m], x[p]) for x, y, p, m in zip(predicted, labels, predicted_mask, mask, strict=True)]
    junk = np.where(predicted_mask, predicted, 7), np.where(mask, labels, 7)  # alike, but not there
    got, total = distances(*junk, predicted_mask, mask)
    np.testing.assert_array_equal(got, want)
    assert tuple(map(int, total)) == (sum(want), mask.sum())
    if mask.any():
        np.testing.assert_allclose(total.value, sum(want) / mask.sum(), rtol=1e-6)


def test_without_masks_all_are_real_and_batch_axes_are_free():
    rng = np.random.default_rng(0)
    predicted, labels = rng.integers(3, size=(2, 2, 4)), rng.integers(3, size=(2, 2, 6))
    got, _ = distances(predicted, labels, None, None)
    want = [[levenshtein(y, x) for x, y in zip(*rows, strict=True)] for rows in zip(predicted, labels, strict=True)]
    np.testing.assert_array_equal(got, want)
    assert distances(predicted[0, 0], labels[0, 0], None, None)[0] == want[0][0]
    assert got.dtype == np.int32


def test_nothing_on_either_side():
    three, none = np.ones((2, 3), int), np.ones((2, 0), int)
    for predicted, labels, want in ((three, none, 3), (none, three, 3), (none, none, 0)):
        np.testing.assert_array_equal(distances(predicted, labels, None, None)[0], [want, want])
    assert distances(three, none, None, None)[1].value == np.inf
    assert np.isnan(distances(none, none, None, None)[1].value)
    assert distances(three[:0], none[:0], None, None)[0].shape == (0,)


REFERENCES = ["the cat sat on the mat", "", "a b c", "hello world", " padded  out "]
HYPOTHESES = ["the cat sat on mat", "noise", "a x c d", "", "padded out"]


def test_error_rates_are_jiwers():
    np.testing.assert_allclose(
        metrics.word_error_rate(REFERENCES, HYPOTHESES), jiwer.wer(REFERENCES, HYPOTHESES), rtol=1e-15
    )
    np.testing.assert_allclose(
        metrics.character_error_rate(REFERENCES, HYPOTHESES), jiwer.cer(REFERENCES, HYPOTHESES), rtol=1e-15
    )


def test_errors():
    x = np.zeros((2, 3), int)
    for distance in (metrics.edit_distance, metrics.edits):
        with pytest.raises(ValueError, match=r"must have the same batch axes; got \(2, 3\) and \(3,\)"):
            distance(x, x[0])
        with pytest.raises(ValueError, match=r"must have the same batch axes; got \(\) and \(3,\)"):
            distance(np.zeros((), int), x[0])
        with pytest.raises(TypeError, match="`labels` must be integer ids"):
            distance(x, x.astype(float))
        with pytest.raises(ValueError, match=r"`predicted_mask` must be bool \[B, U\] = \(2, 3\)"):
            distance(x, x, predicted_mask=np.ones((2, 1), bool))
        with pytest.raises(ValueError, match=r"`mask` must be bool \[B, L\] = \(2, 3\)"):
            distance(x, x, mask=np.ones((2, 1), bool))
    for rate in (metrics.word_error_rate, metrics.character_error_rate):
        with pytest.raises(TypeError, match=r"`references` must be a list of strings, such as .*; got 'one'"):
            rate("one", ["one"])
        with pytest.raises(TypeError, match="`hypotheses` must be a list of strings"):
            rate(["one"], [untyped(1)])
        with pytest.raises(ValueError, match="`hypotheses` must be as many as `references`, 1; got 2"):
            rate(["one"], ["one", "two"])
        for nothing in ([], ["", " "]):
            with pytest.raises(ValueError, match="`references` must hold at least one word or character"):
                rate(nothing, nothing)
