"""Attention of recurrent nets against its equations, one query and one step of the memory at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, S, Q, M = 5, 2, 4, 3, 3
QUERIES = np.random.default_rng(0).normal(size=(B, T, Q)).astype(np.float32)
MEMORY = np.random.default_rng(1).normal(size=(B, S, M)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool)


def score_by_hand(layer, query, step):
    if layer.score == "dot":
        return query @ step
    projected = query @ np.asarray(layer.query.kernel)
    if layer.score == "general":
        return projected @ step
    hidden = np.tanh(projected + step @ np.asarray(layer.key.kernel) + np.asarray(layer.key.bias))
    return hidden @ np.asarray(layer.value.kernel)[:, 0]


@pytest.mark.parametrize("options", [{}, {"hidden": 6}, {"score": "general"}, {"score": "dot"}])
def test_it_is_its_equations_and_padding_is_not_there(options):
    layer = drawn(nn.Attention, Q, M, **options)

    @jax.jit
    def attend(queries, memory, mask):
        memory = layer.remember(memory, mask=mask)
        return layer(queries, memory), layer(queries[:, 0], memory)

    got, one = jax.tree.map(np.asarray, attend(QUERIES, np.where(MASK[..., None], MEMORY, np.nan), MASK))
    for b, mask in enumerate(MASK):
        for t in range(T):
            scores = np.array([score_by_hand(layer, QUERIES[b, t], MEMORY[b, s]) for s in np.flatnonzero(mask)])
            weights = np.zeros(S)
            weights[mask] = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(got.weights[b, t], weights, atol=1e-6)
            np.testing.assert_allclose(got.context[b, t], weights @ MEMORY[b], atol=1e-6)
    np.testing.assert_allclose(one.weights, got.weights[:, 0], atol=1e-6)
    np.testing.assert_allclose(one.context, got.context[:, 0], atol=1e-6)
    assert np.all(got.context[-1] == 0)


@pytest.mark.parametrize("score", ["additive", "dot"])
def test_padding_reaches_no_gradient(score):
    graph, params = nnx.split(drawn(nn.Attention, Q, M, score=score))

    @jax.jit
    def gradients(memory):
        def loss(params, queries, memory):
            layer = nnx.merge(graph, params)
            return jnp.sum(jnp.sin(layer(queries, layer.remember(memory, mask=MASK)).context))

        return jax.grad(loss, (0, 1, 2))(params, QUERIES, memory)

    got, want = (gradients(np.where(MASK[..., None], MEMORY, fill).astype(np.float32)) for fill in (np.nan, 0))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(got))


def make(*arguments, **options):
    return nn.Attention(*arguments, **options, rngs=nnx.Rngs(0))


LAYER = drawn(nn.Attention, Q, M)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: make(3, 3, score="cosine"), ValueError, "`score` must be 'additive' or 'general' or 'dot'"),
        (lambda: make(3, 4, score="dot"), ValueError, '`score` "dot" needs equal numbers .*; got 3 and 4'),
        (
            lambda: make(3, 3, score="dot", hidden=4),
            ValueError,
            '`hidden` is an option of the score "additive"; "dot" has none',
        ),
        (lambda: make(0, 3), ValueError, "`query_features` must be a positive int"),
        (lambda: LAYER.remember(MEMORY[..., :2]), ValueError, r"`memory` must be \[B, S, M\] with M = 3 features"),
        (lambda: LAYER.remember(MEMORY, mask=MASK.T), ValueError, r"`mask` must be bool \[B, S\] = \(5, 4\)"),
        (
            lambda: LAYER(QUERIES[:, None].repeat(B, 1), LAYER.remember(MEMORY)),
            ValueError,
            r"`queries` must be \[B, T, Q\]",
        ),
        (lambda: LAYER(QUERIES.astype(np.float16), LAYER.remember(MEMORY)), TypeError, "`queries` must be float32"),
        (lambda: LAYER.remember(MEMORY.astype(int)), TypeError, "`memory` must be floating"),
        (lambda: LAYER(QUERIES, untyped(MEMORY)), TypeError, "`memory` must be what `remember` returns; got ndarray"),
        (
            lambda: LAYER(QUERIES[:2], LAYER.remember(MEMORY)),
            ValueError,
            r"`queries` must be \[B, T, Q\] or \[B, Q\], with the batch \(5,\) of the memory",
        ),
    ],
)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()
