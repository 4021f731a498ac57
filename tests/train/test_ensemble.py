"""The mean prediction of an ensemble against a loop over its members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq.train import ensemble
from tests.untyped import untyped

DRAW = np.random.default_rng(0).normal
XS = jnp.asarray(DRAW(size=(5, 3, 2)), jnp.float32)
MASK = jaxseq.lengths_to_mask(jnp.array([5, 2, 0]), 5)


def predict(params, xs, mask):
    _, ys = jaxseq.unroll(jaxseq.rnn(4), params, xs, mask=mask)
    return {"probabilities": jax.nn.softmax(ys), "last": (jaxseq.last_valid(ys, mask),)}


def test_average_is_the_mean_of_a_loop_over_the_members():
    members = jaxseq.RnnParams(*(jnp.asarray(DRAW(size=(3, *shape)), jnp.float32) for shape in ((2, 4), (4, 4), (4,))))
    apart = [jax.tree.map(lambda leaf, i=i: leaf[i], members) for i in range(3)]
    run = jax.jit(predict)
    outputs = [jax.tree.map(lambda x: np.asarray(x, np.float64), run(params, XS, MASK)) for params in apart]
    mean = jax.jit(ensemble.average(predict))(members, XS, MASK)
    jax.tree.map(
        lambda got, *each: np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-5, atol=1e-6), mean, *outputs
    )
    np.testing.assert_allclose(jnp.sum(mean["probabilities"], axis=-1), 1, rtol=1e-6)


def test_one_member_is_itself():
    members = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_array_equal(ensemble.average(jnp.matmul)(members, XS[..., :2, :]), members[0] @ XS[..., :2, :])


def test_the_mean_loses_at_most_the_mean_loss():
    members = {"logits": 3 * DRAW(size=(4, 50, 6))}
    labels = np.random.default_rng(1).integers(0, 6, 50)
    probabilities = lambda params: jax.nn.softmax(params["logits"])
    loss = lambda p: -np.mean(np.log(np.asarray(p)[np.arange(50), labels]))
    apart = np.mean([loss(p) for p in probabilities(members)])
    assert loss(ensemble.average(probabilities)(members)) < apart - 0.5


def test_members_may_be_states():
    graph, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, 3 * leaf]), state)
    mean = ensemble.average(lambda state, xs: nnx.merge(graph, state)(xs))(members, XS)
    np.testing.assert_allclose(mean, 2 * nnx.merge(graph, state)(XS), rtol=1e-5, atol=1e-6)


def test_errors():
    with pytest.raises(TypeError, match="`predict` must be a function"):
        ensemble.average(untyped({"logits": 0}))
