"""Markov chains against counting in a dict."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import markov
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

T, V = 5, 2
MASKS = np.array([[bool(bits >> t & 1) for bits in range(2**T)] for t in range(T)])
IDS = np.where(MASKS, np.random.default_rng(0).integers(0, V, MASKS.shape), 99)


@functools.partial(jax.jit, static_argnums=(1, 2))
def count(ids, V, order, mask=None):
    return markov.count(ids, V, order, mask=mask)


log_prob = jax.jit(markov.log_prob)


def rows_of(ids, mask):
    """Lists of symbols, one a row, without False steps."""
    flat_ids, flat_mask = (np.asarray(x).reshape(len(x), -1) for x in (ids, mask))
    return [
        [int(i) for i, real in zip(*column, strict=True) if real]
        for column in zip(flat_ids.T, flat_mask.T, strict=True)
    ]


def grams_of(row, V, order):
    padded = [V] * (order - 1) + row
    return [tuple(padded[t : t + order]) for t in range(len(row))]


def dict_counts(rows, V, order):
    return collections.Counter(gram for row in rows for gram in grams_of(row, V, order))


def dict_witten_bell(counts, V, context, symbol):
    """By the definition, with n-grams of any order counted where they end an n-gram of the highest one."""
    follow = collections.Counter()
    for gram, n in counts.items():
        if gram[len(gram) - 1 - len(context) : -1] == context:
            follow[gram[-1]] += n
    shorter = dict_witten_bell(counts, V, context[1:], symbol) if context else 1 / V
    total = sum(follow.values())
    return (follow[symbol] + len(follow) * shorter) / (total + len(follow)) if total else shorter


@functools.partial(jax.jit, static_argnums=2)
def counts_of_each_and_all(ids, mask, order):
    one = lambda ids, mask: markov.count(ids, V, order, mask=mask)
    return jax.vmap(one, in_axes=1)(ids, mask), one(ids, mask)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_counts_are_those_of_a_dict_for_all_masks(order):
    each, counts = map(np.asarray, counts_of_each_and_all(IDS, MASKS, order))
    assert counts.shape == (V + 1,) * (order - 1) + (V,)
    want = dict_counts(rows_of(IDS, MASKS), V, order)
    assert {place: int(n) for place, n in np.ndenumerate(counts) if n} == want
    np.testing.assert_array_equal(each.sum(0), counts)


@functools.partial(jax.jit, static_argnums=(2, 3))
def fit_and_read(ids, mask, order, smoothing):
    params = markov.fit(ids, V, order, mask=mask, smoothing=smoothing)
    return params, markov.log_prob(params, ids, mask=mask), markov.perplexity(params, ids, mask=mask)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("smoothing", ["additive", "witten_bell"])
def test_log_probs_are_those_of_a_dict(order, smoothing):
    counts = dict_counts(rows_of(IDS, MASKS), V, order)
    context_counts = collections.Counter()
    for gram, n in counts.items():
        context_counts[gram[:-1]] += n

    def by_hand(gram):
        if smoothing == "witten_bell":
            return math.log(dict_witten_bell(counts, V, gram[:-1], gram[-1]))
        return math.log((counts[gram] + 0.3) / (context_counts[gram[:-1]] + 0.3 * V))

    how = markov.witten_bell if smoothing == "witten_bell" else markov.additive(0.3)
    params, got, perplexity = jax.tree.map(np.asarray, fit_and_read(IDS, MASKS, order, how))
    for place, of_gram in np.ndenumerate(params.log_probs):
        np.testing.assert_allclose(of_gram, by_hand(place), rtol=1e-12, err_msg=str(place))
    np.testing.assert_allclose(np.exp(params.log_probs).sum(-1), 1, rtol=1e-12)

    assert not got[~MASKS].any()
    for column, row in enumerate(rows_of(IDS, MASKS)):
        want = [by_hand(gram) for gram in grams_of(row, V, order)]
        np.testing.assert_allclose(got[MASKS[:, column], column], want, rtol=1e-12)
    total = [by_hand(gram) for row in rows_of(IDS, MASKS) for gram in grams_of(row, V, order)]
    np.testing.assert_allclose(perplexity, math.exp(-np.mean(total)), rtol=1e-12)


def test_contexts_that_were_not_seen():
    @jax.jit
    def run(ids, none):
        return (
            jnp.exp(markov.fit(ids, 3, 2, smoothing=markov.additive(0)).log_probs),
            markov.fit(ids, 3, 2).log_probs,
            markov.fit(ids, 3, 1).log_probs,
            markov.fit(none, 3, 3).log_probs,
        )

    likelihood, bigrams, unigrams, nothing = map(np.asarray, run(np.array([0, 1, 1]), np.zeros(0, int)))
    np.testing.assert_allclose(likelihood, [[0, 1, 0], [0, 1, 0], [1 / 3] * 3, [1, 0, 0]], rtol=1e-12)
    np.testing.assert_allclose(bigrams[2], unigrams, rtol=1e-12)
    np.testing.assert_allclose(nothing, np.full((4, 4, 3), -math.log(3)), rtol=1e-12)


def test_any_batch_axes_and_no_steps():
    ids = np.random.default_rng(1).integers(0, 4, (6, 2, 3))

    @jax.jit
    def run(ids):
        params = markov.fit(ids, 4, 3)
        none = ids[:0]
        return (
            markov.count(ids, 4, 3),
            (markov.log_prob(params, ids), markov.log_prob(params, ids[:, 1, 2], mask=np.ones(6, bool))),
            markov.perplexity(params, ids),
            markov.log_prob(params, none),
            markov.count(none, 4, 2, mask=np.ones((0, 2, 3), bool)),
            [markov.perplexity(params, ids, mask=np.zeros(ids.shape, bool)), markov.perplexity(params, none)],
        )

    counts, (log_probs, alone), perplexity, no_log_probs, no_counts, unknown = jax.tree.map(np.asarray, run(ids))
    assert counts.sum() == ids.size
    np.testing.assert_array_equal(log_probs[:, 1, 2], alone)
    np.testing.assert_allclose(perplexity, np.exp(-log_probs.mean()), rtol=1e-12)
    assert no_log_probs.shape == (0, 2, 3)
    assert not no_counts.any()
    assert np.isnan(unknown).all()


@pytest.mark.learn
def test_ids_out_of_range():
    params = markov.fit(np.array([0, 1, 1, 0]), 2)  # eager, as a user's first call is
    for bad in (-1, 2, 2**40):
        ids = np.array([0, 1, bad, 0, 1])
        log_probs = np.asarray(log_prob(params, ids))
        assert np.isnan(log_probs).tolist() == [False, False, True, True, False]
        with pytest.raises(ValueError, match=r"`ids` must be in 0 … V-1 = 1"):
            markov.count(ids, 2)
        traced = count(ids, 2, 2)
        np.testing.assert_array_equal(traced, [[0, 2], [0, 0], [1, 0]])
        skipped = np.asarray(log_prob(params, ids, mask=np.array([True, True, False, True, True])))
        np.testing.assert_array_equal(skipped[[0, 1, 3, 4]], log_prob(params, np.array([0, 1, 0, 1])))


def test_log_prob_has_the_gradient_of_a_table():
    @jax.jit
    def run(ids, mask):
        params = markov.fit(ids, V, 2, mask=mask)
        return jax.grad(lambda params: markov.log_prob(params, ids, mask=mask).sum())(params)

    np.testing.assert_array_equal(run(IDS, MASKS).log_probs, count(IDS, V, 2, MASKS))


def test_draws_have_the_probabilities_of_the_model():
    ids = np.random.default_rng(2).integers(0, 3, (40, 2)) % 3
    with np.errstate(divide="ignore"):
        unigram = markov.Params(np.log([0.0, 1.0]))

    @jax.jit
    def run(key):
        params = markov.fit(ids, 3, 3)
        draws = markov.sample(key, params, 4, batch_shape=(200, 100))
        others = [markov.sample(key, params, 0, batch_shape=(2,)), markov.sample(key, params, 3)]
        return params, draws, markov.count(draws, 3, 3), others, markov.sample(key, unigram, 3)

    params, draws, got, (none, alone), same = jax.tree.map(np.asarray, run(jax.random.key(0)))
    assert draws.shape == (4, 200, 100)
    want = np.exp(params.log_probs)
    total = got.sum(-1, keepdims=True)
    spread = np.sqrt(np.maximum(total, 1) * want * (1 - want)) + 1e-12
    assert np.all(np.abs(got - total * want) / spread < 4.5)
    assert (none.shape, alone.shape) == ((0, 2), (3,))
    assert same.tolist() == [1, 1, 1]


def test_stationary():
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.ones(5), 5)
    power = np.linalg.matrix_power(transition, 1000)[0]
    stationary = jax.jit(markov.stationary)
    np.testing.assert_allclose(stationary(np.log(transition)), power, rtol=1e-12)
    with np.errstate(divide="ignore"):
        circle = np.log(np.roll(np.eye(4), 1, 1))  # periodic: powers of it do not settle
        left = np.log([[0.5, 0.5, 0.0], [0.0, 0.3, 0.7], [0.0, 0.6, 0.4]])  # the first state is left for good
    np.testing.assert_allclose(stationary(circle), [0.25] * 4, rtol=1e-12)
    np.testing.assert_allclose(stationary(left), [0, 6 / 13, 7 / 13], atol=1e-15)

    @jax.jit
    @jax.value_and_grad
    def share(logits):
        return markov.stationary(jax.nn.log_softmax(logits))[0]

    logits, direction = np.log(transition), rng.normal(size=(5, 5))
    numeric = (share(logits + 1e-5 * direction)[0] - share(logits - 1e-5 * direction)[0]) / 2e-5
    np.testing.assert_allclose(np.vdot(share(logits)[1], direction), numeric, rtol=1e-7)


@pytest.mark.learn
def test_long_rows():
    ids = np.random.default_rng(4).integers(0, 3, 10_000)
    mask = np.random.default_rng(5).random(10_000) < 0.7

    @jax.jit
    def run(ids, mask, kept):
        params = markov.fit(ids, 3, 4, mask=mask)
        log_probs = markov.log_prob(params, ids, mask=mask), markov.log_prob(params, kept)
        return log_probs, (markov.count(ids, 3, 4, mask=mask), markov.count(kept, 3, 4))

    (together, alone), counts = jax.tree.map(np.asarray, run(ids, mask, ids[mask]))
    np.testing.assert_array_equal(together[mask], alone)
    np.testing.assert_array_equal(*counts)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: markov.count(untyped([0, 1]), 2), TypeError, "`ids` must be an array"),
        (
            lambda: markov.fit(IDS, 2, smoothing=untyped(markov.additive)),
            TypeError,
            r"call the factory: markov\.additive\(1\.0\)",
        ),
        (lambda: markov.count(np.zeros(3), 2), TypeError, r"`ids` must be int \[T, B\]; got float"),
        (lambda: markov.count(np.array(1), 2), ValueError, r"`ids` must be int \[T, B\], of at least 1 axis"),
        (lambda: markov.count(np.zeros(3, int), 0), ValueError, "`V` must be a positive int"),
        (lambda: markov.count(np.zeros(3, int), 2, 0), ValueError, "`order` must be a positive int"),
        (
            lambda: markov.count(np.zeros(3, int), 256, 3),
            ValueError,
            "`order` = 3 over `V` = 256 .* at most 2..24 entries",
        ),
        (lambda: markov.count(np.zeros(3, int), 2, 2**30), ValueError, "`order` = 1073741824 over `V` = 2 symbols"),
        (lambda: markov.fit(np.zeros(3, int), 1, 26), ValueError, "`order` = 26 over `V` = 1 symbols"),
        (lambda: markov.count(np.zeros(3, int), 2, mask=np.ones(2, bool)), ValueError, "`mask` must be bool"),
        (lambda: markov.additive(-1), ValueError, "`amount` must be a number of at least 0"),
        (lambda: markov.additive(untyped("1")), TypeError, "`amount` must be a number of at least 0"),
        (lambda: markov.fit(np.zeros(3, int), 2, smoothing=untyped(1.0)), TypeError, "`smoothing` must be a function"),
        (lambda: markov.fit(np.zeros(3, int), 2, smoothing=jnp.sum), ValueError, "`smoothing` must keep the shape"),
        (lambda: markov.log_prob(untyped(np.zeros((3, 2))), np.zeros(3, int)), TypeError, "must be markov.Params"),
        (lambda: markov.log_prob(markov.Params(np.zeros((2, 2))), np.zeros(3, int)), ValueError, r"\[V \+ 1, …"),
        (lambda: markov.sample(untyped(0), markov.Params(np.zeros((3, 2))), 3), TypeError, "`key` must be"),
        (lambda: markov.stationary(np.zeros((2, 2), int)), TypeError, "`log_transition` must be floating"),
        (lambda: markov.stationary(np.zeros((3, 2))), ValueError, "`log_transition` must be square"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
