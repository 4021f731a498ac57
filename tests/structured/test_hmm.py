"""Inference in hidden Markov models against all paths, one by one, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import _probabilities, hmm, semiring
from tests import compiled
from tests.structured.reference import Exact, all_masks
from tests.untyped import untyped

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


@functools.cache
def of_all_paths(form, impossible):
    """What all masks' paths add up to: log-likelihoods, marginals, pairs, best states and scores, filtered states."""
    arguments = model(form, impossible)
    rows = exact(*arguments, MASKS)
    filtered = []
    for t in range(T):
        past = MASKS & (np.arange(T) <= t)[:, None]
        filtered.append([row.marginals()[t] for row in exact(*arguments, past)])
    best_states, best_scores = zip(*(row.best() for row in rows), strict=True)
    return (
        np.array([row.log_partition for row in rows]),
        np.stack([row.marginals() for row in rows], 1),
        np.stack([row.pairs() for row in rows], 1),
        np.transpose(best_states),
        np.array(best_scores),
        np.array(filtered),
    )


@functools.partial(jax.jit, static_argnames="parallel")
def everything(initial, transition, log_obs, mask=None, *, parallel=False):
    return {
        function.__name__: function(initial, transition, log_obs, mask=mask, parallel=parallel)
        for function in (hmm.log_likelihood, hmm.filter, hmm.smooth, hmm.pairs, hmm.viterbi)
    }


@pytest.mark.some(2)
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("impossible", [0.0, 0.4])
@pytest.mark.parametrize("form", ["constant", "per_step", "per_row"])
def test_all_masks_against_all_paths(form, impossible, parallel, x64):
    initial, transition, log_obs = model(form, impossible)
    likelihoods, marginals, pairs, best_states, best_scores, filtered = of_all_paths(form, impossible)
    hidden = np.where(MASKS[..., None], log_obs, np.nan)
    got = jax.tree.map(np.asarray, everything(initial, transition, hidden, MASKS, parallel=parallel))

    np.testing.assert_allclose(got["log_likelihood"], likelihoods, rtol=0, atol=1e-12)
    assert got["log_likelihood"][0] == 0  # no step at all
    np.testing.assert_allclose(np.exp(got["smooth"]), marginals, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.exp(got["pairs"]), pairs, rtol=0, atol=1e-12)

    states, score = got["viterbi"]
    np.testing.assert_allclose(score, best_scores, rtol=0, atol=1e-12)
    some = np.isfinite(best_scores)
    np.testing.assert_array_equal(states[:, some], best_states[:, some])
    assert np.all(states[~MASKS] == -1)
    assert impossible == 0 or 0 < np.sum(~some) < B
    np.testing.assert_allclose(np.exp(got["filter"]), filtered, rtol=0, atol=1e-12)


@pytest.mark.parametrize("parallel", [False, True])
def test_gradients_are_the_posteriors(parallel, x64):
    """Of the log-likelihood: by observations the marginals, by transitions the pairs, by the start the first one."""
    arguments = model("constant", 0.4)
    _, marginals, pairs, *_ = of_all_paths("constant", 0.4)
    weights = np.random.default_rng(1).normal(size=B)
    hidden = arguments[2].copy()
    hidden[~MASKS] = np.nan

    def total(initial, transition, log_obs):
        likelihoods = hmm.log_likelihood(initial, transition, log_obs, mask=MASKS, parallel=parallel)
        return jnp.sum(jnp.where(jnp.isneginf(likelihoods), 0, likelihoods * weights))

    d_initial, d_transition, d_obs = jax.jit(jax.grad(total, (0, 1, 2)))(*arguments[:2], hidden)
    np.testing.assert_allclose(d_obs, marginals * weights[:, None], rtol=0, atol=1e-12)
    np.testing.assert_allclose(d_transition, (pairs * weights[:, None, None]).sum((0, 1)), rtol=0, atol=1e-12)
    first = [marginals[np.argmax(MASKS[:, b]), b] * weights[b] for b in range(B)]
    np.testing.assert_allclose(d_initial, np.sum(first, 0), rtol=0, atol=1e-12)


@pytest.mark.learn
@pytest.mark.parametrize("form", ["constant", "per_step", "per_row"])
def test_gradients_of_both_orders_by_finite_differences(form, x64):
    arguments = model(form, 0.0)

    def total(*arguments):
        return jnp.sum(jnp.sin(hmm.log_likelihood(*arguments, mask=MASKS)))

    def posteriors(*arguments):
        return sum(
            jnp.sum(jnp.cos(f(*arguments, mask=MASKS)), where=MASKS[..., None]) for f in (hmm.smooth, hmm.filter)
        )

    @jax.jit
    def run(arguments, direction):
        def along(*arguments):
            value, gradient = jax.value_and_grad(total, (0, 1, 2))(*arguments)
            return sum(map(jnp.vdot, gradient, direction)), (value, gradient)

        second, (value, first) = jax.grad(along, (0, 1, 2), has_aux=True)(*arguments)
        return value, first, second, jax.value_and_grad(posteriors, (0, 1, 2))(*arguments)

    generator = np.random.default_rng(0)
    seen_by, moved_by = ([generator.normal(size=x.shape) for x in arguments] for _ in range(2))
    ahead, back = (
        jax.tree.map(np.asarray, run(tuple(x + h * d for x, d in zip(arguments, moved_by, strict=True)), seen_by))
        for h in (1e-5, -1e-5)
    )
    _, first, second, (_, of_posteriors) = run(arguments, seen_by)
    slope = lambda gradient: sum(map(np.vdot, gradient, moved_by))
    np.testing.assert_allclose(slope(first), (ahead[0] - back[0]) / 2e-5, atol=1e-5, rtol=1e-5)
    curved = sum(np.vdot(a - b, d) for a, b, d in zip(ahead[1], back[1], seen_by, strict=True)) / 2e-5
    np.testing.assert_allclose(slope(second), curved, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(slope(of_posteriors), (ahead[3][0] - back[3][0]) / 2e-5, atol=1e-5, rtol=1e-5)


@pytest.mark.learn
@pytest.mark.parametrize("form", ["constant", "per_step", "per_row"])
@pytest.mark.parametrize("rare", [0.0, -300.0])
def test_forward_mode_is_reverse_modes_twin(form, rare, x64):
    """J d = ∇ · d, by each argument alone and by all; and H d, forward over reverse, by finite differences.

    With `rare` transitions what is summed as probabilities vanishes, and they are summed step by step.
    """
    initial, transition, log_obs = model(form, 0.0)
    if form == "constant":
        transition = transition + rare * (1 - np.eye(len(transition)))
    arguments = initial, transition, log_obs
    generator = np.random.default_rng(5)
    direction = tuple(generator.normal(size=x.shape) for x in arguments)

    @jax.jit
    def run(*arguments):
        rows = lambda *arguments: hmm.log_likelihood(*arguments, mask=MASKS)
        gradient = jax.grad(lambda *arguments: jnp.sum(jnp.sin(rows(*arguments))), (0, 1, 2))

        def along(i):
            one = lambda x: rows(*arguments[:i], x, *arguments[i + 1 :])
            return jax.jvp(one, arguments[i : i + 1], direction[i : i + 1])[1]

        return (
            jax.jacrev(rows, (0, 1, 2))(*arguments),
            [along(i) for i in range(3)],
            jax.jvp(rows, arguments, direction)[1],
            gradient(*arguments),
            jax.jvp(gradient, arguments, direction)[1],
        )

    jacobian, along, along_all, _, curvature = jax.tree.map(np.asarray, run(*arguments))
    want = [np.tensordot(j, d, d.ndim) for j, d in zip(jacobian, direction, strict=True)]
    np.testing.assert_allclose(along, want, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(along_all, sum(want), rtol=1e-10, atol=1e-10)
    up, down = (run(*(x + h * d for x, d in zip(arguments, direction, strict=True)))[3] for h in (1e-6, -1e-6))
    for got, ahead, back in zip(curvature, up, down, strict=True):
        np.testing.assert_allclose(got, (np.asarray(ahead) - np.asarray(back)) / 2e-6, rtol=1e-5, atol=1e-6)


def test_what_is_impossible_has_the_gradient_zero_whatever_is_made_of_it():
    never = np.array([[0.0, -1.0], [-np.inf, -np.inf], [-1.0, 0.0]], np.float32)
    half = np.log(np.full((2, 2), 0.5, np.float32))
    square = lambda *arguments: jnp.square(hmm.log_likelihood(*arguments))
    for gradient in jax.jit(jax.grad(square, (0, 1, 2)))(half[0], half, never):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


@pytest.mark.some(1)
@pytest.mark.parametrize("parallel", [False, True])
def test_a_score_has_its_path_as_gradient(parallel, x64):
    arguments = model("constant", 0.0)

    def score(log_obs):
        best = hmm.viterbi(*arguments[:2], log_obs, mask=MASKS, parallel=parallel)
        return best.score.sum()

    states = np.asarray(everything(*arguments, MASKS)["viterbi"].states)
    want = states[..., None] == np.arange(K)
    np.testing.assert_allclose(jax.jit(jax.grad(score))(arguments[2]), want, rtol=0, atol=1e-12)


def row_of_two_axes(x):
    return x[1, 2] if x.ndim == 2 else x[:, 1, 2]


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("steps", "parallel", "masked"), [(0, True, False), (1, False, False), (2, True, True), (4, False, True)]
)
def test_awkward_lengths_and_no_batch(steps, parallel, masked, x64):
    """All paths = two batch axes = none = sequential = parallel = unmasked = masked by ones, from T = 0 on."""
    generator = np.random.default_rng(steps)
    chain = log_probs(generator, K), log_probs(generator, K, K)
    log_obs, ones = generator.normal(size=(steps, 2, 3, K)), np.ones((steps, 2, 3), bool)
    of_all = everything(*chain, log_obs, ones if masked else None, parallel=parallel)
    alone = everything(*chain, log_obs[:, 1, 2], None if masked else ones[:, 1, 2], parallel=not parallel)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-11)
    of_all = jax.tree.map(np.asarray, of_all)
    jax.tree.map(lambda x, one: close(row_of_two_axes(x), one), of_all, alone)
    for place in np.ndindex(2, 3):
        row = Exact(*chain, log_obs[:, *place], np.zeros(K), ones[:, *place])
        close(of_all["log_likelihood"][place], row.log_partition)
        close(np.exp(of_all["smooth"])[:, *place], row.marginals())
        close(np.exp(of_all["pairs"])[:, *place], row.pairs())
        np.testing.assert_array_equal(of_all["viterbi"].states[:, *place], row.best()[0])
        close(of_all["viterbi"].score[place], row.best()[1])
    assert of_all["viterbi"].states.shape == (steps, 2, 3)


@pytest.mark.learn
def test_seventeen_steps_in_every_way(x64):
    """Sequential = parallel = unmasked = masked by ones, with no batch axis and with two."""
    generator = np.random.default_rng(17)
    chain = log_probs(generator, K), log_probs(generator, K, K)
    log_obs, ones = generator.normal(size=(17, 2, 3, K)), np.ones((17, 2, 3), bool)
    want = jax.tree.map(np.asarray, everything(*chain, log_obs))
    one = jax.tree.map(row_of_two_axes, want)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-11)
    jax.tree.map(close, everything(*chain, log_obs, ones, parallel=True), want)
    jax.tree.map(close, everything(*chain, log_obs[:, 1, 2], ones[:, 1, 2]), one)
    jax.tree.map(close, everything(*chain, log_obs[:, 1, 2], parallel=True), one)


@pytest.mark.some(1)
@pytest.mark.parametrize("form", ["per_step", "per_row"])
def test_transitions_of_false_steps_reach_nothing(form, x64):
    """NaN in the transition into a step that is False in all rows, or in its own."""
    initial, transition, log_obs = model(form, 0.0, steps=4, batch=3)
    mask = np.array([[True, True, False], [False, False, False], [True, False, True], [True, True, True]])
    spoilt = transition.copy()
    spoilt[0] = np.nan
    if form == "per_row":
        spoilt[1, 1] = np.nan

    def total(function, transition):
        results = function(initial, transition, log_obs, mask=mask)
        return jnp.sum(jnp.where(jnp.isfinite(results), jnp.sin(results), 0))

    @jax.jit
    def run(transition):
        functions = hmm.log_likelihood, hmm.smooth, lambda *args, **options: hmm.viterbi(*args, **options).score
        return [jax.value_and_grad(functools.partial(total, function))(transition) for function in functions]

    jax.tree.map(np.testing.assert_array_equal, run(spoilt), run(transition))


@pytest.mark.parametrize("masked", [False, True])
def test_one_step_has_no_transition(masked, x64):
    initial, transition, log_obs = model("per_step", 0.0, steps=1, batch=2)
    options = {"mask": np.ones((1, 2), bool)} if masked else {}
    want = np.logaddexp.reduce(initial + log_obs[0], -1)
    got = everything(initial, transition, log_obs, **options)
    np.testing.assert_allclose(got["log_likelihood"], want, rtol=1e-12)
    np.testing.assert_array_equal(got["viterbi"].states, np.argmax(initial + log_obs, -1))


@pytest.mark.learn
@pytest.mark.parametrize("parallel", [False, True])
def test_ten_thousand_steps_in_float32_are_those_of_float64(parallel):
    generator = np.random.default_rng(0)
    arguments = log_probs(generator, K), log_probs(generator, K, K), generator.normal(size=(10_000, 1, K)) * 3 - 50

    @jax.jit
    def run(initial, transition, log_obs):
        total, d_obs = jax.value_and_grad(
            lambda log_obs: hmm.log_likelihood(initial, transition, log_obs, parallel=parallel)[0]
        )(log_obs)
        chain = initial, transition, log_obs
        return total, d_obs, hmm.smooth(*chain, parallel=parallel), hmm.viterbi(*chain, parallel=parallel)

    total, d_obs, smoothed, best = run(*map(np.float32, arguments))
    with jax.enable_x64(True):
        want_total, want_d_obs, want_smoothed, want_best = jax.tree.map(np.asarray, run(*arguments))
    np.testing.assert_allclose(total, want_total, rtol=2e-7)
    np.testing.assert_allclose(d_obs, want_d_obs, rtol=0, atol=2e-5)
    np.testing.assert_allclose(smoothed, want_smoothed, rtol=1e-4, atol=2e-4)
    np.testing.assert_array_equal(best.states, want_best.states)
    np.testing.assert_allclose(best.score, want_best.score, rtol=2e-7)


def test_scores_far_apart_are_not_lost():
    """The only way on leads through a state that is e^500 times less probable, in float32."""
    initial, log_obs = np.array([0.0, -500.0], np.float32), np.zeros((2, 2), np.float32)
    transition = np.array([[-np.inf, -np.inf], [-np.inf, 0.0]], np.float32)

    @jax.jit
    def run(*arguments):
        return jax.value_and_grad(hmm.log_likelihood, 1)(*arguments), jnp.exp(hmm.smooth(*arguments))

    (likelihood, gradient), smoothed = run(initial, transition, log_obs)
    assert likelihood == -500
    np.testing.assert_array_equal(smoothed, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(gradient, [[0, 0], [0, 1]])


@jax.jit
def summed_pairs(*arguments):
    return jnp.exp(hmm.pairs(*arguments)).sum((0, 1))


@jax.jit
def summed_gradient(*arguments):
    return jax.grad(lambda *arguments: jnp.sum(hmm.log_likelihood(*arguments)), 1)(*arguments)


@pytest.mark.some(1)
@pytest.mark.parametrize("rare", [0.0, -300.0])
def test_expected_transitions_take_no_memory_for_the_pairs_of_all_steps(rare):
    """In float32 too, where the only way through is so rare that its probability is no float."""
    steps, rows, states = 300, 2, 20
    initial, transition, log_obs = model("constant", 0.0, steps=steps, batch=rows, states=states)
    transition[: states // 2, states // 2 :] += rare
    log_obs[: steps // 2, :, states // 2 :] = log_obs[steps // 2 :, :, : states // 2] = -np.inf
    arguments = initial, transition, log_obs
    single = tuple(map(np.float32, arguments))
    run = summed_gradient.lower(*single).compile()
    assert compiled.memory(run).temp_size_in_bytes < 4 * steps * rows * states**2 / 2
    with jax.enable_x64(True):
        want = summed_pairs(*arguments)
    np.testing.assert_allclose(run(*single), want, rtol=0, atol=2e-4)


likelihood_alone = jax.jit(hmm.log_likelihood)


@functools.partial(jax.jit, static_argnames="reverse")
def probabilities_or_sevens(start, transition, reverse):
    other = semiring.Messages(jnp.full((3, 2), 7, jnp.float32), jnp.zeros(3, jnp.float32), start)
    log_obs = jnp.zeros((3, 2), jnp.float32)
    return _probabilities.run_or(lambda: other, start, log_obs, None, transition, None, reverse=reverse)


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
    start = np.array([0.0, 0.0] if reverse else initial, np.float32)
    got = probabilities_or_sevens(start, np.array(transition, np.float32), reverse=reverse)
    assert np.all(np.asarray(got.v) == 7) == (not (counts or reverse))
    chain = np.array(initial), np.array(transition), np.zeros((3, 2))
    likelihood = likelihood_alone(*map(np.float32, chain))
    with jax.enable_x64(True):
        want = np.asarray(likelihood_alone(*chain))
    np.testing.assert_allclose(likelihood, want, rtol=1e-6)


def test_rows_of_vmap_choose_together():
    """A choice for each row would run both ways for all."""
    generator = np.random.default_rng(0)
    initial, log_obs = log_probs(generator, 6, K).astype(np.float32), generator.normal(size=(T, K)).astype(np.float32)
    initial[3] = [0.0, -500.0, -np.inf]
    transition = np.array([[-np.inf, -np.inf, -np.inf], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    run = jax.jit(jax.vmap(lambda initial: hmm.log_likelihood(initial, transition, log_obs)))
    assert " conditional(" in compiled.text(run.lower(initial).compile())
    one_by_one = [likelihood_alone(row, transition, log_obs) for row in initial]
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
        want = likelihood_alone(*joined)
        np.testing.assert_allclose(likelihood_alone(initial, transition, log_obs, mask=mask), want, rtol=1e-12)


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
    got = np.exp(jax.jit(hmm.predict, static_argnums=3)(initial, transition, log_obs, 3, mask=MASKS))
    filtered = np.exp(everything(initial, transition, log_obs, MASKS)["filter"])
    for b in range(B):
        real = np.flatnonzero(MASKS[:, b])
        now = filtered[real[-1], b] @ np.exp(transition) if len(real) else np.exp(initial)
        for k in range(3):
            np.testing.assert_allclose(got[k, b], now, rtol=0, atol=1e-12)
            now = now @ np.exp(transition)


@pytest.mark.learn
def test_vmap_is_the_batch_and_jit_compiles_once(x64, count_compilations):
    arguments = initial, transition, log_obs = model("constant", 0.0)
    likelihood = lambda log_obs: hmm.log_likelihood(initial, transition, log_obs)

    @jax.jit
    def run(log_obs):
        masked = lambda log_obs, mask: hmm.smooth(initial, transition, log_obs, mask=mask)
        slopes = jax.vmap(jax.value_and_grad(likelihood), 1, (0, 1))(log_obs)[1]
        return jax.vmap(masked, 1, 1)(log_obs, MASKS), slopes, hmm.smooth(initial, transition, log_obs)

    mapped, slopes, smoothed = run(log_obs)
    np.testing.assert_allclose(mapped, everything(*arguments, MASKS)["smooth"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes, np.exp(smoothed), rtol=0, atol=1e-12)
    best = jax.jit(hmm.viterbi)
    jax.block_until_ready(best(*arguments))
    assert count_compilations(lambda: best(*arguments)) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"log_obs": np.zeros((4, 2, 3), int)}, TypeError, r"`log_obs` must be floating \[T, B, K\]"),
        ({"log_obs": np.zeros(3)}, ValueError, r"`log_obs` must be \[T, B, K\], with at least one state"),
        ({"log_obs": "0.1"}, TypeError, "`log_obs` must be an array"),
        ({"log_initial": np.zeros(2)}, ValueError, r"`log_initial` must be \[K\] = \(3,\)"),
        (
            {"log_obs": np.zeros((4, 2, 2))},
            ValueError,
            r"`log_obs` must be \[T, B, K\] with the K = 3 states of `log_in",
        ),
        ({"log_transition": np.zeros((3, 3, 3, 3))}, ValueError, r"`log_transition` must be \[K, K\] = \(3, 3\)"),
        ({"mask": np.ones((2, 4), bool)}, ValueError, "Did you pass batch-major"),
        ({"mask": np.ones((4, 2))}, TypeError, "`mask` must be bool"),
    ],
)
def test_errors_name_the_argument(changes, error, message):
    arguments = {
        "log_initial": np.zeros(3),
        "log_transition": np.zeros((3, 3)),
        "log_obs": np.zeros((4, 2, 3)),
        "mask": None,
    }
    arguments |= changes
    mask = arguments.pop("mask")
    with pytest.raises(error, match=message):
        hmm.smooth(*arguments.values(), mask=mask)


def test_predict_wants_one_transition_and_a_count():
    transition = np.zeros((3, 3, 3))
    with pytest.raises(ValueError, match=r"`log_transition` must be \[K, K\] for a prediction"):
        hmm.predict(np.zeros(3), transition, np.zeros((4, 3)), 2)
    with pytest.raises(ValueError, match="`steps` must be a positive int"):
        hmm.predict(np.zeros(3), np.zeros((3, 3)), np.zeros((4, 3)), 0)
    with pytest.raises(TypeError, match="key"):
        hmm.sample_posterior(untyped(0), np.zeros(3), np.zeros((3, 3)), np.zeros((4, 3)))


def test_a_transition_that_no_row_takes_reaches_no_gradient():
    """NaN in the move into a row's first real step, of the posteriors too."""
    transition = np.array([[[np.nan] * 2] * 2, [[-0.1, -2.0], [-1.0, -0.5]]], np.float32)
    log_obs, mask = np.array([[np.nan] * 2, [-0.3, -1.0], [-2.0, -0.1]], np.float32), np.array([False, True, True])
    half = np.log(np.full(2, 0.5, np.float32))
    value = lambda transition, log_obs: hmm.smooth(half, transition, log_obs, mask=mask)[1, 0]
    gradients = jax.jit(jax.grad(value, (0, 1)))
    clean = np.nan_to_num(transition), np.nan_to_num(log_obs)
    jax.tree.map(np.testing.assert_array_equal, gradients(transition, log_obs), gradients(*clean))


@pytest.mark.some(1)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_narrow_floats_are_widened(dtype):
    half = np.log(np.full((2, 2), 0.5, np.float32))
    log_obs = np.full((300, 2), -300.0, dtype)
    np.testing.assert_allclose(hmm.log_likelihood(half[0], half, log_obs), -90_000, rtol=1e-6)
    assert hmm.smooth(half[0], half, log_obs).dtype == jnp.float32
