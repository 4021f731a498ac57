import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxseq.train import losses
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

B, T, K = 3, 4, 5
RNG = np.random.default_rng(0)
MASK = np.arange(T) < np.array([4, 2, 0])[:, None]
LOGITS = 3 * RNG.normal(size=(B, T, K))
LABELS = RNG.integers(K, size=(B, T))
X, Y = RNG.normal(size=(2, B, T))
STD = RNG.uniform(0.1, 3, size=(B, T))
LEVELS = [0.1, 0.5, 0.8]


def softmax_oracle(smoothing, logits, label):
    log_p = logits - scipy.special.logsumexp(logits)
    target = np.full(K, smoothing / K)
    target[label] += 1 - smoothing
    return -(target @ log_p)


def binary_oracle(logit, label):
    p = scipy.special.expit(logit)
    return -label * math.log(p) - (1 - label) * math.log(1 - p)


def huber_oracle(delta, prediction, target):
    e = abs(prediction - target)
    return e**2 / 2 if e <= delta else delta * (e - delta / 2)


def pinball_oracle(predictions, target):
    return sum(
        q * (target - p) if target > p else (1 - q) * (p - target) for q, p in zip(LEVELS, predictions, strict=True)
    ) / len(LEVELS)


# name: the loss, the same for one step by hand, arrays, how many of them have a gradient
CASES = {
    "cross_entropy": (losses.cross_entropy, functools.partial(softmax_oracle, 0), (LOGITS, LABELS), 1),
    "smoothed": (
        functools.partial(losses.cross_entropy, smoothing=0.1),
        functools.partial(softmax_oracle, 0.1),
        (LOGITS, LABELS),
        1,
    ),
    "binary": (losses.binary_cross_entropy, binary_oracle, (X, LABELS % 2), 1),
    "binary_soft": (losses.binary_cross_entropy, binary_oracle, (X, scipy.special.expit(Y)), 2),
    "squared": (losses.squared_error, lambda p, t: (p - t) ** 2, (X, Y), 2),
    "absolute": (losses.absolute_error, lambda p, t: abs(p - t), (X, Y), 2),
    "huber": (losses.huber, functools.partial(huber_oracle, 1), (X, Y), 2),
    "huber_infinite": (functools.partial(losses.huber, delta=np.inf), functools.partial(huber_oracle, 1e30), (X, Y), 2),
    "huber_delta": (functools.partial(losses.huber, delta=0.3), functools.partial(huber_oracle, 0.3), (X, Y), 2),
    "quantile": (functools.partial(losses.quantile, levels=LEVELS), pinball_oracle, (LOGITS[..., :3], Y), 2),
    "gaussian": (losses.gaussian_nll, lambda m, s, t: -scipy.stats.norm.logpdf(t, m, s), (X, STD, Y), 3),
}


@jax.jit
def every(cases, mask):
    """The values of each loss, and the gradients of their sum, by name: one program for all."""

    def run(loss, differentiated, rest):
        def total(differentiated):
            values = loss(*differentiated, *rest, mask=mask)
            return jnp.sum(values), values

        gradients, values = jax.grad(total, has_aux=True)(differentiated)
        return values, gradients

    return {name: run(loss, *cases[name]) for name, (loss, *_) in CASES.items()}


def split(change):
    """The arrays of each case, changed, with those that have a gradient apart."""
    changed = {name: tuple(map(change, arrays)) for name, (_, _, arrays, _) in CASES.items()}
    return {name: (arrays[: CASES[name][-1]], arrays[CASES[name][-1] :]) for name, arrays in changed.items()}


def test_each_step_by_hand():
    whole, without_mask = every(split(np.asarray), np.ones((B, T), bool)), every(split(np.asarray), None)
    for name, (_, oracle, arrays, _) in CASES.items():
        want = [[oracle(*(x[b, t] for x in arrays)) for t in range(T)] for b in range(B)]
        np.testing.assert_allclose(whole[name][0], want, rtol=1e-13, atol=1e-15, err_msg=name)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-15), whole, without_mask)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_padding_reaches_neither_a_value_nor_a_gradient(junk):
    def spoil(x):
        x = x.copy()
        x[~MASK] = junk if x.dtype == float else {np.inf: 10**6, -np.inf: -7}.get(junk, K)
        return x

    whole, spoilt = every(split(np.asarray), np.ones((B, T), bool)), every(split(spoil), MASK)
    for name in CASES:
        for got, want in zip(jax.tree.leaves(spoilt[name]), jax.tree.leaves(whole[name]), strict=True):
            got, want = np.asarray(got), np.asarray(want)
            np.testing.assert_array_equal(got[~MASK], 0, err_msg=name)
            np.testing.assert_allclose(got[MASK], want[MASK], rtol=1e-13, err_msg=name)


def test_labels_out_of_range_on_real_steps_are_no_number():
    values = jax.jit(losses.cross_entropy)(np.zeros((4, 3)), np.array([0, 3, -1, -100]))
    np.testing.assert_allclose(values, [math.log(3), np.nan, np.nan, np.nan], rtol=1e-15)


def test_a_logit_of_minus_infinity_excludes_a_label():
    values = jax.jit(losses.cross_entropy)(np.array([[0.0, 0, -np.inf], [0, 0, -np.inf]]), np.array([0, 2]))
    np.testing.assert_allclose(values, [math.log(2), np.inf], rtol=1e-15)


def test_the_least_pinball_loss_is_at_the_quantile():
    targets = np.arange(101.0)
    mean = jax.jit(lambda p: losses.mean(losses.quantile(jnp.full((101, 1), p), targets, [0.8])))
    assert min(range(101), key=lambda p: mean(float(p))) == 80


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_floats_are_computed_in_float32(dtype):
    @jax.jit
    def run(logits, ones):
        loss = lambda x: losses.mean(losses.cross_entropy(x, LABELS))
        return *jax.value_and_grad(loss)(logits), losses.mean(ones), losses.l2(ones), losses.squared_error(ones, ones)

    logits, ones = LOGITS.astype(dtype), np.ones((3000, 1), dtype)  # a sum stands still at 256, or 2048 in float16
    value, gradient, *rest = run(logits, ones)
    assert gradient.dtype == dtype
    assert {x.dtype for x in (value, *rest)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(value, run(logits.astype(np.float32), ones)[0], rtol=1e-6)
    assert (rest[0], rest[1]) == (1, 3000)


def test_mean():
    np.testing.assert_allclose(losses.mean(X), X.mean(), rtol=1e-15)
    spoilt = np.where(MASK, X, np.nan)
    value, gradient = jax.value_and_grad(lambda x: losses.mean(x, mask=MASK))(jnp.asarray(spoilt))
    np.testing.assert_allclose(value, X[MASK].mean(), rtol=1e-15)
    np.testing.assert_allclose(gradient, MASK / MASK.sum(), rtol=1e-15)
    value, gradient = jax.value_and_grad(lambda x: losses.mean(x, mask=np.zeros_like(MASK)))(jnp.asarray(spoilt))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
    assert losses.mean(np.zeros((0, 3))) == 0
    assert losses.mean(np.array([True, False])) == 0.5
    assert losses.mean(jnp.float32(3)) == 3


def test_penalties_are_on_matrices():
    params = {
        "w": X,
        "deep": [LOGITS.astype(np.float32)],
        "b": X[0],
        "scale": jnp.ones(()),
        "ids": LABELS,
        "none": None,
    }
    want = [abs(X).sum() + abs(LOGITS).sum(), (X**2).sum() + (LOGITS**2).sum()]
    np.testing.assert_allclose([losses.l1(params), losses.l2(params)], want, rtol=1e-6)
    assert losses.l2({"b": X[0]}) == losses.l1(()) == 0
    gradient = jax.grad(losses.l2)({"w": jnp.asarray(X), "b": jnp.asarray(X[0])})
    np.testing.assert_array_equal(gradient["w"], 2 * X)
    np.testing.assert_array_equal(gradient["b"], 0)
    np.testing.assert_array_equal(jax.grad(losses.l1)(jnp.asarray(X)), np.sign(X))
    assert losses.l2(X.astype(np.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    "loss", [losses.squared_error, losses.absolute_error, losses.huber, losses.binary_cross_entropy]
)
def test_nothing_is_broadcast(loss):
    with pytest.raises(ValueError, match=r"must have the shape of `\w+`, \(3, 4\); got \(3, 4, 1\)"):
        loss(X, Y[..., None])
    with pytest.raises(
        ValueError, match=r"`mask` must be bool \[...\] = \(3, 4\); got bool \(3, 1\). Nothing is broad"
    ):
        loss(X, Y, mask=MASK[:, :1])
    with pytest.raises(TypeError, match=r"`mask` must be bool .* Cast it"):
        loss(X, Y, mask=MASK.astype(int))
    with pytest.raises(TypeError, match=r"`\w+` must be floating; got int\d\d \(3, 4\)"):
        loss(LABELS, Y)
    with pytest.raises(TypeError, match=r"must be an array \[...\]; got list"):
        loss(X, [1.0])


def test_errors():
    with pytest.raises(ValueError, match=r"one axis more than `labels` \[...\] = \(3, 4, 1\); got \(3, 4, 5\)"):
        losses.cross_entropy(LOGITS, LABELS[..., None])
    with pytest.raises(ValueError, match=r"`logits` must be \[..., K\]"):
        losses.cross_entropy(np.ones(()), LABELS)
    with pytest.raises(TypeError, match="`labels` must be integer ids; got float64"):
        losses.cross_entropy(LOGITS, X)
    with pytest.raises(TypeError, match="`logits` must be floating"):
        losses.cross_entropy(LABELS[..., None], LABELS)
    with pytest.raises(ValueError, match=r"`smoothing` must be a rate in \[0, 1\); got 1.5"):
        losses.cross_entropy(LOGITS, LABELS, smoothing=1.5)
    with pytest.raises(ValueError, match="`delta` must be a positive number"):
        losses.huber(X, Y, delta=0)
    with pytest.raises(
        ValueError, match=r"\[..., Q\] = \(3, 4, 2\), the shape of `targets` and the 2 `levels`; got \(3, 4\)"
    ):
        losses.quantile(X, Y, [0.1, 0.9])
    with pytest.raises(TypeError, match="`predictions` must be floating"):
        losses.quantile(LABELS[..., None], Y, [0.1])
    for levels in ([0.1, 1.0], [], 0.5, [np.nan]):
        with pytest.raises(ValueError, match="`levels` must be numbers between 0 and 1"):
            losses.quantile(LOGITS, Y, untyped(levels))
    with pytest.raises(ValueError, match=r"`std` must have the shape of `mean`, \(3, 4\); got \(3,\)"):
        losses.gaussian_nll(X, STD[:, 0], Y)
    with pytest.raises(ValueError, match="`mask` must be bool"):
        losses.mean(X, mask=MASK[0])
    with pytest.raises(TypeError, match="`values` must be an array"):
        losses.mean(untyped(1.0))
