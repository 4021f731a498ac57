"""NaN among scores: what it reaches is NaN, states and draws of the row are -1, and other rows do not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import crf, ctc, hmm, markov

T, K = 5, 3
generator = np.random.default_rng(0)
INITIAL = np.log(generator.dirichlet(np.ones(K))).astype(np.float32)
TRANSITION = np.log(generator.dirichlet(np.ones(K), K)).astype(np.float32)
CLEAN = np.log(generator.dirichlet(np.ones(K), (T, 3))).astype(np.float32)
MASK = np.ones((T, 3), bool)
MASK[3] = False
TAGS = np.ones((T, 3), np.int32)
LABELS = np.array([[1] * 3, [2] * 3], np.int32)
CHAIN, FIELD = (INITIAL, TRANSITION), crf.Params(*map(jnp.asarray, (TRANSITION, INITIAL, INITIAL)))
KEY = jax.random.key(0)


def functions(mask):
    """Every function of scores, of all three models."""
    both = {"sequential": False, "parallel": True}
    table = {}
    for way, parallel in both.items():
        options = {"mask": mask, "parallel": parallel}
        for f in (hmm.log_likelihood, hmm.filter, hmm.smooth, hmm.pairs, hmm.viterbi):
            table[f"hmm.{f.__name__}, {way}"] = lambda x, f=f, o=options: f(*CHAIN, x, **o)
        for f in (crf.log_partition, crf.marginals, crf.pairs, crf.viterbi):
            table[f"crf.{f.__name__}, {way}"] = lambda x, f=f, o=options: f(FIELD, x, **o)
        table[f"crf.log_likelihood, {way}"] = lambda x, o=options: crf.log_likelihood(FIELD, x, TAGS, **o)
    return table | {
        "hmm.sample_posterior": lambda x: hmm.sample_posterior(KEY, *CHAIN, x, mask=mask),
        "hmm.predict": lambda x: hmm.predict(*CHAIN, x, 2, mask=mask),
        "crf.score": lambda x: crf.score(FIELD, x, TAGS, mask=mask),
        "crf.sample": lambda x: crf.sample(KEY, FIELD, x, mask=mask),
        "crf.k_best": lambda x: crf.k_best(FIELD, x, 2, mask=mask),
        "ctc.loss": lambda x: ctc.loss(x, LABELS, mask=mask),
        "ctc.align": lambda x: ctc.align(x, LABELS, mask=mask),
        "ctc.greedy": lambda x: ctc.greedy(x, mask=mask),
        "ctc.beam_search": lambda x: ctc.beam_search(x, 2, mask=mask),
        "ctc.beam_search, expanding": lambda x: ctc.beam_search(x, 2, mask=mask, expand=1),
    }


def by_row(name, results):
    """The results by name, with the batch in front."""
    fields = getattr(results, "_fields", (name,))
    return {
        field: np.asarray(leaf) if leaf.shape[0] == 3 and leaf.ndim < 3 else np.moveaxis(np.asarray(leaf), 1, 0)
        for field, leaf in zip(fields, jax.tree.leaves(results), strict=True)
    }


@pytest.mark.learn
@pytest.mark.parametrize("masked", [False, True])
def test_nan_reaches_its_row_and_no_other(masked):
    """In all of a step, or in one state of it, with either sign: an x86 makes negative ones, which sort as least."""
    dirty = CLEAN.copy()
    dirty[2, 0] = np.nan
    dirty[2, 1, 1] = -np.nan
    assert np.signbit(dirty[2, 1, 1]) != np.signbit(dirty[2, 0, 0])
    table = functions(MASK if masked else None)
    run = jax.jit(lambda scores: {name: function(scores) for name, function in table.items()})
    real = MASK[:, 0] if masked else np.ones(T, bool)
    results, clean = run(dirty), run(CLEAN)
    for name in table:
        right = by_row(name, clean[name])
        for field, leaf in by_row(name, results[name]).items():
            about = f"{name}, {field}"
            np.testing.assert_array_equal(leaf[2], right[field][2], err_msg=about)
            spoilt = leaf[:2]
            if field == "lengths":
                assert np.all(spoilt == 0), about
            elif np.issubdtype(leaf.dtype, np.integer):
                assert np.all(spoilt == -1), about
            elif "filter" in name:
                assert np.isfinite(spoilt[:, :2]).all(), about
                assert np.isnan(spoilt[:, 2:][:, real[2:]]).all(), about
            elif "pairs" in name or "smooth" in name or "marginals" in name:
                steps = real[1:] if "pairs" in name else real
                assert np.isnan(spoilt[:, steps]).all(), about
                assert not np.isnan(spoilt[:, ~steps]).any(), about
            else:
                assert np.isnan(spoilt).all(), about


@pytest.mark.learn
def test_of_impossible_scores_there_are_no_states_but_no_nan():
    impossible = CLEAN.copy()
    impossible[2, :2] = -np.inf
    table = {name: function for name, function in functions(None).items() if "score" not in name}
    results = jax.jit(lambda scores: {name: function(scores) for name, function in table.items()})(impossible)
    for name, result in results.items():
        for field, leaf in by_row(name, result).items():
            assert not np.isnan(leaf).any(), name
            if np.issubdtype(leaf.dtype, np.integer):
                assert np.all(leaf[:2] == (0 if field == "lengths" else -1)), name
                assert np.all(leaf[2] >= -1), name


def test_draws_by_nan_are_none():
    """From a start or a transition that is NaN, and all that comes after."""
    nan = np.array([0.0, np.nan, -1.0], np.float32)
    in_a_circle = np.log(np.eye(3, dtype=np.float32)[[1, 2, 0]] + np.float32(1e-30))
    broken = in_a_circle.copy()
    broken[2, 0] = np.nan
    start = np.log(np.array([1.0, 1e-30, 1e-30], np.float32))
    table = markov.Params(jnp.asarray(np.concatenate([broken, start[None]])))
    emission = hmm.GaussianParams(np.arange(3, dtype=np.float32)[:, None], np.ones((3, 1), np.float32))

    @jax.jit
    def run():
        symbols = hmm.CategoricalParams(jnp.asarray(np.stack([start, nan, start])))
        model = hmm.Params(jnp.asarray(start), jnp.asarray(broken), emission)
        return (
            hmm.sample(KEY, nan, in_a_circle, 4, batch_shape=(2,)),
            hmm.sample(KEY, start, broken, 5),
            markov.sample(KEY, table, 5),
            hmm.simulate(KEY, hmm.gaussian(), model, 5),
            hmm.categorical(3).sample(KEY, symbols, jnp.array([0, 1, 2])),
            hmm.simulate(KEY, hmm.categorical(3), model._replace(emission=symbols), 5)[1],
        )

    all_of_it, chain, symbols, (states, xs), drawn, ids = jax.tree.map(np.asarray, run())
    assert np.all(all_of_it == -1)
    for states_of in (chain, symbols, states):
        assert states_of.tolist() == [0, 1, 2, -1, -1]
    assert np.isnan(xs[:, 0]).tolist() == [False, False, False, True, True]
    assert drawn.tolist() == [0, -1, 0]
    assert ids.tolist() == [0, -1, 0, -1, -1]


OBSERVED = np.array([[[0.0, 1.0]], [[np.nan, 2.0]], [[3.0, 1.0]]], np.float32)


@pytest.mark.parametrize(
    "call",
    [
        lambda xs: hmm.observe(hmm.gaussian(), hmm.GaussianParams(*np.ones((2, 2, 2), np.float32)), xs),
        lambda xs: hmm.fit(hmm.gaussian(), 2, xs, key=KEY),
        lambda xs: hmm.fit_supervised(hmm.gaussian(), np.zeros((3, 1), np.int32), 2, xs, key=KEY),
    ],
)
def test_data_that_hold_nan_say_where(call):
    with pytest.raises(ValueError, match=r"`xs` hold NaN on steps that are real and observed"):
        call(OBSERVED)


def test_traced_data_are_not_looked_at():
    params = hmm.GaussianParams(*np.ones((2, 2, 2), np.float32))
    log_obs = np.asarray(jax.jit(lambda xs: hmm.observe(hmm.gaussian(), params, xs))(OBSERVED))
    assert np.isnan(log_obs[:, 0]).all(-1).tolist() == [False, True, False]
