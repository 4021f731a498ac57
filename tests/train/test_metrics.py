import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxseq.train import losses, metrics
from tests.untyped import untyped

B, T, K = 5, 6, 4
RNG = np.random.default_rng(0)
LENGTHS = np.array([6, 3, 0, 1, 5])
MASK = np.arange(T) < LENGTHS[:, None]
LABELS, PREDICTED = RNG.integers(K - 1, size=(2, B, T))  # the last class does not occur
X, Y, LOW = RNG.normal(size=(3, B, T)).astype(np.float32)
HIGH = LOW + 2
SCALE = RNG.uniform(1, 2, size=(B, 1)).astype(np.float32)
SCORES = untyped(sklearn.metrics.precision_recall_fscore_support)  # its stub takes `zero_division` for a str
TAGS = ["O", "B-X", "I-X", "B-Y"]

# name: (floats [B, T] × 4, scale [B, 1], ids [B, T] × 2, mask) -> the metric
METRICS = {
    "mean": lambda x, y, low, high, scale, predicted, labels, mask: metrics.mean(x, mask=mask),
    "accuracy": lambda x, y, low, high, scale, predicted, labels, mask: metrics.accuracy(predicted, labels, mask=mask),
    "perplexity": lambda x, y, low, high, scale, predicted, labels, mask: metrics.perplexity(jnp.abs(x), mask=mask),
    "confusion": lambda x, y, low, high, scale, predicted, labels, mask: metrics.confusion(
        predicted, labels, K, mask=mask
    ),
    "spans": lambda x, y, low, high, scale, predicted, labels, mask: metrics.spans(predicted, labels, TAGS, mask=mask),
    "edits": lambda x, y, low, high, scale, predicted, labels, mask: metrics.edits(
        predicted, labels, predicted_mask=mask, mask=mask
    ),
    "mae": lambda x, y, low, high, scale, predicted, labels, mask: metrics.mae(x, y, mask=mask),
    "rmse": lambda x, y, low, high, scale, predicted, labels, mask: metrics.rmse(x, y, mask=mask),
    "mase": lambda x, y, low, high, scale, predicted, labels, mask: metrics.mase(x, y, scale, mask=mask),
    "coverage": lambda x, y, low, high, scale, predicted, labels, mask: metrics.coverage(low, high, y, mask=mask),
}
BATCH = (X, Y, LOW, HIGH, SCALE, PREDICTED, LABELS, MASK)


@jax.jit
def every(*batch):
    return {name: metric(*batch) for name, metric in METRICS.items()}


@jax.jit
def numbers(all_metrics):
    return {name: metric.value for name, metric in all_metrics.items()}


confusion = jax.jit(metrics.confusion, static_argnums=2)


def real(x):
    return x[MASK]


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_values():
    """Each number against scikit-learn or a definition."""
    got = metrics.compute(numbers(every(*BATCH)))
    labels, predicted, x, y = map(real, (LABELS, PREDICTED, X, Y))
    macro = SCORES(labels, predicted, average="macro", zero_division=0)[:3]
    scale = real(np.broadcast_to(SCALE, (B, T)))
    want = {
        "mean": x.mean(),
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "perplexity": math.exp(abs(x).mean()),
        "confusion/accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        **{f"confusion/{name}": value for name, value in zip(("precision", "recall", "f1"), macro, strict=True)},
        "mae": sklearn.metrics.mean_absolute_error(y, x),
        "rmse": sklearn.metrics.root_mean_squared_error(y, x),
        "mase": (abs(x - y) / scale).mean(),
        "coverage": np.mean([low <= t <= high for low, high, t in zip(*map(real, (LOW, HIGH, Y)), strict=True)]),
    }
    assert all(isinstance(value, float) for value in got.values())
    for name, value in want.items():
        np.testing.assert_allclose(got.pop(name), value, rtol=2e-6, err_msg=name)
    assert set(got) == {"spans/precision", "spans/recall", "spans/f1", "edits"}  # in files of their own


def test_what_stands_in_padding_counts_nowhere():
    def spoil(x):
        return np.where(MASK, x, np.nan if x.dtype == np.float32 else 10**6).astype(x.dtype)

    spoilt = [spoil(x) if x.shape == (B, T) and x.dtype != bool else x for x in BATCH]
    jax.tree.map(np.testing.assert_array_equal, every(*spoilt), every(*BATCH))


def test_without_a_mask_all_are_real():
    everywhere = every(*BATCH[:-1], np.ones((B, T), bool))
    jax.tree.map(same, every(*BATCH[:-1], None), everywhere)


def test_merged_batches_are_one():
    """However many real steps each has; in a scan from nothing, and by psum."""

    @jax.jit
    def scanned(batch):
        def row(total, row):
            metric = every(*row)
            return metrics.merge(total, metric), metric

        start = jax.tree.map(jnp.zeros_like, whole)
        return jax.lax.scan(row, start, jax.tree.map(lambda x: x[:, None], batch))

    whole = every(*BATCH)
    merged, rows = scanned(BATCH)
    jax.tree.map(same, merged, whole)
    summed = jax.jit(jax.vmap(lambda row: jax.lax.psum(row, "rows"), axis_name="rows"))(rows)
    jax.tree.map(lambda a, b: same(a[0], b), summed, whole)


def test_nothing_counted():
    nothing = every(*BATCH[:-1], np.zeros((B, T), bool))
    values = metrics.compute(numbers(nothing))
    zeros = {name for name, value in values.items() if value == 0}
    assert zeros == {"spans/precision", "spans/recall", "spans/f1"}
    assert all(math.isnan(value) for name, value in values.items() if name not in zeros)
    assert math.isnan(nothing["perplexity"].bits)
    np.testing.assert_array_equal(nothing["confusion"].f1, np.zeros(K))
    jax.tree.map(np.testing.assert_array_equal, metrics.merge(nothing, every(*BATCH)), every(*BATCH))
    empty = every(*(x[:0] for x in BATCH))
    jax.tree.map(np.testing.assert_array_equal, empty, nothing)


def test_the_mean_is_differentiable_and_exact_in_counts():
    gradient = jax.jit(jax.grad(lambda x, mask: metrics.mean(x, mask=mask).value))
    np.testing.assert_allclose(gradient(np.where(MASK, X, np.nan), MASK), MASK / MASK.sum(), rtol=1e-6)
    np.testing.assert_array_equal(gradient(X, np.zeros_like(MASK)), 0)
    many = metrics.Mean(jnp.int32(2**24), jnp.int32(2**24))
    assert metrics.merge(many, metrics.mean(np.array([True]))) == (2**24 + 1, 2**24 + 1)
    over = metrics.merge(many._replace(count=jnp.int32(2**31 - 1)), many)
    assert math.isnan(over.value)
    total = metrics.mean(jnp.ones(3000, jnp.bfloat16)).total
    assert total == 3000
    assert total.dtype == jnp.float32


def test_perplexity():
    nll = jax.jit(losses.cross_entropy)(np.zeros((3, 8), np.float32), np.array([1, 2, 3]))
    metric = metrics.perplexity(nll)
    np.testing.assert_allclose([metric.value, metric.bits], [8, 3], rtol=1e-6)


ids = st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1), st.booleans()), min_size=12, max_size=12)


@settings(max_examples=50)
@given(ids)
def test_confusion_is_scikit_learns(steps):
    predicted, labels, mask = map(np.array, zip(*steps, strict=True))
    counts, per_class, macro, accuracy, binary = jit_confusion(predicted, labels, mask)
    predicted, labels = predicted[mask], labels[mask]
    if not len(labels):
        return
    classes = range(K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single label
        np.testing.assert_array_equal(counts, sklearn.metrics.confusion_matrix(labels, predicted, labels=classes))
    scores = functools.partial(SCORES, labels, predicted, zero_division=0)
    np.testing.assert_allclose(per_class, scores(labels=classes)[:3], rtol=1e-6)
    np.testing.assert_allclose(macro, scores(average="macro")[:3], rtol=1e-6)
    np.testing.assert_allclose([accuracy] * 3, scores(average="micro")[:3], rtol=1e-6)
    np.testing.assert_allclose(binary, [score[1] for score in scores(labels=classes)[:3]], rtol=1e-6)


@jax.jit
def jit_confusion(predicted, labels, mask):
    got = metrics.confusion(predicted, labels, K, mask=mask)
    return got.counts, (got.precision, got.recall, got.f1), got.macro, got.accuracy, got.binary


def test_confusion_of_flags_is_binary():
    alarms, anomalies = np.array([True, True, False, False]), np.array([True, False, False, True])
    got = jit_confusion(alarms, anomalies, np.ones(4, bool))
    np.testing.assert_array_equal(got[0][:2, :2], [[1, 1], [1, 1]])
    np.testing.assert_array_equal(got[-1], [0.5, 0.5, 0.5])


def test_confusion_leaves_out_ids_out_of_range():
    predicted, labels = np.array([0, 4, -1, 1, 1, 200], np.int16), np.array([0, 1, 1, 4, -100, 1], np.int16)
    np.testing.assert_array_equal(confusion(predicted, labels, 2).counts, [[1, 0], [0, 0]])
    big = np.array([255], np.uint8)  # 255 × 256 + 255 is beyond its dtype
    assert confusion(big, big, 256).counts[255, 255] == 1


def test_confusion_is_right_beyond_a_floats_and_an_ints_range():
    counts = jnp.array([[2**30, 2**29], [0, 2**29]], jnp.int32)
    np.testing.assert_allclose(metrics.Confusion(counts).f1, [0.8, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize("season", [1, 2])
def test_naive_scale(season, axis):
    series = RNG.normal(size=(4, 7, 2)).astype(np.float32)
    mask = np.arange(7)[:, None] < np.array([7, 3, 1, 0])[:, None, None]
    mask = np.repeat(mask, 2, axis=-1)
    mask[0, 2] = False  # a hole
    spoilt = np.where(mask, series, np.nan)
    naive_scale = jax.jit(functools.partial(metrics.naive_scale, season=season, axis=axis))
    got = naive_scale(spoilt, mask=mask)
    assert got.shape == (4, 1, 2)
    for b in range(4):
        for d in range(2):
            pairs = [(t - season, t) for t in range(season, 7) if mask[b, t, d] and mask[b, t - season, d]]
            want = np.mean([abs(series[b, t, d] - series[b, s, d]) for s, t in pairs]) if pairs else np.nan
            np.testing.assert_allclose(got[b, 0, d], want, rtol=1e-6)


def test_naive_scale_of_short_series():
    scale = jax.jit(functools.partial(metrics.naive_scale, season=3))
    np.testing.assert_array_equal(scale(np.ones((2, 3), np.float32)), [[np.nan]] * 2)
    np.testing.assert_array_equal(scale(np.ones((2, 0), np.float32)), [[np.nan]] * 2)
    np.testing.assert_array_equal(scale(np.array([1.0, 4.0, 2.0, 3.5])), [2.5])


def test_mase_is_one_for_the_naive_forecast_in_sample():
    @jax.jit
    def run(x, y):
        return metrics.mase(y[:, :-1], y[:, 1:], metrics.naive_scale(y)).value, metrics.mase(x, y, jnp.float32(2)).value

    np.testing.assert_allclose(run(X, Y), [1, abs(X - Y).mean() / 2], rtol=1e-6)


def test_compute_flattens():
    mean = metrics.mean(np.array([1.0, 2.0]))
    got = metrics.compute(
        {"a": mean, "b": {"c": mean, "d": {"e": jnp.int32(3)}}, "f": 4, "g": metrics.Confusion(jnp.eye(2))}
    )
    want = {"a": 1.5, "b/c": 1.5, "b/d/e": 3.0, "f": 4.0}
    assert got == want | {"g/accuracy": 1.0, "g/precision": 1.0, "g/recall": 1.0, "g/f1": 1.0}
    assert metrics.compute({}) == {}


def test_errors():
    for metric in (metrics.accuracy, functools.partial(metrics.confusion, classes=K)):
        with pytest.raises(ValueError, match=r"`labels` must have the shape of `predicted`, \(5, 6\); got \(5, 6, 1\)"):
            metric(PREDICTED, LABELS[..., None])
        with pytest.raises(TypeError, match=r"`predicted` must be integer ids; got float32.*argmax"):
            metric(X, LABELS)
        with pytest.raises(ValueError, match="`mask` must be bool"):
            metric(PREDICTED, LABELS, mask=MASK[0])
    for metric in (metrics.mae, metrics.rmse, functools.partial(metrics.mase, scale=SCALE)):
        with pytest.raises(ValueError, match="`targets` must have the shape of `predictions`"):
            metric(X, Y[..., None])
    with pytest.raises(ValueError, match=r"`upper` must have the shape of `lower`, \(5, 6\); got \(6,\)"):
        metrics.coverage(LOW, HIGH[0], Y)
    with pytest.raises(
        ValueError, match=r"`scale` must be a scalar, or have the axes of `targets` \(5, 6\).*got \(5,\)"
    ):
        metrics.mase(X, Y, SCALE[:, 0])
    with pytest.raises(ValueError, match=r"each of the same size or 1; got \(4, 1\)"):
        metrics.mase(X, Y, SCALE[:4])
    with pytest.raises(TypeError, match="`scale` must be an array"):
        metrics.mase(X, Y, untyped(2.0))
    with pytest.raises(TypeError, match="`nll` must be floating"):
        metrics.perplexity(LABELS)
    with pytest.raises(ValueError, match="`mask` must be bool"):
        metrics.mean(X, mask=MASK[0])
    with pytest.raises(TypeError, match="`values` must be an array"):
        metrics.mean(untyped([1.0]))
    with pytest.raises(ValueError, match="`classes` must be a positive int; got 0"):
        metrics.confusion(PREDICTED, LABELS, 0)
    with pytest.raises(TypeError, match="`series` must be floating"):
        metrics.naive_scale(LABELS)
    with pytest.raises(ValueError, match="`season` must be a positive int"):
        metrics.naive_scale(X, season=0)
    with pytest.raises(ValueError, match=r"`axis` must be one of the 2 axes of `series` \(5, 6\); got 2"):
        metrics.naive_scale(X, axis=2)
    with pytest.raises(ValueError, match="`a` and `b` must be the same metrics"):
        metrics.merge(metrics.mean(X), metrics.rmse(X, Y))
    with pytest.raises(ValueError, match=r"got Confusion\(counts=.*\(1, 1\).*\) and Confusion\(counts=.*\(2, 2\)"):
        metrics.merge(metrics.Confusion(jnp.eye(1)), metrics.Confusion(jnp.eye(2)))
    with pytest.raises(TypeError, match=r"'a/b' is of shape \(3,\)"):
        metrics.compute({"a": {"b": np.ones(3)}})
    for x in ((1, 2), "1", None):
        with pytest.raises(TypeError, match="`metrics` must be metrics or scalars; 'a' is"):
            metrics.compute({"a": x})


def test_large_integers_are_not_cut():
    assert float(metrics.mean(jnp.array([2_000_000_000] * 2)).value) == 2e9
    with pytest.raises(ValueError, match="`predicted` holds int64 numbers beyond int32; enable jax_enable_x64"):
        metrics.accuracy(np.array([2**32 + 1]), np.array([1]))


@pytest.mark.parametrize("masked", [False, True])
def test_coverage_is_of_the_targets_that_are_known(masked):
    """A missing one is neither in nor out; an interval of NaN holds nothing."""
    targets, low = np.array([0.5, np.nan, 2.0, 0.5, np.nan], np.float32), np.array([0, 0, 0, np.nan, 0], np.float32)
    mask = np.array([True, True, True, True, False]) if masked else None
    found = metrics.coverage(low, np.ones(5, np.float32), targets, mask=mask)
    assert (int(found.total), int(found.count)) == (1, 3)
    assert jnp.issubdtype(found.total.dtype, jnp.integer)
    assert np.isnan(metrics.coverage(low[:1], low[:1], targets[1:2]).value)
