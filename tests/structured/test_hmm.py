"""Inference in hidden Markov models against all paths, one by one, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxseq.structured import _probabilities, hmm, semiring
from tests.structured.reference import Exact, all_masks

T, K = 5, 3
MASKS = all_masks(T)
B = MASKS.shape[1]


def log_probs(generator, *shape, impossible=0.0):
    """Random log-probabilities along the last axis, some of them -inf."""
    p = generator.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    possible = generator.random(shape) >= impossible
    possible[..., 0] |= ~possible.any(-1)
    p = p * possible
    with np.errstate(divide="ignore"):
        return np.log(p / p.sum(-1, keepdims=True))


def model(form, impossible, steps=T, batch=B, states=K):
    generator = np.random.default_rng(0)
    lead = {"constant": (), "per_step": (steps - 1,), "per_row": (steps - 1, batch)}[form]
    log_obs = generator.normal(size=(steps, batch, states))
    if impossible:
        log_obs[generator.random(log_obs.shape) < 0.2] = -np.inf
    initial = log_probs(generator, states, impossible=impossible)
    return initial, log_probs(generator, *lead, states, states, impossible=impossible), log_obs


def exact(initial, transition, log_obs, masks):
    rows = range(log_obs.shape[1])
    return [
        Exact(
            initial, transition[:, b] if transition.ndim == 4 else transition, log_obs[:, b], np.zeros(K), masks[:, b]
        )
        for b in rows
    ]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("impossible", [0.0, 0.4])
@pytest.mark.parametrize("form", ["constant", "per_step", "per_row"])
def test_all_masks_against_all_paths(form, impossible, parallel, x64):
    initial, transition, log_obs = model(form, impossible)
    rows = exact(initial, transition, log_obs, MASKS)
    arguments = initial, transition, np.where(MASKS[..., None], log_obs, np.nan)
    options = {"mask": MASKS, "parallel": parallel}

    totals = hmm.log_likelihood(*arguments, **options)
    np.testing.assert_allclose(totals, [row.log_partition for row in rows], rtol=0, atol=1e-12)
    assert totals[0] == 0  # no step at all
    smoothed = jnp.exp(hmm.smooth(*arguments, **options))
    np.testing.assert_allclose(smoothed, np.stack([row.marginals() for row in rows], 1), rtol=0, atol=1e-12)
    pairs = jnp.exp(hmm.pairs(*arguments, **options))
    np.testing.assert_allclose(pairs, np.stack([row.pairs() for row in rows], 1), rtol=0, atol=1e-12)

    states, score = hmm.viterbi(*arguments, **options)
    best_states, best_scores = zip(*(row.best() for row in rows), strict=True)
    np.testing.assert_allclose(score, best_scores, rtol=0, atol=1e-12)
    some = np.isfinite(best_scores)
    np.testing.assert_array_equal(np.asarray(states)[:, some], np.transpose(best_states)[:, some])
    assert np.all(np.asarray(states)[~MASKS] == -1)
    assert impossible == 0 or 0 < np.sum(~some) < B

    filtered = jnp.exp(hmm.filter(*arguments, **options))
    for t in range(T):
        past = MASKS & (np.arange(T) <= t)[:, None]
        want = np.stack([row.marginals()[t] for row in exact(initial, transition, log_obs, past)])
        np.testing.assert_allclose(filtered[t], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parallel", [False, True])
def test_gradients_are_the_posteriors(parallel, x64):
    """Of the log-likelihood: by observations the marginals, by transitions the pairs, by the start the first one."""
    arguments = model("constant", 0.4)
    rows = exact(*arguments, MASKS)
    weights = np.random.default_rng(1).normal(size=B)
    hidden = arguments[2].copy()
    hidden[~MASKS] = np.nan

    def total(initial, transition, log_obs):
        likelihoods = hmm.log_likelihood(initial, transition, log_obs, mask=MASKS, parallel=parallel)
        return jnp.sum(jnp.where(jnp.isneginf(likelihoods), 0, likelihoods * weights))

    d_initial, d_transition, d_obs = jax.grad(total, (0, 1, 2))(*map(jnp.asarray, (*arguments[:2], hidden)))
    marginals = np.stack([row.marginals() for row in rows], 1)
    np.testing.assert_allclose(d_obs, marginals * weights[:, None], rtol=0, atol=1e-12)
    pairs = np.stack([row.pairs() for row in rows], 1) * weights[:, None, None]
    np.testing.assert_allclose(d_transition, pairs.sum((0, 1)), rtol=0, atol=1e-12)
    first = [marginals[np.argmax(MASKS[:, b]), b] * weights[b] for b in range(B)]
    np.testing.assert_allclose(d_initial, np.sum(first, 0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["constant", "per_step", "per_row"])
def test_gradients_of_both_orders_by_finite_differences(form, x64):
    arguments = tuple(map(jnp.asarray, model(form, 0.0)))
    mask = jnp.asarray(MASKS)

    def total(*arguments):
        return jnp.sum(jnp.sin(hmm.log_likelihood(*arguments, mask=mask)))

    check_grads(total, arguments, order=2, modes=["rev"], atol=1e-5, rtol=1e-5)

    def posteriors(*arguments):
        return sum(jnp.sum(jnp.cos(f(*arguments, mask=mask)), where=mask[..., None]) for f in (hmm.smooth, hmm.filter))

    check_grads(posteriors, arguments, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_score_has_its_path_as_gradient(parallel, x64):
    arguments = tuple(map(jnp.asarray, model("constant", 0.0)))
    gradient = jax.grad(lambda log_obs: hmm.viterbi(*arguments[:2], log_obs, mask=MASKS, parallel=parallel).score.sum())
    states = hmm.viterbi(*arguments, mask=MASKS).states
    np.testing.assert_allclose(gradient(arguments[2]), jax.nn.one_hot(states, K), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 4, 17])
def test_awkward_lengths_and_no_batch(steps, parallel, x64):
    """Sequential = parallel = unmasked = masked by ones, from T = 0 on, with no batch axis and with two."""
    generator = np.random.default_rng(steps)
    initial, transition = log_probs(generator, K), log_probs(generator, K, K)
    log_obs = generator.normal(size=(steps, 2, 3, K))
    for function in (hmm.log_likelihood, hmm.filter, hmm.smooth, hmm.pairs, hmm.viterbi):
        want = function(initial, transition, log_obs)
        got = function(initial, transition, log_obs, mask=np.ones((steps, 2, 3), bool), parallel=parallel)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), got, want)
        alone = function(initial, transition, log_obs[:, 1, 2], parallel=parallel)
        axis = {hmm.log_likelihood: 0}.get(function, 1)
        one = jax.tree.map(lambda x: x[1, 2] if axis == 0 or x.ndim == 2 else x[:, 1, 2], want)  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11), alone, one)
    assert hmm.viterbi(initial, transition, log_obs).states.shape == (steps, 2, 3)


@pytest.mark.parametrize("form", ["per_step", "per_row"])
def test_transitions_of_false_steps_reach_nothing(form, x64):
    """NaN in the transition into a step that is False in all rows, or in its own."""
    initial, transition, log_obs = model(form, 0.0, steps=4, batch=3)
    mask = np.array([[True, True, False], [False, False, False], [True, False, True], [True, True, True]])
    spoilt = transition.copy()
    spoilt[0] = np.nan
    if form == "per_row":
        spoilt[1, 1] = np.nan
    for function in (hmm.log_likelihood, hmm.smooth, lambda *args, **options: hmm.viterbi(*args, **options).score):

        def total(transition, function=function):
            results = function(initial, transition, log_obs, mask=mask)
            return jnp.sum(jnp.where(jnp.isfinite(results), jnp.sin(results), 0))

        want, got = (jax.value_and_grad(total)(jnp.asarray(table)) for table in (transition, spoilt))
        jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("masked", [False, True])
def test_one_step_has_no_transition(masked, x64):
    initial, transition, log_obs = model("per_step", 0.0, steps=1, batch=2)
    options = {"mask": np.ones((1, 2), bool)} if masked else {}
    want = np.logaddexp.reduce(initial + log_obs[0], -1)
    np.testing.assert_allclose(hmm.log_likelihood(initial, transition, log_obs, **options), want, rtol=1e-12)
    states = hmm.viterbi(initial, transition, log_obs, **options).states
    np.testing.assert_array_equal(states, np.argmax(initial + log_obs, -1))


@pytest.mark.parametrize("parallel", [False, True])
def test_ten_thousand_steps_in_float32_are_those_of_float64(parallel):
    generator = np.random.default_rng(0)
    arguments = log_probs(generator, K), log_probs(generator, K, K), generator.normal(size=(10_000, 1, K)) * 3 - 50

    def run():
        inputs = [jnp.asarray(x) for x in arguments]
        total, d_obs = jax.value_and_grad(
            lambda log_obs: hmm.log_likelihood(*inputs[:2], log_obs, parallel=parallel)[0]
        )(inputs[2])
        return total, d_obs, hmm.smooth(*inputs, parallel=parallel), hmm.viterbi(*inputs, parallel=parallel)

    total, d_obs, smoothed, best = run()
    with jax.enable_x64(True):
        want_total, want_d_obs, want_smoothed, want_best = run()
    np.testing.assert_allclose(total, want_total, rtol=2e-7)
    np.testing.assert_allclose(d_obs, want_d_obs, rtol=0, atol=2e-5)
    np.testing.assert_allclose(smoothed, want_smoothed, rtol=1e-4, atol=2e-4)
    np.testing.assert_array_equal(best.states, want_best.states)
    np.testing.assert_allclose(best.score, want_best.score, rtol=2e-7)


def test_scores_far_apart_are_not_lost():
    """The only way on leads through a state that is e^500 times less probable, in float32."""
    initial, log_obs = jnp.array([0.0, -500.0]), jnp.zeros((2, 2))
    transition = jnp.array([[-jnp.inf, -jnp.inf], [-jnp.inf, 0.0]])
    assert hmm.log_likelihood(initial, transition, log_obs) == -500
    np.testing.assert_array_equal(jnp.exp(hmm.smooth(initial, transition, log_obs)), [[0, 1], [0, 1]])
    gradient = jax.grad(hmm.log_likelihood, 1)(initial, transition, log_obs)
    np.testing.assert_array_equal(gradient, [[0, 0], [0, 1]])


@pytest.mark.parametrize("rare", [0.0, -300.0])
def test_expected_transitions_take_no_memory_for_the_pairs_of_all_steps(rare):
    """In float32 too, where the only way through is so rare that its probability is no float."""
    steps, rows, states = 300, 2, 20
    initial, transition, log_obs = model("constant", 0.0, steps=steps, batch=rows, states=states)
    transition[: states // 2, states // 2 :] += rare
    log_obs[: steps // 2, :, states // 2 :] = log_obs[steps // 2 :, :, : states // 2] = -np.inf
    total = lambda transition, log_obs: jnp.sum(hmm.log_likelihood(initial, transition, log_obs))
    single = jnp.asarray(transition, jnp.float32), jnp.asarray(log_obs, jnp.float32)
    run = jax.jit(jax.grad(total)).lower(*single).compile()
    assert run.memory_analysis().temp_size_in_bytes < 4 * steps * rows * states**2 / 2
    with jax.enable_x64(True):
        want = jnp.exp(hmm.pairs(initial, transition, log_obs)).sum((0, 1))
    np.testing.assert_allclose(run(*single), want, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("initial", "transition", "counts"),
    [
        ([0.0, 0.0], [[-1.0, -2.0], [-2.0, -1.0]], True),
        ([0.0, -np.inf], [[-1.0, -2.0], [-np.inf, 0.0]], True),  # from left to right: what is 0 is so by right
        ([0.0, -500.0], [[-np.inf, -np.inf], [-np.inf, 0.0]], False),
        ([0.0, 0.0], [[0.0, -200.0], [-np.inf, 0.0]], True),  # too unlikely a transition, beside a likely one
        ([0.0, -np.inf], [[0.0, -200.0], [-np.inf, 0.0]], False),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_probabilities_count_where_nothing_vanishes(initial, transition, counts, reverse):
    arguments = (np.zeros((3, 2), np.float32), None, np.array(transition, np.float32), None)
    start = np.array([0.0, 0.0] if reverse else initial, np.float32)
    other = semiring.Messages(np.full((3, 2), 7, np.float32), np.zeros(3, np.float32), start)
    got = _probabilities.run_or(lambda: other, start, *arguments, reverse=reverse)
    assert np.all(got.v == 7) == (not (counts or reverse))
    likelihood = hmm.log_likelihood(np.array(initial), np.array(transition), arguments[0])
    with jax.enable_x64(True):
        want = hmm.log_likelihood(np.array(initial), np.array(transition), arguments[0].astype(float))
    np.testing.assert_allclose(likelihood, want, rtol=1e-6)


def test_rows_of_vmap_choose_together():
    """A choice for each row would run both ways for all."""
    generator = np.random.default_rng(0)
    initial, log_obs = log_probs(generator, 6, K), jnp.asarray(generator.normal(size=(T, K)), jnp.float32)
    initial[3] = [0.0, -500.0, -np.inf]
    transition = jnp.array([[-jnp.inf, -jnp.inf, -jnp.inf], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    run = jax.jit(jax.vmap(lambda initial: hmm.log_likelihood(initial, transition, log_obs)))
    assert " conditional(" in run.lower(initial).compile().as_text()
    one_by_one = [hmm.log_likelihood(row, transition, log_obs) for row in initial]
    np.testing.assert_allclose(run(initial), one_by_one, rtol=1e-6)
    assert np.all(np.isfinite(one_by_one))


def test_a_missing_observation_moves_the_state(x64):
    """A row of zeros is a step unseen; a False step is none at all."""
    initial, transition, log_obs = model("constant", 0.0, steps=3, batch=1)
    log_obs[1] = 0
    skipped = np.array([[True], [False], [True]])
    twice = np.log(np.exp(transition) @ np.exp(transition))
    for between, mask in ((transition, skipped), (twice, None)):
        joined = [initial, between, log_obs[[0, 2]]]
        want = hmm.log_likelihood(*joined)
        np.testing.assert_allclose(hmm.log_likelihood(initial, transition, log_obs, mask=mask), want, rtol=1e-12)


def test_posterior_draws_have_the_posterior_of_paths(x64):
    initial, transition, log_obs = model("constant", 0.4, steps=3, batch=8)
    masks = all_masks(3)
    draw = jax.jit(jax.vmap(lambda key: hmm.sample_posterior(key, initial, transition, log_obs, mask=masks)))
    N = 20_000
    draws = np.asarray(draw(jax.random.split(jax.random.key(0), N)))
    for b, row in enumerate(exact(initial, transition, log_obs, masks)):
        if np.isneginf(row.log_partition):
            continue
        codes, counts = np.unique(draws[:, :, b], axis=0, return_counts=True)
        seen = {tuple(code.tolist()): count / N for code, count in zip(codes, counts, strict=True)}
        want = {tuple(path.get(t, -1) for t in range(3)): np.exp(s - row.log_partition) for path, s in row.paths}
        assert set(seen) <= set(want)
        for path, p in want.items():
            assert abs(seen.get(path, 0) - p) <= 5 * np.sqrt(p * (1 - p) / N)


def test_predictions_are_powers_of_the_transition(x64):
    initial, transition, log_obs = model("constant", 0.0)
    got = jnp.exp(hmm.predict(initial, transition, log_obs, 3, mask=MASKS))
    filtered = np.exp(np.asarray(hmm.filter(initial, transition, log_obs, mask=MASKS)))
    for b in range(B):
        real = np.flatnonzero(MASKS[:, b])
        now = filtered[real[-1], b] @ np.exp(transition) if len(real) else np.exp(initial)
        for k in range(3):
            np.testing.assert_allclose(got[k, b], now, rtol=0, atol=1e-12)
            now = now @ np.exp(transition)


def test_vmap_is_the_batch_and_jit_compiles_once(x64, count_compilations):
    arguments = initial, transition, log_obs = tuple(map(jnp.asarray, model("constant", 0.0)))
    mapped = jax.vmap(lambda log_obs, mask: hmm.smooth(initial, transition, log_obs, mask=mask), 1, 1)
    np.testing.assert_allclose(mapped(log_obs, MASKS), hmm.smooth(*arguments, mask=MASKS), rtol=0, atol=1e-12)
    both = jax.vmap(jax.value_and_grad(lambda log_obs: hmm.log_likelihood(initial, transition, log_obs)), 1, (0, 1))
    np.testing.assert_allclose(both(log_obs)[1], jnp.exp(hmm.smooth(*arguments)), rtol=0, atol=1e-12)
    run = jax.jit(hmm.viterbi)
    jax.block_until_ready(run(*arguments))
    assert count_compilations(lambda: run(*arguments)) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"log_obs": jnp.zeros((4, 2, 3), int)}, TypeError, r"`log_obs` must be floating \[T, B, K\]"),
        ({"log_obs": jnp.zeros(3)}, ValueError, r"`log_obs` must be \[T, B, K\], with at least one state"),
        ({"log_obs": "0.1"}, TypeError, "`log_obs` must be an array"),
        ({"log_initial": jnp.zeros(2)}, ValueError, r"`log_initial` must be \[K\] = \(3,\)"),
        ({"log_transition": jnp.zeros((3, 3, 3, 3))}, ValueError, r"`log_transition` must be \[K, K\] = \(3, 3\)"),
        ({"mask": jnp.ones((2, 4), bool)}, ValueError, "Did you pass batch-major"),
        ({"mask": jnp.ones((4, 2))}, TypeError, "`mask` must be bool"),
    ],
)
def test_errors_name_the_argument(changes, error, message):
    arguments = {
        "log_initial": jnp.zeros(3),
        "log_transition": jnp.zeros((3, 3)),
        "log_obs": jnp.zeros((4, 2, 3)),
        "mask": None,
    }
    arguments |= changes
    mask = arguments.pop("mask")
    with pytest.raises(error, match=message):
        hmm.smooth(*arguments.values(), mask=mask)


def test_predict_wants_one_transition_and_a_count():
    transition = jnp.zeros((3, 3, 3))
    with pytest.raises(ValueError, match=r"`log_transition` must be \[K, K\] to predict by"):
        hmm.predict(jnp.zeros(3), transition, jnp.zeros((4, 3)), 2)
    with pytest.raises(ValueError, match="`steps` must be a positive int"):
        hmm.predict(jnp.zeros(3), jnp.zeros((3, 3)), jnp.zeros((4, 3)), 0)
    with pytest.raises(TypeError, match="key"):
        hmm.sample_posterior(0, jnp.zeros(3), jnp.zeros((3, 3)), jnp.zeros((4, 3)))


def test_a_transition_that_no_row_takes_reaches_no_gradient():
    """NaN in the move into a row's first real step, of the posteriors too."""
    transition = jnp.array([[[jnp.nan] * 2] * 2, [[-0.1, -2.0], [-1.0, -0.5]]])
    log_obs, mask = jnp.array([[jnp.nan] * 2, [-0.3, -1.0], [-2.0, -0.1]]), jnp.array([False, True, True])
    half = jnp.log(jnp.array([0.5, 0.5]))
    value = lambda transition, log_obs: hmm.smooth(half, transition, log_obs, mask=mask)[1, 0]
    gradients = jax.grad(value, (0, 1))(transition, log_obs)
    want = jax.grad(value, (0, 1))(transition.at[0].set(0.0), log_obs.at[0].set(0.0))
    jax.tree.map(np.testing.assert_array_equal, gradients, want)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_narrow_floats_are_widened(dtype):
    half = jnp.log(jnp.full((2, 2), 0.5))
    log_obs = jnp.full((300, 2), -300.0, dtype)
    np.testing.assert_allclose(hmm.log_likelihood(half[0], half, log_obs), -90_000, rtol=1e-6)
    assert hmm.smooth(half[0], half, log_obs).dtype == jnp.float32
