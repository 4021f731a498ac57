"""Gradients of each example by itself, through BPTT, and what private training makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxseq

T, B, D, H = 4, 3, 3, 4
LENGTHS = np.array([4, 2, 0])

pytestmark = pytest.mark.usefixtures("x64")


def loss(params, xs, mask=None, *, kernel=None):
    """A loss of the last carry of each sequence and of every real step."""
    h, ys = jaxseq.unroll(jaxseq.rnn(H), params, xs, mask=mask, kernel=kernel)
    return jnp.sum(jnp.sin(h)) + jnp.sum(ys**2)


def batch():
    mask = np.arange(T)[:, None] < LENGTHS
    draw = np.random.default_rng(1).normal
    params = jaxseq.RnnParams(*(jnp.asarray(draw(size=shape)) for shape in ((D, H), (H, H), (H,))))
    return params, np.where(mask[..., None], draw(size=(T, B, D)), np.nan), mask


def test_per_example_gradients():
    """They are those of each example alone, their sum that of the batch, and private training clips each of them."""
    params, xs, mask = batch()
    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 1, 1)))(params, xs, mask)
    together = jax.jit(jax.grad(loss))(params, xs, mask)
    # cut to its length, without a mask, and differentiated by JAX; what is left of the sum is the first example's
    alone = jax.jit(jax.grad(lambda params, xs: loss(params, xs, kernel=jaxseq.kernels.scan)))(params, xs[:2, 1])
    for total, apart, second in zip(*map(jax.tree.leaves, (together, each, alone)), strict=True):
        apart = np.asarray(apart)
        np.testing.assert_allclose(np.sum(apart, axis=0), total, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(apart[1], second, rtol=1e-10, atol=1e-12)
        assert not np.any(apart[2])

    # without noise the private update is the mean of the gradients, each cut to the norm
    rows = np.concatenate([np.asarray(leaf).reshape(B, -1) for leaf in jax.tree.leaves(each)], axis=1)
    norms = np.linalg.norm(rows, axis=1)
    clip = float(np.mean(norms[:2]))  # one of the two is cut
    expected = np.mean(rows / np.maximum(norms / clip, 1)[:, None], axis=0)
    private = optax.contrib.differentially_private_aggregate(clip, 0.0, jax.random.key(2))
    got, _ = jax.jit(private.update)(each, private.init(params))
    got = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(got)])
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
