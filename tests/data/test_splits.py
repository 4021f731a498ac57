import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import split, split_in_time, unique
from tests.untyped import untyped

FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.75, 0.25), (1.0,), (0.1, 0.2, 0.7), (0.5, 0.2), (1 / 3, 1 / 3, 1 / 3)])


def disjoint(parts, n):
    every = np.concatenate(parts)
    assert len(set(every.tolist())) == len(every)
    assert set(every.tolist()) <= set(range(n))
    assert all(np.all(np.diff(part) > 0) for part in parts)


@given(st.integers(10, 60), FRACTIONS, st.integers(0, 99))
def test_parts_are_disjoint_complete_and_of_their_size(n, fractions, seed):
    parts = split(n, fractions, seed=seed)
    disjoint(parts, n)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * n) < 1
    if sum(fractions) > 0.99:
        assert sum(map(len, parts)) == n
    for part, again in zip(parts, split(n, fractions, seed=seed), strict=True):
        np.testing.assert_array_equal(part, again)


def test_seeds_differ_and_every_item_is_as_likely():
    counts = sum(np.bincount(split(10, (0.7, 0.3), seed=seed)[1], minlength=10) for seed in range(1000))
    assert np.all(np.abs(counts - 300) < 5 * np.sqrt(1000 * 0.3 * 0.7))


@given(st.lists(st.sampled_from("aaabcd"), min_size=20, max_size=80), FRACTIONS, st.integers(0, 9))
def test_classes_keep_their_shares_to_within_one_item(labels, fractions, seed):
    labels = np.array(labels)
    parts = split(len(labels), fractions, seed=seed, stratify=labels)
    disjoint(parts, len(labels))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(labels)) < 2
        for label in set(labels):
            assert abs(np.sum(labels[part] == label) - fraction * np.sum(labels == label)) < 1
    if sum(fractions) > 0.99:
        assert sum(map(len, parts)) == len(labels)


def test_many_small_classes_do_not_all_go_to_one_part():
    parts = split(200, (0.75, 0.25), seed=0, stratify=np.arange(200))
    assert [len(part) for part in parts] == [150, 50]


@given(st.lists(st.integers(1, 4), min_size=30, max_size=40), FRACTIONS, st.integers(0, 9))
def test_groups_never_straddle(sizes, fractions, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = split(len(groups), fractions, seed=seed, groups=groups)
    disjoint(parts, len(groups))
    for i, part in enumerate(parts):
        for other in parts[:i]:
            assert not set(groups[part]) & set(groups[other])
        assert len(part) - fractions[i] * len(groups) < max(sizes)
    assert abs(sum(map(len, parts)) - sum(fractions) * len(groups)) < max(sizes)


def test_groups_may_be_names_and_groups_of_one_are_no_groups():
    training, test = split(4, (0.5, 0.5), seed=0, groups=["ann", "bob", "ann", "bob"])
    assert {tuple(training), tuple(test)} == {(0, 2), (1, 3)}
    assert [len(part) for part in split(50, (0.8, 0.1, 0.1), seed=0, groups=np.arange(50))] == [40, 5, 5]


@given(st.integers(10, 99), FRACTIONS)
def test_parts_in_time_follow_one_another(n, fractions):
    parts = split_in_time(n, fractions)
    assert parts[0].start == 0
    assert all(one.stop == other.start for one, other in itertools.pairwise(parts))
    assert abs(parts[-1].stop - sum(fractions) * n) < 1
    assert all(abs(part.stop - part.start - f * n) <= 1 for part, f in zip(parts, fractions, strict=True))


def test_unique():
    assert unique(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 3]
    assert unique([]).dtype == int


BAD = {
    "more than all": (lambda: split(9, (0.8, 0.3), seed=0), ValueError, r"add up to at most 1; got \(0.8, 0.3\)"),
    "zero": (lambda: split(9, (1.0, 0.0), seed=0), ValueError, r"`fractions` must each be above 0"),
    "nan": (lambda: split(9, (np.nan,), seed=0), ValueError, r"`fractions` must each be above 0"),
    "one number": (
        lambda: split(9, untyped(0.8), seed=0),
        ValueError,
        r"`fractions` must be a list of shares .* got 0.8",
    ),
    "none": (lambda: split_in_time(9, ()), ValueError, r"`fractions` must be a list of shares"),
    "n": (lambda: split(untyped([1, 2]), (1.0,), seed=0), TypeError, r"`n` must be an int, 0 or more; got \[1, 2\]"),
    "seed": (lambda: split(9, (1.0,), seed=untyped(None)), TypeError, r"`seed` must be an int, 0 or more; got None"),
    "too few": (
        lambda: split(4, (0.8, 0.1, 0.1), seed=0),
        ValueError,
        r"part \d, with the fraction 0.1, .* 4 items are",
    ),
    "no items": (
        lambda: split(0, (1.0,), seed=0),
        ValueError,
        r"part 0, with the fraction 1.0, would be empty, because 0 items",
    ),
    "few steps": (
        lambda: split_in_time(2, (0.9, 0.1)),
        ValueError,
        r"part 1, .* would be empty, because 2 steps are too few",
    ),
    "few groups": (
        lambda: split(9, (0.5, 0.5), seed=0, groups=[1] * 9),
        ValueError,
        r"empty, because 1 groups are too few",
    ),
    "groups": (
        lambda: split(9, (1.0,), seed=0, groups=[1]),
        ValueError,
        r"`groups` must hold one label per item, \[9\]",
    ),
    "classes": (
        lambda: split(9, (1.0,), seed=0, stratify=[1]),
        ValueError,
        r"`stratify` must hold one label .* \(1,\)",
    ),
    "both": (
        lambda: split(1, (1.0,), seed=0, groups=[1], stratify=[1]),
        ValueError,
        r"pass `groups` or `stratify`, not both",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
