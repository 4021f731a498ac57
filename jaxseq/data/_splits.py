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
    """Returns the numbers of the items in each part, int arrays in rising order; no item is in two.

    Args:
      n: the number of items.
      fractions: the parts' shares of the items; if they add up to less than 1, the rest is in no part.
      seed: the same seed gives the same parts.
      groups: labels `[n]`: items of one label stay together, such as those of one speaker, or duplicates. The parts'
        sizes are then as close to `fractions` as the greedy choice for one whole group after the other gets.
      stratify: labels `[n]`: each class has its share in each part, to within one item.

    Raises:
      TypeError, ValueError: an argument does not fit; a part would be empty.

    >>> training, validation = split(10, (0.8, 0.2), seed=0)
    >>> len(training), len(validation), len(np.intersect1d(training, validation))
    (8, 2, 0)
    """
    n = check.natural("n", n)
    shares = _fractions(fractions)
    if groups is not None and stratify is not None:
        raise ValueError("`groups` and `stratify` cannot be had at once: a group may have items of several classes")
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
    """Returns the slices of n steps that follow one another: the past to train on, the future to test on.

    Args:
      n: the number of steps.
      fractions: the parts' shares; if they add up to less than 1, the last steps are in no part.

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
    """Returns the numbers of the items that did not come before, so that no duplicate is in two parts.

    Raises:
      TypeError: there is no iterating over `items`, or one has no hash.

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
    """The shares of the parts, and last what is left for none."""
    shares = real("fractions", numbers("fractions", fractions)).astype(float)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"`fractions` must be a list of shares such as (0.8, 0.1, 0.1); got {fractions!r}")
    if not np.all(shares > 0) or shares.sum() > 1 + 1e-9:
        raise ValueError(f"`fractions` must be above 0, and no more than 1 together; got {fractions!r}")
    rest = 1 - shares.sum()
    return np.append(shares, rest if rest > 1e-9 else 0)


def _labels(name, labels, n):
    """Labels as numbers from 0."""
    try:
        labels = np.asarray(labels)
    except ValueError:
        labels = np.zeros(0)
    if labels.shape != (n,):
        raise ValueError(f"`{name}` must be one label an item, [{n}]; got the shape {labels.shape}")
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:
        raise TypeError(
            f"`{name}` must be labels of one kind, such as numbers or text; got {check.short(labels)}"
        ) from None


def _by_classes(labels, shares, random):
    """The part of each item: of a class each part gets its share rounded down, or up where it is behind so far."""
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
    """The part of each item: groups in any order, each to the part that lacks most items."""
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
            f"part {k}, of the fraction {fractions[k]}, would be empty: {units} are too few for it, see `n`"
        )
