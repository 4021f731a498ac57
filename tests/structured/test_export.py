"""Programs of any T and B, by symbols: the numbers are those of each T and B, one step too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxseq.structured import crf, ctc, hmm, markov

K = 3
generator = np.random.default_rng(0)
INITIAL = np.log(generator.dirichlet(np.ones(K))).astype(np.float32)
TRANSITION = np.log(generator.dirichlet(np.ones(K), K)).astype(np.float32)
FIELD = crf.Params(*map(jnp.asarray, (TRANSITION, INITIAL, INITIAL)))
BIGRAMS = markov.Params(jnp.asarray(np.concatenate([TRANSITION, INITIAL[None]])))


def everything(xs, ids):
    """One of each kind of loop, without a mask, which needs no symbols."""
    return (
        hmm.log_likelihood(INITIAL, TRANSITION, xs),
        hmm.viterbi(INITIAL, TRANSITION, xs),
        crf.marginals(FIELD, xs),
        crf.score(FIELD, xs, ids),
        crf.k_best(FIELD, xs, 2),
        ctc.greedy(xs),
        ctc.loss(xs, ids[:1]),
        markov.log_prob(BIGRAMS, ids),
    )


@pytest.mark.learn
def test_symbolic_steps_and_rows():
    steps, rows = export.symbolic_shape("t, b")
    like = ((steps, rows, K), np.float32), ((steps, rows), np.int32)
    exported = export.export(jax.jit(everything))(*(jax.ShapeDtypeStruct(*one) for one in like))
    for T, B in ((1, 2), (4, 3)):
        xs = np.log(generator.dirichlet(np.ones(K), (T, B))).astype(np.float32)
        arguments = xs, generator.integers(0, K, (T, B)).astype(np.int32)
        got, want = exported.call(*arguments), jax.jit(everything)(*arguments)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, want)
