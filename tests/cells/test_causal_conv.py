"""The causal convolution: its window under masks and resets, and what it is beside other convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseq
from tests import zoo

T, B, H, WIDTH = 9, 3, 4, 3
NET = jaxseq.causal_conv(H, width=WIDTH)


def problem(seed=0):
    params = zoo.params_of(NET, H, seed=seed)
    return params, np.random.default_rng(seed).normal(size=(T, B, H))


def by_numpy(params, xs):
    """`numpy.convolve` of each row and feature, `[T, ...]`."""
    w, b = (np.asarray(leaf) for leaf in params)
    flat = xs.reshape(len(xs), -1, H)
    ys = [np.convolve(flat[:, row, h], w[:, h])[: len(xs)] + b[h] for row in range(flat.shape[1]) for h in range(H)]
    return np.array(ys).T.reshape(xs.shape)


def test_it_is_numpys_convolution(x64):
    params, xs = problem()
    carry, ys = jaxseq.unroll(NET, params, xs)
    np.testing.assert_allclose(ys, by_numpy(params, xs), rtol=1e-12)
    np.testing.assert_array_equal(carry, np.moveaxis(xs[-2:], 0, 1))
    _, ys = jaxseq.unroll(NET, params, xs, reverse=True)
    np.testing.assert_allclose(ys, by_numpy(params, xs[::-1])[::-1], rtol=1e-12)


def test_fixed_numbers():
    params = jaxseq.CausalConvParams(w=jnp.array([[1.0], [0.5], [0.25]]), b=jnp.array([10.0]))
    net, xs = jaxseq.causal_conv(1, width=3), jnp.array([1.0, 2.0, 4.0, 8.0])[:, None]
    assert jaxseq.unroll(net, params, xs)[1].ravel().tolist() == [11, 12.5, 15.25, 20.5]
    assert jaxseq.unroll(net, params, xs, jnp.array([[16.0], [32.0]]))[1].ravel().tolist() == [31, 20.5, 15.25, 20.5]
    assert jaxseq.unroll(net, params, xs, reverse=True)[1].ravel().tolist() == [13, 16, 18, 18]
    mask = jnp.array([True, False, True, True])
    carry, ys = jaxseq.unroll(net, params, xs, mask=mask)
    assert ys.ravel().tolist() == [11, 0, 14.5, 20.25]  # the 2 is as if it were not there
    assert carry.ravel().tolist() == [4, 8]
    carry, ys = jaxseq.unroll(net, params, xs, reset=jnp.array([False, False, False, True]))
    assert ys.ravel().tolist() == [11, 12.5, 15.25, 18]
    assert carry.ravel().tolist() == [0, 8]


def test_a_padded_reset_empties_the_window():
    params, xs = problem()
    xs = xs.astype(np.float32)
    mask, reset = np.ones((T, B), bool), np.zeros((T, B), bool)
    mask[4], reset[4] = False, True
    carry, ys = jaxseq.unroll(NET, params, xs, mask=mask, reset=reset)
    _, before = jaxseq.unroll(NET, params, xs[:4])
    after_carry, after = jaxseq.unroll(NET, params, xs[5:])
    np.testing.assert_allclose(ys, np.concatenate([before, np.zeros_like(xs[:1]), after]), rtol=1e-6)
    np.testing.assert_array_equal(carry, after_carry)


@pytest.mark.some(1)
@pytest.mark.parametrize("width", [1, 2, 20])
def test_windows_of_one_step_and_longer_than_the_sequence(width, x64):
    net = jaxseq.causal_conv(H, width=width)
    params = zoo.params_of(net, H, seed=1)
    _, xs = problem()
    mask = np.random.default_rng(1).random((T, B)) < 0.6
    step, carry, ys = jax.jit(jaxseq.step, static_argnums=0), net.carry(params, (B,)), []
    assert carry.shape == (B, width - 1, H)
    for x, real in zip(xs, mask, strict=True):
        new, y = step(net, params, carry, x)
        carry = jnp.where(real[:, None, None], new, carry)
        ys.append(np.where(real[:, None], y, 0))
    got_carry, got = jaxseq.unroll(net, params, xs, mask=mask)
    np.testing.assert_allclose(got, ys, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got_carry, carry)


def test_before_a_recurrence_and_in_both_directions(x64):
    """As in Mamba's block: a net of nets, streamed as unrolled; and beside its mirror."""
    _, xs = problem()
    net = jaxseq.stack(NET, jaxseq.mamba(H, state=2))
    params = zoo.params_of(net, H, seed=1)
    _, want = jaxseq.unroll(net, params, xs)
    chunks = [ys for _, ys in jaxseq.stream(net, params, [xs[:2], xs[2:3], xs[3:]])]
    np.testing.assert_allclose(np.concatenate(chunks), want, rtol=1e-12)
    both = jaxseq.bidirectional(NET)
    params = zoo.params_of(both, H, seed=1)
    _, ys = jaxseq.unroll(both, params, xs)
    np.testing.assert_allclose(ys[..., H:], by_numpy(params.backward, xs[::-1])[::-1], rtol=1e-12)
