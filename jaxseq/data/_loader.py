"""Loaders: the batches of an epoch, the same at every run, from any batch on.

What an epoch holds is a function of the seed, the epoch's number and nothing else. A run that was stopped goes on at
(epoch, batch) with the batches it would have had, and does not make those before them.

    for number in range(epochs):
        for batch in loader.epoch(number):
            ...
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data import _check

Batch: TypeAlias = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Loader:
    """What gives the batches of any epoch; `len` is their number, in each.

    `batches`, `bucketed` and `streams` make one. For data of your own, so may you:

    Attributes:
      count: batches in an epoch.
      plan: `(number) -> (i) -> batch`: of an epoch's number, the function that makes its batch i, a dict of arrays.
        Both are pure. The loaders of this package pickle; yours does where its plan does, as a function of a module.
      dropped: examples of an epoch that are in none of its batches; `train.evaluator` refuses a loader with such.
      parts: above 1, this loader gives one of so many parts of each batch; see `part`.

    Raises:
      TypeError, ValueError: `count` is no int of at least 0, `parts` no positive one, `plan` no function of one
        argument.
    """

    count: int
    plan: Callable[[int], Callable[[int], Batch]]
    dropped: int = 0
    parts: int = 1

    def __post_init__(self):
        check.natural("count", self.count)
        check.function_taking("plan", self.plan, 1)
        check.positive_int("parts", self.parts)

    def __len__(self):
        return self.count

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Returns the batches of epoch `number`, counted from 0, without the first `start`.

        Raises:
          TypeError, ValueError: an argument is no int from 0 on; `start` is past the end.
        """
        number, start = check.natural("number", number), check.natural("start", start)
        if start > self.count:
            raise ValueError(f"`start` must be at most {self.count}, the batches of an epoch; got {start}")
        return map(self.plan(number), range(start, self.count))

    def map(self, function: Callable[[Batch], Batch]) -> "Loader":
        """Returns the loader whose batches are `function(batch)`, which must be pure.

        >>> loader = batches({"xs": np.arange(4)}, 2).map(lambda batch: {**batch, "squares": batch["xs"] ** 2})
        >>> [batch["squares"].tolist() for batch in loader.epoch(0)]
        [[0, 1], [4, 9]]
        """
        check.function_taking("function", function, 1)
        plan = _Mapped(self.plan, function)
        return dataclasses.replace(self, plan=plan)

    def part(self, index: int, count: int) -> "Loader":
        """Returns the loader of part `index` of `count` equal parts of each batch, for training in `count` processes.

        In the order of their indices, the rows of all parts are those of the batch. Of `batches` no others are made;
        other loaders make the whole batch. What `map` does after `part` sees the part alone.

            loader = data.batches(arrays, 64, seed=0).part(jax.process_index(), jax.process_count())

        Raises:
          TypeError, ValueError: an argument does not fit, or the loader is a part already. At the batch: its rows do
            not make `count` equal parts.

        >>> loader = batches({"xs": np.arange(8)}, 4)
        >>> [batch["xs"].tolist() for batch in loader.part(1, 2).epoch(0)]
        [[2, 3], [6, 7]]
        """
        index, count = check.natural("index", index), check.positive_int("count", count)
        if index >= count:
            raise ValueError(f"`index` must be below `count`, {count}; got {index}")
        if self.parts > 1:
            raise ValueError(f"this loader gives one part of {self.parts} already; take the part of the whole loader")
        plan = self.plan.part(index, count) if isinstance(self.plan, _Plan) else _Part(self.plan, index, count)
        return dataclasses.replace(self, plan=plan, parts=count)


def batches(arrays: Mapping[str, ArrayLike], batch_size: int, *, seed: int | None = None, last: str = "drop") -> Loader:
    """Returns the loader of examples that are alike, in dicts of arrays `[B, ...]`.

    Args:
      arrays: a dict of arrays `[N, ...]`, one entry an example.
      batch_size: B.
      seed: shuffles each epoch anew; None: the examples come in order.
      last: what becomes of the last N mod B examples. "drop": they are left out of this epoch. "keep": they come in a
        batch of their own, which compiles anew. "pad": rows of zeros fill it up, and each batch has the key `"real"`,
        bool `[B]`, False for those.

    Raises:
      TypeError, ValueError: an argument does not fit; there is no example, or no whole batch and `last` is "drop".

    >>> loader = batches({"xs": np.arange(5)}, 3, last="pad")
    >>> [(batch["xs"].tolist(), batch["real"].astype(int).tolist()) for batch in loader.epoch(0)]
    [([0, 1, 2], [1, 1, 1]), ([3, 4, 0], [1, 1, 0])]
    """
    arrays = _check.examples("arrays", arrays)
    B, seed = check.positive_int("batch_size", batch_size), _check.seed(seed)
    check.one_of("last", last, ("drop", "keep", "pad"))
    N = some("arrays", len(next(iter(arrays.values()), ())))
    if last == "drop" and N < B:
        raise ValueError(f"`batch_size` {B} is above N = {N}, so that no batch is whole; use `last` 'keep' or 'pad'")
    if last == "pad":
        free(["real"], arrays)
    plan = _Plan(arrays, N, B, seed, last == "pad")
    return Loader(N // B, plan, N % B) if last == "drop" else Loader(-(-N // B), plan)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """The plan of `batches`."""

    arrays: Batch
    N: int
    B: int
    seed: int | None
    pad: bool
    index: int = 0
    count: int = 1

    def part(self, index, count):
        equal_parts("batch_size", self.B, count)
        return dataclasses.replace(self, index=index, count=count)

    def __call__(self, number):
        order = np.arange(self.N) if self.seed is None else random(self.seed, number).permutation(self.N)

        def batch(i):
            rows = order[i * self.B : (i + 1) * self.B]
            size = equal_parts("batch", self.B if self.pad else len(rows), self.count)
            rows = rows[self.index * size : (self.index + 1) * size]
            return take(self.arrays, rows, size) if self.pad else {name: a[rows] for name, a in self.arrays.items()}

        return batch


@dataclasses.dataclass(frozen=True, eq=False)
class _Mapped:
    """The plan of a loader that was mapped."""

    plan: Callable[[int], Callable[[int], Batch]]
    function: Callable[[Batch], Batch]

    def __call__(self, number):
        make = self.plan(number)
        return lambda i: self.function(make(i))


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """The plan of a part of each batch, cut out of it."""

    plan: Callable[[int], Callable[[int], Batch]]
    index: int
    count: int

    def __call__(self, number):
        make = self.plan(number)

        def cut(name, array):
            size = equal_parts(f"batch[{name!r}]", len(array), self.count)
            return array[self.index * size : (self.index + 1) * size]

        return lambda i: {name: cut(name, array) for name, array in make(i).items()}


def equal_parts(name: str, rows: int, count: int) -> int:
    """Returns the rows of a part; raises where `rows` do not make `count` equal parts."""
    if rows % count:
        raise ValueError(f"`{name}` must have rows for {count} equal parts; it has {rows}")
    return rows // count


def some(name: str, N: int) -> int:
    """Returns N; raises where there is nothing to make batches of."""
    if not N:
        raise ValueError(f"`{name}` must have examples to make batches of; got none")
    return N


def random(seed: int, number: int) -> np.random.Generator:
    """Returns the random numbers of an epoch."""
    return np.random.default_rng([seed, number])


def free(own: Iterable[str], names: Iterable[str]) -> None:
    """Raises where a user's name is that of an array which a loader adds."""
    for name in own:
        if name in names:
            raise ValueError(f"the name {name!r} is taken: the loader adds an array of this name. Choose another.")


def take(arrays: Batch, rows: np.ndarray, size: int) -> Batch:
    """Returns the rows of each array, zeros after them to make `size` of them, and which are `"real"`."""
    empty = size - len(rows)
    batch = {name: np.pad(a[rows], [(0, empty), *[(0, 0)] * (a.ndim - 1)]) for name, a in arrays.items()}
    return {**batch, "real": np.arange(size) < len(rows)}
