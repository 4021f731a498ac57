"""What the experiments on made-up data share: an MLP as a net, and learning from fresh batches."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxseq
from examples.shared.feed_forward import mlp
from examples.shared.fresh_sequences import CHUNK, Batch, fit, right
from jaxseq import nn


def test_the_mlp_is_pointwise_and_steps_as_it_unrolls():
    net = jaxseq.residual(mlp(3))
    params = net.init(jax.random.key(0), 3)._replace(b_1=jnp.linspace(-1, 1, 6))
    xs = np.asarray(jax.random.normal(jax.random.key(1), (4, 2, 3)))
    mask = np.array([[True, True], [True, False], [True, True], [False, True]])
    carry, ys = jaxseq.unroll(net, params, xs, mask=mask)
    hidden = xs @ params.w_1 + params.b_1
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    np.testing.assert_allclose(ys, np.where(mask[..., None], xs + gelu @ params.w_2, 0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jaxseq.step(net, params, carry, xs[0])[1], ys[0], rtol=1e-6)


def echo(key):
    """The targets are the ids, but at the first step, where nothing is asked for."""
    xs = jax.random.randint(key, (8, 5), 0, 3)
    return Batch(xs, xs.at[:, 0].set(0), jnp.broadcast_to(jnp.arange(5) > 0, xs.shape))


def test_fit_learns_what_is_asked_for():
    model = nn.SequenceTagger(mlp(4), 4, 3, vocabulary=3, rngs=nnx.Rngs(0))
    batch = echo(jax.random.key(1))
    before = jax.nn.log_softmax(np.asarray(model(echo(jax.random.split(jax.random.key(0), CHUNK + 7)[0]).xs)))
    model, losses = fit(model, echo, jax.random.key(0), steps=CHUNK + 7, rate=0.1)
    assert losses.shape == (CHUNK + 7,)
    xs = np.asarray(echo(jax.random.split(jax.random.key(0), CHUNK + 7)[0]).xs)
    nats = -np.take_along_axis(np.asarray(before), xs[..., None], axis=-1)[:, 1:]
    np.testing.assert_allclose(losses[0], nats.mean(), rtol=1e-5)  # of the first batch, before any step
    found = np.asarray(right(model, batch))
    assert not found[:, 0].any()
    assert found[:, 1:].all()
