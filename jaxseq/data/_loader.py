"""Loaders: reproducible batches of an epoch, which can start at any batch.

The content of an epoch is a function of the seed and the epoch's number only. A run that resumes at (epoch, batch)
therefore gets the batches that it would have got, without computing the earlier ones.

    for number in range(epochs):
        for batch in loader.epoch(number):
            ...
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jaxseq import check
from jaxseq.data import _check

Batch: TypeAlias = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Loader:
    """The source of a run's batches: `epoch(number)` gives those of an epoch; `len` is their number.

    `batches`, `bucketed` and `streams` make a loader. You can make one for your own data:

    Attributes:
      count: batches in an epoch.
      plan: `(number) -> (i) -> batch`. It takes the number of an epoch and returns the function that makes batch i, a
        dict of arrays. Both functions must be pure. A loader can be pickled if its plan can. The loaders of this
        package can be, and so can a plan that is a function of a module.
      dropped: the number of examples of an epoch that are in none of its batches. `train.evaluator` refuses a loader
        that drops examples.
      parts: the number of parts of each batch of which this loader gives one; 1 for whole batches. See `part`.

    Raises:
      TypeError, ValueError: `count` is not an int of at least 0, `parts` is not a positive int, or `plan` is not a
        function of one argument.
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

    def __iter__(self) -> NoReturn:
        raise TypeError("a Loader is no iterable of batches. Loop over those of an epoch: loader.epoch(number)")

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Returns an iterator over the batches of epoch `number`, from batch `start` on; both are counted from 0.

        Raises:
          TypeError, ValueError: an argument is not an int of at least 0, or `start` is greater than the batch count.
        """
        number, start = check.natural("number", number), check.natural("start", start)
        if start > self.count:
            raise ValueError(f"`start` must be at most {self.count}, the batches of an epoch; got {start}")
        return map(self.plan(number), range(start, self.count))

    def map(self, function: Callable[[Batch], Batch]) -> "Loader":
        """Returns a loader whose batches are `function(batch)`; the function must be pure.

        >>> loader = batches({"xs": np.arange(4)}, 2).map(lambda batch: {**batch, "squares": batch["xs"] ** 2})
        >>> [batch["squares"].tolist() for batch in loader.epoch(0)]
        [[0, 1], [4, 9]]
        """
        check.function_taking("function", function, 1)
        plan = _Mapped(self.plan, function)
        return dataclasses.replace(self, plan=plan)

    def part(self, index: int, count: int) -> "Loader":
        """Returns a loader of part `index` of `count` equal parts of each batch, for training in `count` processes.

        The rows of all parts, in the order of their indices, are the rows of the batch. A loader from `batches` makes
        only the rows of its part; other loaders make the whole batch and cut it. A `map` that is applied after `part`
        sees the part only.

            loader = data.batches(arrays, 64, seed=0).part(jax.process_index(), jax.process_count())

        Raises:
          TypeError, ValueError: an argument does not fit, or the loader gives a part already. When a batch is made: its
            rows cannot be divided into `count` equal parts.

        >>> loader = batches({"xs": np.arange(8)}, 4)
        >>> [batch["xs"].tolist() for batch in loader.part(1, 2).epoch(0)]
        [[2, 3], [6, 7]]
        """
        index, count = check.natural("index", index), check.positive_int("count", count)
        if index >= count:
            raise ValueError(f"`index` must be below `count`, {count}; got {index}")
        if self.parts > 1:
            raise ValueError(f"`part`: this loader already gives one of {self.parts} parts; use the whole loader")
        plan = self.plan.part(index, count) if isinstance(self.plan, _Plan) else _Part(self.plan, index, count)
        return dataclasses.replace(self, plan=plan, parts=count)


def batches(arrays: Mapping[str, ArrayLike], batch_size: int, *, seed: int | None = None, last: str = "drop") -> Loader:
    """Returns a loader of fixed-size examples, in batches that are dicts of arrays `[B, ...]`.

    Args:
      arrays: a dict of arrays `[N, ...]` with one entry per example.
      batch_size: B.
      seed: shuffles the examples in each epoch. None: the examples keep their order.
      last: what happens to the last N mod B examples. "drop": this epoch leaves them out. "keep": they form a smaller
        batch, for which the training step is compiled once more. "pad": rows of zeros fill their batch up, and each
        batch has the key `"real"`, bool `[B]`, False for rows of zeros.

    Raises:
      TypeError, ValueError: an argument does not fit; there are no examples; `last` is "drop" and N is less than B.

    >>> loader = batches({"xs": np.arange(5)}, 3, last="pad")
    >>> [(batch["xs"].tolist(), batch["real"].astype(int).tolist()) for batch in loader.epoch(0)]
    [([0, 1, 2], [1, 1, 1]), ([3, 4, 0], [1, 1, 0])]
    """
    arrays = _check.examples("arrays", arrays)
    B, seed = check.positive_int("batch_size", batch_size), _check.seed(seed)
    check.one_of("last", last, ("drop", "keep", "pad"))
    N = nonempty("arrays", len(next(iter(arrays.values()), ())))
    if last == "drop" and N < B:
        raise ValueError(f"`batch_size` {B} is above N = {N}, so there is no full batch; use `last` 'keep' or 'pad'")
    if last == "pad":
        check_unreserved(["real"], arrays)
    plan = _Plan(arrays, N, B, seed, last == "pad")
    return Loader(N // B, plan, N % B) if last == "drop" else Loader(-(-N // B), plan)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """The plan of a loader made by `batches`."""

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
    """The plan of a loader made by `Loader.map`."""

    plan: Callable[[int], Callable[[int], Batch]]
    function: Callable[[Batch], Batch]

    def __call__(self, number):
        make = self.plan(number)
        return lambda i: self.function(make(i))


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """The plan of a loader made by `Loader.part`, which cuts its part out of the whole batch."""

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
    """Returns the number of rows in a part; raises if `rows` cannot be divided into `count` equal parts."""
    if rows % count:
        raise ValueError(f"`{name}` must have rows for {count} equal parts; it has {rows} rows")
    return rows // count


def nonempty(name: str, N: int) -> int:
    """Returns N; raises if it is 0."""
    if not N:
        raise ValueError(f"`{name}` must have at least one example; got none")
    return N


def random(seed: int, number: int) -> np.random.Generator:
    """Returns the random number generator of an epoch."""
    return np.random.default_rng([seed, number])


def check_unreserved(own: Iterable[str], names: Iterable[str]) -> None:
    """Raises if a user's array has the name of an array that the loader adds."""
    for name in own:
        if name in names:
            raise ValueError(f"the name {name!r} is reserved for an array that the loader adds. Choose another.")


def take(arrays: Batch, rows: np.ndarray, size: int) -> Batch:
    """Returns the given rows of each array, padded with zeros to `size` rows, and the mask `"real"`."""
    empty = size - len(rows)
    batch = {name: np.pad(a[rows], [(0, empty), *[(0, 0)] * (a.ndim - 1)]) for name, a in arrays.items()}
    return {**batch, "real": np.arange(size) < len(rows)}
