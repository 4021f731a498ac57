import functools

import jax
import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseq.train import metrics
from tests.untyped import untyped

BIO = ("O", "B-X", "I-X", "B-Y", "I-Y")
BIOES = ("O", *(f"{prefix}-{kind}" for kind in "XY" for prefix in "BIES"))
B, T = 3, 8


@functools.cache
def jitted(tags):
    def run(predicted, labels, mask):
        got = metrics.spans(predicted, labels, tags, mask=mask)
        return got, got.value, (got.precision, got.recall, got.f1)

    return jax.jit(run)


def spans_of(tags):
    """The spans of a list of tags: [first, last, type]; a plain loop over the rule."""
    spans, before = [], "O"
    for t, tag in enumerate(tags):
        if tag != "O":
            prefix, kind = tag.split("-")
            if prefix in "IE" and before[0] in "BI" and before[2:] == kind:
                spans[-1][1] = t
            else:
                spans.append([t, t, kind])
        before = tag
    return spans


@st.composite
def tagged(draw, tags):
    row = st.lists(st.integers(0, len(tags) - 1), min_size=T, max_size=T)
    labels = np.array(draw(st.lists(row, min_size=B, max_size=B)))
    changed = np.array(draw(st.lists(row, min_size=B, max_size=B)))
    keep = np.array(draw(st.lists(st.booleans(), min_size=B * T, max_size=B * T))).reshape(B, T)
    return np.where(keep, labels, changed), labels


lengths = st.lists(st.integers(0, T), min_size=B, max_size=B).map(np.array)


@pytest.mark.parametrize("tags", [BIO, BIOES], ids=["BIO", "BIOES"])
@settings(max_examples=50)
@given(st.data())
def test_counts_are_those_of_the_definition_and_of_seqeval(tags, data):
    (predicted, labels), n = data.draw(tagged(tags)), data.draw(lengths)
    mask = np.arange(T) < n[:, None]
    got, value, scores = jitted(tags)(np.where(mask, predicted, -5), np.where(mask, labels, 10**6), mask)
    named = [[[tags[i] for i in row[:length]] for row, length in zip(x, n, strict=True)] for x in (predicted, labels)]
    found, there = ([(b, *span) for b, row in enumerate(rows) for span in spans_of(row)] for rows in named)
    assert tuple(map(int, got)) == (len(set(found) & set(there)), len(found), len(there))
    if found and there:  # seqeval warns and then gives zeros as well
        theirs = (seqeval.metrics.precision_score, seqeval.metrics.recall_score, seqeval.metrics.f1_score)
        np.testing.assert_allclose(
            scores, [score(*named[::-1], zero_division=0) for score in untyped(theirs)], rtol=1e-6
        )
        assert (value["precision"], value["recall"], value["f1"]) == scores


def test_a_mask_of_any_pattern_cuts_spans():
    mask = np.array([[True, False, True, True]])
    got, *_ = jitted(BIO)(np.array([[1, 2, 2, 2]]), np.array([[1, 9, 2, 2]]), mask)
    assert got == (2, 2, 2)


def test_ids_out_of_range_are_outside():
    got, *_ = jitted(BIO)(np.array([1, 5, 2]), np.array([1, 0, 1]), None)
    assert got == (2, 2, 2)


def test_tags_without_a_type_and_types_with_a_dash():
    assert jitted(("O", "B", "I"))(np.array([1, 2, 0]), np.array([1, 2, 2]), None)[0] == (0, 1, 1)
    assert jitted(("B-a-b", "I-a-b", "I-a-c"))(np.array([0, 1, 2]), np.array([0, 1, 1]), None)[0] == (0, 2, 1)


def test_no_steps():
    nothing = np.zeros((2, 0), int)
    assert jitted(BIO)(nothing, nothing, None)[0] == (0, 0, 0)


def test_errors():
    x = np.zeros((2, 3), int)
    with pytest.raises(ValueError, match=r"`labels` must have the shape of `predicted`, \(2, 3\); got \(2, 4\)"):
        metrics.spans(x, np.zeros((2, 4), int), BIO)
    with pytest.raises(TypeError, match="`predicted` must be integer ids"):
        metrics.spans(x.astype(float), x, BIO)
    with pytest.raises(ValueError, match=r"`labels` must be \[..., T\]"):
        metrics.spans(np.zeros((), int), np.zeros((), int), BIO)
    with pytest.raises(ValueError, match=r"`mask` must be bool \[..., T\]"):
        metrics.spans(x, x, BIO, mask=np.ones(3, bool))
    for tag in ("PER", "L-PER", "O-PER", ""):
        with pytest.raises(ValueError, match=f"`tags` must be 'O', or B-, I-, E- or S- with a type.*got '{tag}'"):
            metrics.spans(x, x, ["O", tag])
    for tags in ("O", [0, 1]):
        with pytest.raises(TypeError, match="`tags` must be a list of strings"):
            metrics.spans(x, x, untyped(tags))
