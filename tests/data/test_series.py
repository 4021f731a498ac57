import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxseq.data import Normalizer, cyclic, fill_missing, split_in_time, windows
from tests.untyped import untyped

GAPPY = arrays(float, st.tuples(st.integers(1, 9), st.just(2)), elements=st.sampled_from([np.nan, 1.0, 2.5, -4.0]))
MEANS = np.array([10.0, 20.0])


def test_normalizer_is_mean_and_std_of_what_is_there():
    xs = np.random.default_rng(0).normal(3, 5, (50, 4))
    xs[::7, 1] = np.nan
    xs[:, 3] = 0.1  # whose std, summed in floats, is not quite 0
    normalizer = Normalizer.fit(xs)
    for column in range(4):
        values = [x for x in xs[:, column].tolist() if x == x]
        mean = sum(values) / len(values)
        std = (sum((x - mean) ** 2 for x in values) / len(values)) ** 0.5
        np.testing.assert_allclose(normalizer.mean[column], mean, rtol=1e-12)
        np.testing.assert_allclose(normalizer.std[column], 1 if column == 3 else std, rtol=1e-12)


def test_apply_and_invert_are_inverse_in_numpy_and_in_jax():
    xs = np.random.default_rng(0).normal(3, 5, (6, 5, 3))
    normalizer = Normalizer.fit(xs[0])
    z = normalizer.apply(xs)
    np.testing.assert_allclose(z[0].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z[0].std(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(normalizer.invert(z), xs, rtol=1e-12)
    np.testing.assert_allclose(normalizer.invert(z[..., [2, 0]], columns=[2, 0]), xs[..., [2, 0]], rtol=1e-12)
    np.testing.assert_allclose(normalizer.apply(xs[..., [-1]], columns=[-1]), z[..., [-1]], rtol=1e-12)
    on_device = jax.jit(lambda normalizer, xs: normalizer.invert(normalizer.apply(xs)))(normalizer, jnp.asarray(xs))
    np.testing.assert_allclose(on_device, xs, rtol=1e-5)
    assert on_device.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "want"), [(np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float32)]
)
def test_the_dtype_of_what_is_normalised(dtype, want):
    assert Normalizer.fit([[1], [2]]).apply(np.ones([2, 1], dtype)).dtype == want


@given(GAPPY)
def test_fill_forward_takes_the_last_value_and_never_a_later_one(xs):
    filled, observed = fill_missing(xs, "forward", means=MEANS)
    for column in range(2):
        last = MEANS[column]
        for n in range(len(xs)):
            last = last if np.isnan(xs[n, column]) else xs[n, column]
            assert filled[n, column] == last
    np.testing.assert_array_equal(observed, ~np.isnan(xs))


@given(GAPPY)
def test_fill_with_means(xs):
    np.testing.assert_array_equal(fill_missing(xs, "mean", means=MEANS).xs, np.where(np.isnan(xs), MEANS, xs))


@given(GAPPY)
def test_fill_linear(xs):
    filled = fill_missing(xs, "linear", means=MEANS).xs
    for column, values in enumerate(xs.T):
        known = [n for n in range(len(values)) if not np.isnan(values[n])]
        for n in range(len(values)):
            before, after = [k for k in known if k <= n], [k for k in known if k >= n]
            if not known:
                want = MEANS[column]
            elif not before or not after or before[-1] == after[0]:
                want = values[(before or after)[-1 if before else 0]]
            else:
                a, b = before[-1], after[0]
                want = values[a] + (values[b] - values[a]) * (n - a) / (b - a)
            np.testing.assert_allclose(filled[n, column], want, rtol=1e-12)


def test_fill_leaves_its_input_alone_and_keeps_the_dtype():
    xs = np.array([[1.0], [np.nan], [2.0]], np.float32)
    for how in ("forward", "linear", "mean"):
        filled, _ = fill_missing(xs, how, means=[3])
        assert filled.dtype == np.float32
        assert np.isnan(xs[1, 0])
    assert fill_missing(np.zeros([0, 2])).xs.shape == (0, 2)


@given(
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(1, 3),
    st.none() | st.tuples(*[st.integers(0, 20)] * 2),
)
def test_windows_are_all_there_are_and_leak_nothing(N, length, horizon, stride, bounds):
    xs = np.stack([np.arange(N), 100 + np.arange(N)], axis=1)
    begin, end = (0, N) if bounds is None else (min(bounds), min(N, max(bounds)))
    starts = []
    for s in range(N):
        last_read, first_target, after = s + length - 1, s + length, s + length + horizon
        inside = begin <= first_target and after <= end if horizon else begin <= s and last_read < end
        if inside and after <= N and (not starts or s - starts[-1] >= stride):
            starts.append(s)
    part = None if bounds is None else slice(begin, end)
    if not starts:
        with pytest.raises(ValueError, match="there is no window"):
            windows(xs, length, horizon, stride=stride, part=part)
        return
    inputs, targets, got = windows(xs, length, horizon, stride=stride, targets=[1], part=part)
    assert got.tolist() == starts
    assert inputs.shape == (len(starts), length, 2)
    assert targets.shape == (len(starts), horizon, 1)
    for window, future, s in zip(inputs, targets, starts, strict=True):
        np.testing.assert_array_equal(window, xs[s : s + length])
        np.testing.assert_array_equal(future[:, 0], xs[s + length : s + length + horizon, 1])


def test_windows_of_parts_share_no_target_and_use_every_one():
    xs = np.arange(40)[:, None]
    parts = split_in_time(40, (0.5, 0.25, 0.25))
    targets = [set(windows(xs, 6, 2, part=part).targets.ravel().tolist()) for part in parts]
    assert targets == [set(range(6, 20)), set(range(20, 30)), set(range(30, 40))]


def test_windows_are_views_to_be_read_only():
    xs = np.arange(20.0).reshape(10, 2)
    made = windows(xs, 3, 2, targets=None)
    for view in (made.inputs, made.targets):
        assert np.shares_memory(view, xs)
        assert not view.flags.writeable


def test_cyclic():
    hours = np.array([[0.0, 3.5], [23.0, -1.0]])
    got = cyclic(hours, 24)
    want = np.stack([np.sin(2 * np.pi * hours / 24), np.cos(2 * np.pi * hours / 24)], axis=-1)
    np.testing.assert_allclose(got, want, atol=1e-7)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(cyclic(7 + 24 * 10**9, 24), cyclic(7, 24))


XS = np.arange(10.0).reshape(5, 2)
N2 = Normalizer.fit(XS)
BAD = {
    "one column": (lambda: Normalizer.fit(np.ones(3)), ValueError, r"must be \[N, D\]; got .*\(3,\). One column: xs"),
    "batches": (
        lambda: Normalizer.fit(np.ones([2, 3, 4])),
        ValueError,
        r"`xs` must be \[N, D\]; got the shape \(2, 3, 4\).$",
    ),
    "infinite": (
        lambda: Normalizer.fit([[1, np.inf]]),
        ValueError,
        r"`xs` must be finite.*; column 1 holds an infinity",
    ),
    "no value": (
        lambda: Normalizer.fit([[1, np.nan]]),
        ValueError,
        r"must have at least one value in each column; column 1 has only NaN",
    ),
    "no rows": (
        lambda: Normalizer.fit(np.ones([0, 2])),
        ValueError,
        r"must have at least one value in each column; column 0 has",
    ),
    "text": (lambda: Normalizer.fit([["a"]]), TypeError, r"`xs` must hold numbers; got text"),
    "apply: columns": (
        lambda: N2.apply(np.ones([3, 1])),
        ValueError,
        r"`xs` must be \[..., 2\], .*; got the shape \(3, 1\)",
    ),
    "apply: list": (lambda: N2.apply([[1.0, 2.0]]), TypeError, r"`xs` must be an array \[..., D\]; got list"),
    "invert: names": (
        lambda: N2.invert(XS, columns=[untyped("a")]),
        TypeError,
        r"`columns` must be a list of column numbers",
    ),
    "invert: range": (
        lambda: N2.invert(XS, columns=[0, 2]),
        ValueError,
        r"`columns` must be among the 2 columns",
    ),
    "fill: ints": (lambda: fill_missing([[1]]), TypeError, r"`xs` must be floating, with NaN where .*; got int64"),
    "fill: how": (
        lambda: fill_missing(XS, "zero"),
        ValueError,
        r"`how` must be 'forward' or 'mean' or 'linear'; got 'zero'",
    ),
    "fill: at the start": (
        lambda: fill_missing([[1, np.nan], [2, 3]]),
        ValueError,
        r"`means` must give a value for column 1, where a gap has no value to copy",
    ),
    "fill: means": (
        lambda: fill_missing([[np.nan, 1]], means=[1]),
        ValueError,
        r"`means` must be \[D\] = \(2,\), without NaN; got \[1\]",
    ),
    "fill: means NaN": (lambda: fill_missing([[np.nan]], means=[np.nan]), ValueError, r"without NaN; got \[nan\]"),
    "windows: too short": (
        lambda: windows(XS, 4, 2),
        ValueError,
        r"there is no window of 4 \+ 2 steps with its targets in \[0, 5\); `xs` has 5 steps",
    ),
    "windows: part": (lambda: windows(XS, 2, part=slice(4, 5)), ValueError, r"with its inputs in \[4, 5\)"),
    "windows: length": (lambda: windows(XS, 0), ValueError, r"`length` must be a positive int; got 0"),
    "windows: horizon": (lambda: windows(XS, 1, -1), ValueError, r"`horizon` must be an int, 0 or more; got -1"),
    "windows: stride": (lambda: windows(XS, 1, stride=0), ValueError, r"`stride` must be a positive int; got 0"),
    "windows: target": (
        lambda: windows(XS, 1, 1, targets=untyped(1)),
        TypeError,
        r"`targets` must be a list of column numbers",
    ),
    "windows: targets": (lambda: windows(XS, 1, 1, targets=[2]), ValueError, r"`targets` must be among the 2 columns"),
    "windows: no slice": (lambda: windows(XS, 1, part=untyped((0, 3))), TypeError, r"`part` must be a slice of steps"),
    "windows: steps": (lambda: windows(XS, 1, part=slice(0, 3, 2)), TypeError, r"`part` must be a slice of steps"),
    "cyclic: period": (lambda: cyclic([1], 0), ValueError, r"`period` must be a positive, finite number; got 0"),
    "cyclic: text": (lambda: cyclic(["1"], 2), TypeError, r"`values` must hold numbers; got text"),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
