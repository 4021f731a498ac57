"""Splits of a data set into parts: training, validation and test."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data._check import numbers, real


def split(
    n: int,
    fractions: Sequence[float],
    *,
    seed: int,
    groups: ArrayLike | None = None,
    stratify: ArrayLike | None = None,
) -> tuple[np.ndarray, ...]:
    """Returns the indices of the items in each part, int arrays in increasing order; parts do not overlap.

    Args:
      n: the number of items.
      fractions: the share of each part. If the shares add up to less than 1, the remaining items are in no part.
      seed: the same seed gives the same parts.
      groups: labels `[n]`. Items with the same label stay in one part, for example those of one speaker, or duplicates.
        Whole groups are assigned greedily, so the sizes of the parts only approximate `fractions`.
      stratify: labels `[n]`. Each class is divided in the same proportions, to within one item.

    Raises:
      TypeError, ValueError: an argument does not fit; a part would be empty.

    >>> training, validation = split(10, (0.8, 0.2), seed=0)
    >>> len(training), len(validation), len(np.intersect1d(training, validation))
    (8, 2, 0)
    """
    n = check.natural("n", n)
    shares = _fractions(fractions)
    if groups is not None and stratify is not None:
        raise ValueError("pass `groups` or `stratify`, not both: a group may hold items of several classes")
    random = np.random.default_rng(check.seed("seed", seed))
    if groups is not None:
        labels = _labels("groups", groups, n)
        part, units = _by_groups(labels, shares, random), f"{labels.max(initial=-1) + 1} groups"
    else:
        labels = _labels("stratify", np.zeros(n, int) if stratify is None else stratify, n)
        part, units = _by_classes(labels, shares, random), f"{n} items"
    parts = tuple(np.flatnonzero(part == k) for k in range(len(fractions)))
    _none_empty([len(part) for part in parts], fractions, units)
    return parts


def split_in_time(n: int, fractions: Sequence[float]) -> tuple[slice, ...]:
    """Returns consecutive slices of n steps, for example the past to train on and the future to test on.

    Args:
      n: the number of steps.
      fractions: the share of each part. If the shares add up to less than 1, the last steps are in no part.

    Raises:
      TypeError, ValueError: an argument does not fit; a part would be empty.

    >>> split_in_time(10, (0.6, 0.2, 0.2))
    (slice(0, 6, None), slice(6, 8, None), slice(8, 10, None))
    """
    n = check.natural("n", n)
    ends = np.rint(np.cumsum([0, *_fractions(fractions)[: len(fractions)]]) * n).astype(int).tolist()
    _none_empty(np.diff(ends), fractions, f"{n} steps")
    return tuple(slice(*ends[k : k + 2]) for k in range(len(fractions)))


def unique(items: Iterable[Hashable]) -> np.ndarray:
    """Returns the indices of the first occurrence of each item, so that no duplicate lands in two parts.

    Args:
      items: an iterable of hashable items.

    Raises:
      TypeError: `items` is not iterable, or an item is not hashable.

    >>> texts = ["Good.", "bad.", "good. "]
    >>> unique(text.strip().lower() for text in texts).tolist()
    [0, 1]
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"`items` must be an iterable; got {type(items).__name__}")
    first = {}
    for number, item in enumerate(items):
        if not isinstance(item, Hashable):
            raise TypeError(
                f"`items` must be hashable; number {number} is a {type(item).__name__}. Make a tuple of it?"
            )
        first.setdefault(item, number)
    return np.array(list(first.values()), int)


def _fractions(fractions):
    """Returns the shares of the parts; the last entry is the share that belongs to no part."""
    shares = real("fractions", numbers("fractions", fractions)).astype(float)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"`fractions` must be a list of shares such as (0.8, 0.1, 0.1); got {fractions!r}")
    if not np.all(shares > 0) or shares.sum() > 1 + 1e-9:
        raise ValueError(f"`fractions` must each be above 0 and add up to at most 1; got {fractions!r}")
    rest = 1 - shares.sum()
    return np.append(shares, rest if rest > 1e-9 else 0)


def _labels(name, labels, n):
    """Returns labels as integers from 0."""
    try:
        labels = np.asarray(labels)
    except ValueError:
        labels = np.zeros(0)
    if labels.shape != (n,):
        raise ValueError(f"`{name}` must hold one label per item, [{n}]; got the shape {labels.shape}")
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:
        raise TypeError(
            f"`{name}` must hold labels of one kind, such as numbers or text; got {check.short(labels)}"
        ) from None


def _by_classes(labels, shares, random):
    """Returns the part of each item. Each part gets its share of a class, rounded so that its total stays on track."""
    part = np.empty(len(labels), int)
    behind = np.zeros(len(shares))
    for label in range(labels.max(initial=-1) + 1):
        members = random.permutation(np.flatnonzero(labels == label))
        wanted = np.round(shares * len(members), 6)
        counts = np.floor(wanted).astype(int)
        behind += wanted - counts
        over = len(members) - counts.sum()
        more = np.argsort(np.where(wanted > counts, -behind, np.inf), kind="stable")[:over]
        counts[more] += 1
        behind[more] -= 1
        part[members] = np.repeat(np.arange(len(shares)), counts)
    return part


def _by_groups(labels, shares, random):
    """Returns the part of each item. Groups come in random order; each goes to the part that lacks most items."""
    sizes = np.bincount(labels)
    lacks = shares * len(labels)
    home = np.empty(len(sizes), int)
    for group in random.permutation(len(sizes)):
        home[group] = np.argmax(lacks)
        lacks[home[group]] -= sizes[group]
    return home[labels]


def _none_empty(sizes, fractions, units):
    for k in np.flatnonzero(np.asarray(sizes) == 0)[:1]:
        raise ValueError(
            f"`n`: part {k}, with the fraction {fractions[k]}, would be empty, because {units} are too few for it"
        )
