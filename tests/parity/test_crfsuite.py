"""CRFsuite's tagger with the weights that it learnt: the path, its probability and the marginals."""

# pyright: reportAttributeAccessIssue=false
# pycrfsuite is compiled and has no stubs: its names are not known.

import jax
import numpy as np
import pycrfsuite
import pytest

from jaxseq.structured import crf

pytestmark = pytest.mark.usefixtures("x64")

LABELS = ["O", "B-X", "I-X", "B-Y"]
LENGTHS = [1, 2, 5, 9, 30, 64]


def sequence(generator, length):
    """Words as features, with values, and tags that depend on them and on the tag before."""
    words, tags = generator.integers(0, 6, length), []
    for word in words:
        after_x = tags and tags[-1] in ("B-X", "I-X") and generator.random() < 0.6
        tags.append("I-X" if after_x else LABELS[(0, 0, 1, 1, 3, generator.integers(4))[word]])
    return [{f"word {word}": 1.0, "length": word / 5} for word in words.tolist()], tags


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    generator = np.random.default_rng(0)
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    for _ in range(40):
        trainer.append(*sequence(generator, 12))
    trainer.set_params({"c1": 0.0, "c2": 0.1, "max_iterations": 30, "feature.possible_transitions": True})
    path = str(tmp_path_factory.mktemp("crfsuite") / "model")
    trainer.train(path)
    tagger = pycrfsuite.Tagger()
    tagger.open(path)
    return tagger


def read(tagger):
    """Its weights as our params, and features' scores; CRFsuite has no weights of starts and ends."""
    labels, info = tagger.labels(), tagger.info()
    K = len(labels)
    transition = np.array([[info.transitions.get((i, j), 0.0) for j in labels] for i in labels])

    def weight(step, label):
        return sum(value * info.state_features.get((name, label), 0.0) for name, value in step.items())

    def scores(features):
        return np.array([[weight(step, label) for label in labels] for step in features])

    return labels, crf.Params(transition, np.zeros(K), np.zeros(K)), scores


def test_path_probability_and_marginals(tagger):
    """All sequences in one batch, padded; weights are read in CRFsuite's own print, of six decimals."""
    labels, params, scores = read(tagger)
    assert sorted(labels) == sorted(LABELS)
    assert np.abs(params.transition).max() > 0.5
    generator = np.random.default_rng(1)
    rows = [sequence(generator, length)[0] for length in LENGTHS]
    T, B, K = max(LENGTHS), len(LENGTHS), len(labels)
    mask = np.arange(T)[:, None] < np.array(LENGTHS)
    padded = np.full((T, B, K), np.nan)
    tags = np.where(mask, generator.integers(0, K, (T, B)), -1)
    for b, row in enumerate(rows):
        padded[: len(row), b] = scores(row)

    best = jax.jit(crf.viterbi)(params, padded, mask=mask).states
    first = jax.jit(crf.k_best, static_argnums=2)(params, padded, 3, mask=mask).states[..., 0]
    marginals = jax.jit(crf.marginals)(params, padded, mask=mask)
    likelihoods = jax.jit(crf.log_likelihood)
    of_best, of_any = (likelihoods(params, padded, path, mask=mask) for path in (best, tags))
    for b, row in enumerate(rows):
        tagger.set(row)
        want = tagger.tag()
        assert [labels[tag] for tag in best[: len(row), b]] == want
        assert [labels[tag] for tag in first[: len(row), b]] == want
        tolerance = 3e-6 * len(row)
        np.testing.assert_allclose(of_best[b], np.log(tagger.probability(want)), rtol=0, atol=tolerance)
        other = [labels[tag] for tag in tags[: len(row), b]]
        np.testing.assert_allclose(of_any[b], np.log(tagger.probability(other)), rtol=0, atol=tolerance)
        theirs = [[tagger.marginal(label, t) for label in labels] for t in range(len(row))]
        np.testing.assert_allclose(marginals[: len(row), b], theirs, rtol=0, atol=2e-5)
