import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from jaxseq import diagnostics
from tests import zoo
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

T, B, D, H = 6, 3, 2, 4


def reader(net, seed=0):
    """Returns a score of xs and of the mask, `[B]` each, and xs."""
    shapes = jax.eval_shape(lambda key: net.init(key, D), jax.random.key(0))
    params = jax.tree.map(np.asarray, zoo.random_like(shapes, seed))
    generator = np.random.default_rng(seed + 1)
    xs, readout = generator.normal(size=(T, B, D)), generator.normal(size=net.size)

    @jax.jit
    def score(xs, mask=None):
        return jnp.sin(jnp.sum(jaxseq.unroll(net, params, xs, mask=mask)[1] @ readout, axis=0))

    return score, xs


def test_gradient_times_input_of_a_linear_score_is_each_term():
    generator = np.random.default_rng(0)
    weights, xs = generator.normal(size=(2, T, B, D))
    got = jax.jit(lambda xs: diagnostics.gradient_times_input(lambda xs: jnp.sum(weights * xs, axis=(0, 2)), xs))(xs)
    np.testing.assert_allclose(got, weights * xs, rtol=1e-15)


def test_gradient_times_input_of_a_net_is_its_derivative_along_the_input():
    """Σ x ∂s/∂x is d s(αx)/dα at α = 1."""
    score, xs = reader(jaxseq.lstm(H))
    got = np.asarray(diagnostics.gradient_times_input(score, xs)).sum(axis=(0, 2))
    up, down = (np.asarray(score(xs * (1 + step))) for step in (1e-6, -1e-6))
    np.testing.assert_allclose(got, (up - down) / 2e-6, rtol=1e-7)


@pytest.mark.parametrize("given", [False, True])
def test_integrated_gradients_are_complete(given):
    score, xs = reader(jaxseq.bidirectional(jaxseq.gru(H)))
    baseline = np.full_like(xs, 0.3) if given else None
    got = np.asarray(jax.jit(lambda xs: diagnostics.integrated_gradients(score, xs, baseline=baseline))(xs))
    want = np.asarray(score(xs)) - np.asarray(score(baseline if given else np.zeros_like(xs)))
    np.testing.assert_allclose(got.sum(axis=(0, 2)), want, rtol=1e-9)
    assert np.all(np.abs(want) > 1e-2)


def test_integrated_gradients_are_exact_for_polynomials():
    """x² y along the line from (a, b): with v = (x - a), w = (y - b) the integrals are done by hand."""
    x, y, a, b = 1.5, -2.0, 0.5, 1.0
    v, w = x - a, y - b
    by_x = v * 2 * (a * b + (a * w + b * v) / 2 + v * w / 3)
    by_y = w * (a**2 + a * v + v**2 / 3)
    for steps in (2, 5):
        got = diagnostics.integrated_gradients(
            lambda p: p[0] ** 2 * p[1], jnp.array([x, y]), baseline=jnp.array([a, b]), steps=steps
        )
        np.testing.assert_allclose(got, [by_x, by_y], rtol=1e-14)
    assert by_x + by_y == pytest.approx(x**2 * y - a**2 * b)


def test_integrated_gradients_keep_the_dtype():
    xs = jnp.ones((2, 3), jnp.float32)
    assert diagnostics.integrated_gradients(jnp.sum, xs).dtype == jnp.float32


def test_leave_one_out_removes_the_step():
    score, xs = reader(jaxseq.bidirectional(jaxseq.rnn(H)))
    lengths = np.array([4, 4, 1])
    mask = np.arange(T)[:, None] < lengths
    got = jax.jit(lambda mask: diagnostics.leave_one_out(lambda mask: score(xs, mask), mask))(mask)
    want = np.zeros((T, B))
    for b, length in enumerate(lengths):
        row = xs[:length, b]
        without = np.stack([np.delete(row, t, axis=0) for t in range(length)], axis=1)
        want[:length, b] = score(row[:, None]) - score(without)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_leave_one_out_of_one_sequence_without_batch():
    score, xs = reader(jaxseq.rnn(H))
    mask = np.array([True, False, True, True, False, True])

    @jax.jit
    def run(mask):
        return (
            diagnostics.leave_one_out(lambda mask: score(xs[:, 0], mask), mask),
            diagnostics.leave_one_out(lambda mask: score(xs, mask), jnp.stack([mask] * B, axis=1)),
        )

    one, both = map(np.asarray, run(mask))
    np.testing.assert_allclose(one, both[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(one != 0, mask)


def test_under_jit():
    score, xs = reader(jaxseq.gru(H))
    got = jax.jit(lambda xs: diagnostics.integrated_gradients(score, xs))(xs)
    zoo.assert_close(got, diagnostics.integrated_gradients(score, xs), 1e-12)


def test_errors():
    xs = jnp.ones((T, B, D))
    for saliency in (diagnostics.gradient_times_input, diagnostics.integrated_gradients):
        with pytest.raises(TypeError, match=r"`xs` must be floating; got int32\. For tokens"):
            saliency(jnp.sum, jnp.ones((T, B), jnp.int32))
        with pytest.raises(TypeError, match="`xs` must be an array"):
            saliency(jnp.sum, untyped([1.0]))
    with pytest.raises(ValueError, match=r"`baseline` must be like `xs`, float64 \(6, 3, 2\); got float64 \(2,\)"):
        diagnostics.integrated_gradients(jnp.sum, xs, baseline=xs[0, 0])
    with pytest.raises(ValueError, match="`steps` must be a positive int"):
        diagnostics.integrated_gradients(jnp.sum, xs, steps=0)
    mask = np.ones((T, B), bool)
    with pytest.raises(ValueError, match=r"`score_of_mask` must return one number per row, \(3,\); got \(\)"):
        diagnostics.leave_one_out(jnp.sum, mask)
    with pytest.raises(TypeError, match="`mask` must be bool"):
        diagnostics.leave_one_out(jnp.sum, mask.astype(int))
    with pytest.raises(ValueError, match=r"`mask` must be \[T, B\]; got a scalar"):
        diagnostics.leave_one_out(jnp.sum, jnp.array(True))


def test_plot_of_steps_draws_bars(plt):
    values = jnp.array([0.5, -1.0, 0.0])
    ax = diagnostics.plot_saliency(values, tokens=["not", "bad", "."])
    np.testing.assert_array_equal([bar.get_height() for bar in untyped(ax.patches)], values)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["not", "bad", "."]
    ax.figure.canvas.draw()


def test_plot_of_features_draws_a_heat_map(plt):
    values = jnp.arange(8.0).reshape(4, 2) - 2
    _, ax = plt.subplots()
    assert diagnostics.plot_saliency(values, ax=ax) is ax
    np.testing.assert_array_equal(ax.images[0].get_array(), values.T)
    assert ax.images[0].get_clim() == (-5, 5)
    assert ax.get_xlabel() == "step"
    diagnostics.plot_saliency(jnp.zeros((4, 2)))
    ax.figure.canvas.draw()


def test_plot_errors(plt):
    with pytest.raises(ValueError, match=r"`attributions` must be \[T\] or \[T, D\], of one row of the batch"):
        diagnostics.plot_saliency(jnp.ones((T, B, D)))
    with pytest.raises(ValueError, match="`tokens` must hold one name for each of the 4 steps; got 1"):
        diagnostics.plot_saliency(jnp.ones(4), tokens=["a"])


def test_padding_has_no_attribution_whatever_stands_there():
    cell = jaxseq.gru(2)
    params = jax.jit(lambda key: cell.init(key, 3))(jax.random.key(0))
    mask = np.arange(3)[:, None] < [3, 1]
    xs = np.random.default_rng(1).normal(size=(3, 2, 3))

    @jax.jit
    def score(xs):
        return jaxseq.last_valid(jaxseq.unroll(cell, params, xs, mask=mask)[1], mask).sum(-1)

    for saliency in (diagnostics.gradient_times_input, diagnostics.integrated_gradients):
        run = jax.jit(lambda xs, saliency=saliency: saliency(score, xs))
        got = np.asarray(run(np.where(mask[..., None], xs, np.nan)))
        zoo.assert_close(got, run(np.where(mask[..., None], xs, 0.0)), 1e-14)
        assert not np.any(got[1:, 1])


def test_sums_are_kept_wide():
    """In bfloat16 a mean over 300 points, added up as it comes, is off by percents."""
    xs = jnp.ones(4, jnp.bfloat16)
    got = diagnostics.integrated_gradients(lambda xs: jnp.sum(3 * xs), xs, steps=300)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got.astype(float), 3)


def test_no_steps_to_leave_out():
    assert diagnostics.leave_one_out(lambda mask: jnp.zeros(2), jnp.zeros((0, 2), bool)).shape == (0, 2)
