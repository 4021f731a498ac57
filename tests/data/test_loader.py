"""What every loader promises, and `batches`, `bucketed` and `streams` each for itself."""

import itertools
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxseq.data import Loader, batches, bucketed, streams
from tests.data import spawned
from tests.untyped import untyped

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(0, 30, 23)
SEQUENCES = [np.full((n, 2), i + 1.0, np.float32) for i, n in enumerate(LENGTHS)]
INDEX = {"index": np.arange(23), "extra": np.ones([23, 3])}
LOADERS = {
    "in order": batches(INDEX, 4),
    "shuffled, drop": batches(INDEX, 4, seed=1),
    "shuffled, keep": batches(INDEX, 4, seed=1, last="keep"),
    "shuffled, pad": batches(INDEX, 4, seed=1, last="pad"),
    "bucketed in order": bucketed(SEQUENCES, INDEX, 4),
    "bucketed": bucketed(SEQUENCES, INDEX, 4, multiple=8, seed=1),
    "streams": streams([np.arange(n) for n in LENGTHS], 3, 7),
    "mapped": bucketed(SEQUENCES, INDEX, 4, seed=1).map(spawned.doubled),
    "part": batches(INDEX, 4, seed=1, last="pad").part(1, 2),
    "part, mapped": bucketed(SEQUENCES, INDEX, 4, seed=1).part(0, 4).map(spawned.doubled),
}


def same(one, other):
    assert len(one) == len(other)
    for batch, again in zip(one, other, strict=True):
        assert batch.keys() == again.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], again[name])


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("number", [0, 3])
def test_an_epoch_resumed_is_the_tail_of_the_whole(loader, number):
    whole = list(loader.epoch(number))
    assert len(whole) == len(loader) > 1
    for start in (0, 1, len(loader) - 1, len(loader)):
        same(list(loader.epoch(number, start)), whole[start:])


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_a_change_to_a_batch_reaches_no_other_epoch(loader):
    before = [{name: array.copy() for name, array in batch.items()} for batch in loader.epoch(0)]
    for batch in loader.epoch(0):
        for array in batch.values():
            array[...] = 0
    same(list(loader.epoch(0)), before)


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
def test_loaders_pickle(loader):
    again = pickle.loads(pickle.dumps(loader))
    same(list(again.epoch(3)), list(loader.epoch(3)))


def test_loaders_run_in_a_spawned_process():
    loader = LOADERS["mapped"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        same(pool.apply(spawned.batches, (loader, 3)), list(loader.epoch(3)))


def test_a_resumed_epoch_makes_no_batch_that_is_skipped():
    made = []
    loader = Loader(5, lambda number: lambda i: made.append((number, i)) or {})
    assert len(list(loader.epoch(2, 3))) == 2
    assert made == [(2, 3), (2, 4)]


@pytest.mark.parametrize("name", ["in order", "shuffled, drop", "shuffled, pad", "bucketed", "mapped"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_parts_of_a_batch_are_its_rows_in_order(name, count):
    loader = LOADERS[name]
    parts = [loader.part(index, count) for index in range(count)]
    assert {(len(part), part.dropped, part.parts) for part in parts} == {(len(loader), loader.dropped, count)}
    for number, start in ((0, 0), (3, 2)):
        of_all = zip(*(part.epoch(number, start) for part in parts), strict=True)
        together = [{key: np.concatenate([each[key] for each in of_one]) for key in of_one[0]} for of_one in of_all]
        same(together, list(loader.epoch(number, start)))


def test_parts_of_the_last_batch_and_rows_that_make_no_equal_parts():
    kept = batches({"i": np.arange(10)}, 4, last="keep")
    assert [batch["i"].tolist() for batch in kept.part(1, 2).epoch(0)] == [[2, 3], [6, 7], [9]]
    with pytest.raises(ValueError, match="`batch` must have rows for 4 equal parts; it has 2"):
        list(kept.part(0, 4).epoch(0))
    with pytest.raises(ValueError, match="`batch_size` must have rows for 3 equal parts; it has 4"):
        kept.part(0, 3)
    with pytest.raises(ValueError, match=r"`batch\['xs'\]` must have rows for 2 equal parts; it has 3"):
        next(LOADERS["streams"].part(0, 2).epoch(0))


def indices(loader, number):
    rows = [batch["index"][batch.get("real", slice(None))] for batch in loader.epoch(number)]
    return np.concatenate(rows).tolist()


@pytest.mark.parametrize("name", ["shuffled, keep", "shuffled, pad", "bucketed", "bucketed in order"])
def test_every_example_once_an_epoch(name):
    for number in range(3):
        assert sorted(indices(LOADERS[name], number)) == list(range(23))


@pytest.mark.parametrize("name", ["shuffled, drop", "shuffled, keep", "shuffled, pad", "bucketed"])
def test_epochs_differ(name):
    orders = [tuple(indices(LOADERS[name], number)) for number in range(6)]
    assert len(set(orders)) == 6


def test_seeds_differ_and_the_same_seed_is_the_same_order():
    orders = [indices(batches(INDEX, 4, seed=seed), 0) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert indices(batches(INDEX, 4, seed=1), 1) != orders[2]


def test_dropped_examples_come_in_other_epochs():
    assert len(LOADERS["shuffled, drop"]) == 5
    assert set().union(*(indices(LOADERS["shuffled, drop"], number) for number in range(9))) == set(range(23))


def test_batches_without_a_seed_come_in_order():
    assert indices(LOADERS["in order"], 0) == indices(LOADERS["in order"], 1) == list(range(20))
    assert [len(batch["index"]) for batch in batches(INDEX, 10, last="keep").epoch(0)] == [10, 10, 3]


def test_rows_of_padding_are_zeros_and_not_real():
    (batch,) = batches({"a": [[1.5, 2]], "b": [True]}, 3, last="pad").epoch(0)
    assert batch["real"].tolist() == [True, False, False]
    assert batch["a"].tolist() == [[1.5, 2], [0, 0], [0, 0]]
    assert batch["b"].tolist() == [True, False, False]
    assert all(batch["real"].all() for batch in batches(INDEX, 23, last="pad").epoch(0))


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(1, 6), st.integers(1, 8), st.none() | st.just(3)
)
def test_bucketed(lengths, batch_size, multiple, seed):
    lengths = np.array(lengths)
    tokens = [list(range(1, n + 1)) for n in lengths]
    tags = [np.array([[t, -t] for t in row], int).reshape(-1, 2) for row in tokens]
    loader = bucketed(
        {"tokens": tokens, "tags": tags}, {"index": np.arange(len(lengths))}, batch_size, multiple=multiple, seed=seed
    )
    assert len(loader) == -(-len(lengths) // batch_size)
    shapes = []
    for number in range(2):
        epoch = list(loader.epoch(number))
        shapes.append(sorted(batch["tokens"].shape for batch in epoch))
        assert sorted(index for batch in epoch for index in batch["index"][batch["real"]]) == list(range(len(lengths)))
        for batch in epoch:
            B, T = batch["tokens"].shape
            assert batch_size == B
            assert T % multiple == 0
            rows = batch["index"][batch["real"]]
            longest = max(1, *lengths[rows])
            assert 0 <= T - longest < multiple
            for b in range(B):
                n = lengths[batch["index"][b]] if batch["real"][b] else 0
                np.testing.assert_array_equal(batch["mask"][b], np.arange(T) < n)
                np.testing.assert_array_equal(batch["tokens"][b], [t + 1 if t < n else 0 for t in range(T)])
                np.testing.assert_array_equal(batch["tags"][b, :, 1], -batch["tokens"][b])
    assert shapes[0] == shapes[1]


def test_bucketed_keeps_padding_low_and_dtypes():
    lengths = RANDOM.integers(1, 200, 500)
    loader = bucketed([np.zeros(n, np.int64) for n in lengths], {}, 16, multiple=8, seed=0)
    epoch = list(loader.epoch(0))
    assert {batch["xs"].dtype for batch in epoch} == {np.dtype(np.int32)}
    assert sum(batch["mask"].size for batch in epoch) < 1.1 * lengths.sum()
    assert epoch[0].keys() == {"xs", "mask", "real"}
    longest = [[batch["xs"].shape[1] for batch in loader.epoch(number)] for number in range(2)]
    assert longest[0] != longest[1] != sorted(longest[1], reverse=True)  # batches come in any order


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 5), st.integers(1, 6))
def test_streams_lose_nothing_and_go_on_from_batch_to_batch(lengths, batch_size, length):
    """Read row by row, the real steps are the documents one after the other."""
    ends = np.cumsum(lengths)
    documents = [np.arange(end - n, end) for n, end in zip(lengths, ends, strict=True)]
    pairs = [(i, x, y) for i, d in enumerate(documents) for x, y in itertools.pairwise(d)]
    if not pairs:
        return
    epoch = list(streams(documents, batch_size, length).epoch(0))
    rows = {name: np.concatenate([batch[name] for batch in epoch], axis=1) for name in epoch[0]}
    mask = rows["mask"]
    assert all(batch["xs"].shape == (batch_size, length) for batch in epoch)
    assert np.all(mask[:, :-1] >= mask[:, 1:])
    assert list(zip(rows["xs"][mask], rows["targets"][mask], strict=True)) == [(x, y) for _, x, y in pairs]
    owner = [i for i, _, _ in pairs]
    starts = np.array([n == 0 or owner[n] != owner[n - 1] for n in range(len(owner))])
    _, step = np.nonzero(mask)
    np.testing.assert_array_equal(rows["reset"][mask], starts | (step == 0))
    longest = max(mask.sum(axis=1))
    assert longest == -(-len(pairs) // batch_size)
    assert len(epoch) == -(-longest // length)
    assert rows["reset"][:, 0].all()
    assert rows["xs"].dtype == rows["targets"].dtype == np.int32
    assert not rows["xs"][~mask].any()


def test_streams_of_one_document():
    for ids in (np.arange(9, dtype=np.uint16), list(range(9))):
        epoch = list(streams(ids, 2, 4).epoch(0))
        assert len(epoch) == 1
        assert epoch[0]["xs"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
        assert epoch[0]["targets"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
        assert epoch[0]["reset"].astype(int).tolist() == [[1, 0, 0, 0]] * 2
        assert epoch[0]["mask"].all()


ONE = {"xs": np.ones(3)}
BAD = {
    "part": (lambda: LOADERS["in order"].part(2, 2), ValueError, "`index` must be below `count`, 2; got 2"),
    "part of a part": (lambda: LOADERS["part"].part(0, 2), ValueError, "already gives one of 2 parts"),
    "B above N": (lambda: batches(ONE, 4), ValueError, r"`batch_size` 4 is above N = 3, .* use `last` 'keep' or 'pad'"),
    "B 0": (lambda: batches(ONE, 0), ValueError, r"`batch_size` must be a positive int; got 0"),
    "no examples": (lambda: batches({"xs": []}, 1), ValueError, r"`arrays` must have at least one example"),
    "no arrays": (lambda: batches({}, 1), ValueError, r"`arrays` must have at least one example"),
    "an array": (
        lambda: batches(untyped(np.ones(3)), 1),
        TypeError,
        r"`arrays` must be a dict of arrays .*; got ndarray",
    ),
    "a number": (lambda: batches({"xs": 1}, 1), ValueError, r"`arrays\['xs'\]` must be \[N, ...\], .* got a number"),
    "sizes": (
        lambda: batches({"xs": np.ones(3), "ys": np.ones(4)}, 1),
        ValueError,
        r"the same number of examples; got 3 in `arrays\['xs'\]`, 4 in `arrays\['ys'\]`",
    ),
    "ragged": (
        lambda: batches({"xs": [[1], [2, 3]]}, 1),
        ValueError,
        r"`arrays\['xs'\]` .*; its parts have different shapes",
    ),
    "objects": (
        lambda: batches({"xs": np.array([None])}, 1),
        TypeError,
        r"`arrays\['xs'\]` must hold numbers; got object",
    ),
    "text": (
        lambda: batches({"xs": ["a"]}, 1),
        TypeError,
        r"`arrays\['xs'\]` must hold numbers; got text.*, classes by np",
    ),
    "a loader in a loop": (lambda: [*untyped(batches(ONE, 1))], TypeError, r"of an epoch: loader\.epoch\(number\)$"),
    "last": (lambda: batches(ONE, 1, last="wrap"), ValueError, r"`last` must be 'drop' or 'keep' or 'pad'; got 'wrap'"),
    "seed": (lambda: batches(ONE, 1, seed=-1), ValueError, r"`seed` must be an int, 0 or more; got -1"),
    "real": (lambda: batches({"real": [1]}, 1, last="pad"), ValueError, r"the name 'real' is reserved"),
    "epoch": (lambda: batches(ONE, 1).epoch(-1), ValueError, r"`number` must be an int, 0 or more; got -1"),
    "start": (lambda: batches(ONE, 1).epoch(0, 4), ValueError, r"`start` must be at most 3, .*; got 4"),
    "map": (
        lambda: batches(ONE, 1).map(untyped(3)),
        TypeError,
        r"`function` must be a function of 1 arguments by position; got 3",
    ),
    "bucketed: none": (lambda: bucketed([], {}, 2), ValueError, r"`sequences` must have at least one example"),
    "bucketed: dict": (lambda: bucketed({}, {}, 2), ValueError, r"`sequences` must hold at least one list"),
    "bucketed: texts": (lambda: bucketed(["ab"], {}, 2), TypeError, r"`sequences\[0\]` must hold numbers; got text"),
    "bucketed: sizes": (lambda: bucketed([[1]], {"y": [1, 2]}, 2), ValueError, r"got 1 in `xs`, 2 in `y`"),
    "bucketed: name": (lambda: bucketed([[1]], {"mask": [1]}, 2), ValueError, r"the name 'mask' is reserved"),
    "bucketed: xs": (lambda: bucketed([[1]], {"xs": [1]}, 2), ValueError, r"the name 'xs' is reserved"),
    "bucketed: own": (lambda: bucketed({"real": [[1]]}, {}, 2), ValueError, r"the name 'real' is reserved"),
    "bucketed: B": (lambda: bucketed([[1]], {}, True), TypeError, r"`batch_size` must be a positive int; got True"),
    "bucketed: multiple": (
        lambda: bucketed([[1]], {}, 2, multiple=0),
        ValueError,
        r"`multiple` must be a positive int",
    ),
    "bucketed: lengths": (
        lambda: bucketed({"a": [[1], [1]], "b": [[1], [1, 2]]}, {}, 2),
        ValueError,
        r"number 1 has 1 steps in 'a', 2 in 'b'",
    ),
    "loader: count": (
        lambda: Loader(untyped(1.5), untyped(print)),
        TypeError,
        r"`count` must be an int, 0 or more; got 1.5",
    ),
    "loader: plan": (
        lambda: Loader(1, untyped(None)),
        TypeError,
        r"`plan` must be a function of 1 arguments .*; got None",
    ),
    "streams: floats": (lambda: streams([0.5, 1.0], 1, 1), TypeError, r"`ids` must be integer ids; got float64"),
    "streams: text": (lambda: streams("text", 1, 1), TypeError, r"`ids` must be a list of ids, .*; got str"),
    "streams: texts": (lambda: streams(["text"], 1, 1), TypeError, r"`ids\[0\]` must hold numbers; got text"),
    "streams: float documents": (lambda: streams([[0.5]], 1, 1), TypeError, r"`ids\[0\]` must be integer ids"),
    "streams: short": (lambda: streams([[1], []], 1, 1), ValueError, r"must hold a document of at least two tokens"),
    "streams: none": (lambda: streams([], 1, 1), ValueError, r"must hold a document of at least two tokens"),
    "streams: B": (lambda: streams([1, 2], 0, 1), ValueError, r"`batch_size` must be a positive int; got 0"),
    "streams: length": (lambda: streams([1, 2], 1, 0), ValueError, r"`length` must be a positive int; got 0"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
