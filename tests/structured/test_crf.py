"""Linear-chain conditional random fields against all paths, one by one, in float64."""

import functools
import heapq
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseq.structured import crf
from tests.structured.reference import Exact, all_masks
from tests.untyped import untyped

T, K = 5, 3
MASKS = all_masks(T)
B = MASKS.shape[1]
ALL = K**T + 7  # more paths than there are


def field(impossible=0.0):
    """Random params, some of them -inf."""
    generator = np.random.default_rng(2)
    shapes = (K, K), (K,), (K,)
    values = [generator.normal(size=shape) for shape in shapes]
    return crf.Params(*(np.where(generator.random(x.shape) < impossible, -np.inf, x) for x in values))


def drawn(impossible=0.0, steps=T, batch=B):
    """Params, scores and tags."""
    generator = np.random.default_rng(3)
    scores, tags = generator.normal(size=(steps, batch, K)), generator.integers(0, K, (steps, batch))
    return field(impossible), np.where(generator.random(scores.shape) < impossible / 2, -np.inf, scores), tags


def hidden(scores, tags):
    """The same on the real steps of MASKS, and on the others what must not matter."""
    anything = np.random.default_rng(4).choice([-1, 0, K, 10**9], tags.shape)
    return np.where(MASKS[..., None], scores, np.nan), np.where(MASKS, tags, anything)


def exact(params, scores, masks):
    return [Exact(params.start, params.transition, scores[:, b], params.end, masks[:, b]) for b in range(len(masks.T))]


def along(row, tags):
    """The score of one row's tags."""
    return next(score for path, score in row.paths if all(tags[t] == tag for t, tag in path.items()))


@functools.partial(jax.jit, static_argnames=("k", "parallel"))
def everything(params, scores, tags, mask, *, k, parallel):
    options = {"mask": mask, "parallel": parallel}
    return {
        "log_likelihood": crf.log_likelihood(params, scores, tags, **options),
        "log_partition": crf.log_partition(params, scores, **options),
        "score": crf.score(params, scores, tags, mask=mask),
        "marginals": crf.marginals(params, scores, **options),
        "pairs": crf.pairs(params, scores, **options),
        "viterbi": crf.viterbi(params, scores, **options),
        "k_best": crf.k_best(params, scores, k, mask=mask),
    }


@pytest.mark.some(1)
@pytest.mark.parametrize("impossible", [0.0, 0.4])
@pytest.mark.parametrize("parallel", [False, True])
def test_all_masks_against_all_paths(parallel, impossible, x64):
    params, *clean = drawn(impossible)
    scores, tags = hidden(*clean)
    rows = exact(params, scores, MASKS)
    got = jax.tree.map(np.asarray, everything(params, scores, tags, MASKS, k=ALL, parallel=parallel))
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)

    totals, ours = (np.array(x) for x in ([row.log_partition for row in rows], list(map(along, rows, tags.T))))
    close(got["log_partition"], totals)
    close(got["score"], ours)
    close(got["log_likelihood"], np.where(np.isneginf(ours), -np.inf, ours - np.where(np.isneginf(totals), 0, totals)))
    assert got["log_likelihood"][0] == 0  # no step at all
    close(got["marginals"], np.stack([row.marginals() for row in rows], 1))
    close(got["pairs"], np.stack([row.pairs() for row in rows], 1))
    assert impossible == 0 or 0 < np.sum(np.isneginf(totals)) < B

    best, k_best = got["viterbi"], got["k_best"]
    assert np.all(best.states[~MASKS] == -1)
    for b, row in enumerate(rows):
        want = sorted((score for _, score in row.paths if score > -np.inf), reverse=True)
        close(best.score[b], want[0] if want else -np.inf)
        close(k_best.score[b], np.pad(want, (0, ALL - len(want)), constant_values=-np.inf))
        assert np.all(k_best.states[:, b, len(want) :] == -1)
        found = k_best.states[:, b, : len(want)]
        assert len(np.unique(found, axis=1).T) == len(want)  # all different
        for rank in range(len(want)):
            close(along(row, found[:, rank]), want[rank])
            assert np.all(found[~MASKS[:, b], rank] == -1)
        if want:
            np.testing.assert_array_equal(best.states[:, b], found[:, 0])


@pytest.mark.some(1)
@pytest.mark.parametrize("parallel", [False, True])
def test_gradients_of_the_log_partition_are_marginals(parallel, x64):
    params, *clean = drawn(0.4)
    scores, _ = hidden(*clean)
    rows = exact(params, scores, MASKS)
    weights = np.random.default_rng(1).normal(size=B)

    def total(params, scores):
        totals = crf.log_partition(params, scores, mask=MASKS, parallel=parallel)
        return jnp.sum(jnp.where(jnp.isneginf(totals), 0, totals * weights))

    d_params, d_scores = jax.jit(jax.grad(total, (0, 1)))(params, scores)
    marginals = np.stack([row.marginals() for row in rows], 1) * weights[:, None]
    pairs = np.stack([row.pairs() for row in rows], 1) * weights[:, None, None]
    first, last = np.argmax(MASKS, 0), T - 1 - np.argmax(MASKS[::-1], 0)  # marginals are 0 where there is no step
    want = crf.Params(pairs.sum((0, 1)), *(marginals[at, np.arange(B)].sum(0) for at in (first, last)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12), d_params, want)
    np.testing.assert_allclose(d_scores, marginals, rtol=0, atol=1e-12)


def numeric(f, at, direction, step=1e-5):
    """The derivative of `f` along a direction, by a central difference."""
    ahead, back = (f(*jax.tree.map(lambda x, d: x + h * d, at, direction)) for h in (step, -step))  # noqa: B023
    return jax.tree.map(lambda a, b: (np.asarray(a) - np.asarray(b)) / (2 * step), ahead, back)


@pytest.mark.learn
def test_gradients_by_finite_differences(x64):
    """Of both orders; of values, of marginals and of the k best scores; under constraints, where none is NaN."""
    params, scores, tags = drawn()
    allowed = crf.bio(["O", "B", "I"])
    fitting, mask = np.where(tags == 2, 0, tags), MASKS  # "I" after "O" is not possible

    def likelihoods(params, scores):
        return jnp.sum(jnp.sin(crf.log_likelihood(crf.constrain(params, allowed), scores, fitting, mask=mask)))

    def everywhere(params, scores):
        limited = crf.constrain(params, allowed)
        return (
            likelihoods(params, scores)
            + jnp.sum(jnp.sin(crf.score(limited, scores, fitting, mask=mask)))
            + jnp.sum(jnp.cos(crf.marginals(limited, scores, mask=mask)), where=mask[..., None])
            + jnp.sum(jnp.sin(crf.k_best(limited, scores, 2, mask=mask).score[-6:]))
        )

    generator, at = np.random.default_rng(0), (params, scores)
    value, gradient, slope = jax.jit(everywhere), jax.jit(jax.grad(everywhere, (0, 1))), jax.jit(jax.grad(likelihoods))
    curved = jax.jit(jax.grad(lambda params, scores, d: jnp.sum(slope(params, scores).transition * d), 1))
    d_params, d_scores = jax.tree.map(np.asarray, gradient(*at))
    for _ in range(4):
        direction = jax.tree.map(lambda x: generator.normal(size=x.shape), at)
        along = jax.tree.map(np.vdot, (d_params, d_scores), direction)
        np.testing.assert_allclose(numeric(value, at, direction), sum(jax.tree.leaves(along)), rtol=1e-7)
        d_transition, only_scores = direction[0].transition, (jax.tree.map(np.zeros_like, params), direction[1])
        want = np.vdot(numeric(slope, at, only_scores).transition, d_transition)
        np.testing.assert_allclose(np.vdot(curved(*at, d_transition), direction[1]), want, rtol=1e-7)
    jax.tree.map(lambda d, flags: np.testing.assert_array_equal(d != 0, flags), d_params, crf.Params(*allowed))


def test_tags_that_are_not_possible_have_likelihood_0_and_gradient_0(x64):
    """Out of range on a real step, also in a narrow dtype, or forbidden; the other rows are as they are."""
    params, scores, _ = drawn()
    tags = np.zeros((T, B), np.int8)
    tags[0, 2], tags[0, 3], tags[T - 1, 4], tags[1, 5:7] = K, -1, 120, (2, 1)
    tags[2, 5:7] = 1
    params.transition[2, 1] = -np.inf
    fits = (np.arange(B) < 2) | (np.arange(B) > 5)
    run = jax.jit(jax.vmap(jax.value_and_grad(crf.log_likelihood, (0, 1)), (None, 1, 1)))
    found, gradients = run(params, scores, tags)
    want, sound = run(params, scores, np.where(fits, tags, 0))
    np.testing.assert_array_equal(found, np.where(fits, want, -np.inf))
    for d, d_sound in zip(jax.tree.leaves(gradients), jax.tree.leaves(sound), strict=True):
        np.testing.assert_array_equal(d, np.where(fits.reshape(-1, *[1] * (d.ndim - 1)), d_sound, 0))
    far = np.where(fits, tags.astype(np.uint64), np.uint64(2**63))
    np.testing.assert_array_equal(np.isneginf(jax.jit(crf.score)(params, scores, far)), ~fits)


@pytest.mark.some(1)
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_a_single_row_without_a_mask(steps, x64):
    params, scores, tags = drawn(steps=steps, batch=1)
    (row,) = exact(params, scores, np.ones((steps, 1), bool))
    got = everything(params, scores[:, 0], tags[:, 0], None, k=4, parallel=False)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-12)
    close(got["log_partition"], row.log_partition)
    close(got["score"], along(row, tags[:, 0]))
    close(got["log_likelihood"], along(row, tags[:, 0]) - row.log_partition)
    close(got["marginals"], row.marginals())
    close(got["pairs"], row.pairs())
    close(got["viterbi"].score, row.best()[1])
    close(got["viterbi"].states, row.best()[0])
    want = sorted((score for _, score in row.paths), reverse=True)[:4]
    close(got["k_best"].score, np.pad(want, (0, 4 - len(want)), constant_values=-np.inf))
    assert got["k_best"].states.shape == (steps, 4)


def test_one_tag_has_one_path():
    params = crf.Params(jnp.ones((1, 1)), jnp.ones(1), jnp.ones(1))
    got = crf.k_best(params, jnp.ones((3, 1)), 2)
    np.testing.assert_array_equal(got.score, [7, -np.inf])
    np.testing.assert_array_equal(got.states, [[0, -1]] * 3)


def test_among_equals_the_lower_tags_are_first(x64):
    """The best of the k best is Viterbi's path where many paths have one score."""
    generator = np.random.default_rng(0)
    params = crf.Params(*(generator.integers(0, 2, x.shape).astype(float) for x in field()))
    scores = generator.integers(0, 2, (T, B, K)).astype(float)
    got = everything(params, scores, np.zeros((T, B), int), MASKS, k=ALL, parallel=False)
    best, k_best = got["viterbi"], got["k_best"]
    np.testing.assert_array_equal(k_best.states[..., 0], best.states)
    np.testing.assert_array_equal(k_best.score[:, 0], best.score)
    assert np.mean(k_best.score[:, 0] == k_best.score[:, 1]) > 0.3


def k_best_by_hand(params, scores, k):
    """Scores and paths, best first; a path is a list of links, its last tag first."""
    ways = [[(params.start[j] + scores[0, j], (j, None))] for j in range(K)]
    for row in scores[1:]:
        all_ways = [way for some in ways for way in some]
        ways = [
            best(k, ((s + params.transition[path[0], j] + row[j], (j, path)) for s, path in all_ways)) for j in range(K)
        ]
    return [(s, unlinked(path)) for s, path in best(k, ((s + params.end[p[0]], p) for some in ways for s, p in some))]


def best(k, ways):
    return heapq.nlargest(k, ways, key=lambda way: way[0])


def unlinked(path):
    tags = []
    while path is not None:
        tag, path = path
        tags.append(tag)
    return tags[::-1]


def test_a_thousand_steps_of_k_best(x64):
    params, scores, _ = drawn(steps=1000, batch=1)
    got = jax.jit(crf.k_best, static_argnums=2)(params, scores[:, 0], 6)
    want_scores, want_paths = zip(*k_best_by_hand(params, scores[:, 0], 6), strict=True)
    np.testing.assert_allclose(got.score, want_scores, rtol=1e-12)
    np.testing.assert_array_equal(got.states.T, want_paths)


def forward_by_hand(params, scores):
    """Log-partition and marginals of one row."""

    def messages(scores, start, transition):
        alphas = [start + scores[0]]
        for row in scores[1:]:
            alphas.append(np.logaddexp.reduce(alphas[-1][:, None] + transition, 0) + row)
        return np.array(alphas)

    ahead = messages(scores, params.start, params.transition)
    back = messages(scores[::-1], params.end, params.transition.T)[::-1] - scores
    total = np.logaddexp.reduce(ahead[-1] + params.end)
    return total, np.exp(ahead + back - total)


@jax.jit
def of_long_rows(params, scores, tags):
    return [
        (
            crf.log_likelihood(params, scores, tags, parallel=parallel),
            crf.log_partition(params, scores, parallel=parallel),
            crf.marginals(params, scores, parallel=parallel),
            *crf.viterbi(params, scores, parallel=parallel),
        )
        for parallel in (False, True)
    ], crf.k_best(params, scores, 2)


@pytest.mark.learn
def test_ten_thousand_steps_in_float32_are_those_of_float64():
    steps = 10_000
    params, scores, tags = drawn(steps=steps, batch=2)
    scores = 3 * scores - 50
    scores[:, 1] += 30 * np.eye(K)[tags[:, 1]]  # a row that is sure of its tags
    params, scores = jax.tree.map(np.float32, (params, scores))
    found, k_best = jax.tree.map(np.asarray, of_long_rows(params, scores, tags))
    params, scores = jax.tree.map(np.float64, (params, scores))

    def score(b, path):
        there = scores[np.arange(steps), b, path].sum() + params.transition[path[:-1], path[1:]].sum()
        return params.start[path[0]] + there + params.end[path[-1]]

    for b in range(2):
        total, marginals = forward_by_hand(params, scores[:, b])
        two_best = [score for score, _ in k_best_by_hand(params, scores[:, b], 2)]
        for likelihood, partition, probabilities, states, best in found:
            np.testing.assert_allclose(partition[b], total, rtol=1e-6)
            np.testing.assert_allclose(likelihood[b], score(b, tags[:, b]) - total, rtol=2e-6, atol=1e-3)
            np.testing.assert_allclose(probabilities[:, b], marginals, rtol=0, atol=5e-5)
            np.testing.assert_allclose(score(b, states[:, b]), two_best[0], rtol=1e-12)
            np.testing.assert_allclose(best[b], two_best[0], rtol=1e-6)
        np.testing.assert_allclose([score(b, path) for path in k_best.states[:, b].T], two_best, rtol=1e-12)
        np.testing.assert_allclose(k_best.score[b], two_best, rtol=1e-6)


def test_draws_have_the_probabilities_of_paths(x64):
    params, scores, _ = drawn(0.2, steps=3, batch=8)
    masks, N = all_masks(3), 20_000
    draw = jax.jit(jax.vmap(lambda key: crf.sample(key, params, scores, mask=masks)))
    draws = np.asarray(draw(jax.random.split(jax.random.key(0), N)))
    rows = exact(params, scores, masks)
    assert sum(row.log_partition > -np.inf for row in rows) >= 6
    for b, row in enumerate(rows):
        assert np.all(draws[:, ~masks[:, b], b] == -1)
        if np.isneginf(row.log_partition):
            continue
        codes, counts = np.unique(draws[:, :, b], axis=0, return_counts=True)
        seen = {tuple(code.tolist()): count / N for code, count in zip(codes, counts, strict=True)}
        want = {tuple(path.get(t, -1) for t in range(3)): np.exp(s - row.log_partition) for path, s in row.paths}
        assert set(seen) <= set(want)
        for path, p in want.items():
            assert abs(seen.get(path, 0) - p) <= 5 * np.sqrt(p * (1 - p) / N) + 1e-12


@pytest.mark.learn
def test_vmap_and_two_axes_are_the_batch_and_jit_compiles_once(x64, count_compilations):
    params, *rows = drawn()
    rows = *hidden(*rows), MASKS
    all_at_once = functools.partial(everything, params, *rows, k=ALL, parallel=False)
    want = all_at_once()
    want = want["log_likelihood"], want["marginals"], want["viterbi"].states, want["k_best"].score[:, :2]

    def run(scores, tags, mask):
        return (
            crf.log_likelihood(params, scores, tags, mask=mask),
            crf.marginals(params, scores, mask=mask),
            crf.viterbi(params, scores, mask=mask).states,
            crf.k_best(params, scores, 2, mask=mask).score,
        )

    mapped = jax.jit(jax.vmap(run, 1, (0, 1, 1, 0)))(*rows)
    two_axes = jax.jit(run)(*(x.reshape(T, 4, B // 4, *x.shape[2:]) for x in rows))
    for got in mapped, two_axes:
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(np.reshape(ours, theirs.shape), theirs, rtol=0, atol=1e-12)
    assert count_compilations(all_at_once) == 0


def test_narrow_scores_are_widened():
    params, scores, tags = drawn(steps=50, batch=1)
    narrow = jnp.asarray(scores, jnp.bfloat16)[:, 0]
    params, tags = jax.tree.map(np.float32, params), tags[:, 0]
    got, d_scores = jax.jit(jax.value_and_grad(crf.log_likelihood, 1))(params, narrow, tags)
    total, marginals = forward_by_hand(params, np.asarray(narrow, np.float64))
    want = jax.jit(crf.score)(params, narrow, tags) - total
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert d_scores.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(d_scores), np.eye(K)[tags] - marginals, rtol=0.01, atol=1e-4)


SPANS = {  # what a sequence is made of, by its scheme
    "BIO": "O|BX(IX)*|BY(IY)*",
    "IOB1": "O|IX|IY|(?<=[BI]X)BX|(?<=[BI]Y)BY",
    "BIOES": "O|SX|SY|BX(IX)*EX|BY(IY)*EY",
}


@pytest.mark.parametrize("scheme", SPANS)
def test_sequences_that_a_scheme_allows(scheme):
    letters = "BIES" if scheme == "BIOES" else "BI"
    names = ["O", *(f"{letter}-{kind}" for kind in "XY" for letter in letters)]
    names = np.random.default_rng(0).permutation(names).tolist()
    allowed = crf.bio(names, scheme)
    assert allowed.transition.dtype == allowed.start.dtype == allowed.end.dtype == bool
    for length in (1, 2, 3):
        for path in itertools.product(range(len(names)), repeat=length):
            fits = re.fullmatch(f"({SPANS[scheme]})*", "".join(names[tag].replace("-", "") for tag in path)) is not None
            steps = [allowed.transition[pair] for pair in itertools.pairwise(path)]
            assert fits == all([allowed.start[path[0]], *steps, allowed.end[path[-1]]]), [names[tag] for tag in path]


def test_what_is_not_allowed_is_on_no_path(x64):
    allowed = crf.bio(["O", "B-X", "I-X"])
    params, scores, tags = drawn()
    params, scores = crf.constrain(params, allowed), 3 * scores
    found = everything(params, scores, tags, np.ones((T, B), bool), k=ALL, parallel=False)
    draw = jax.jit(crf.sample)(jax.random.key(0), params, scores)
    for tags in map(np.asarray, (found["viterbi"].states, draw, *jnp.moveaxis(found["k_best"].states[..., :3], -1, 0))):
        assert allowed.start[tags[0]].all()
        assert allowed.transition[tags[:-1], tags[1:]].all()
    greedy = np.argmax(scores, -1)
    assert not allowed.transition[greedy[:-1], greedy[1:]].all()


def test_a_type_may_have_dashes_or_be_missing():
    assert crf.bio(["B-A-B", "I-A-B", "I-A"]).transition.tolist() == [[True, True, False]] * 2 + [[True, False, True]]
    assert crf.bio(("S", "O"), "BIOES").transition.all()


def test_init_draws_small_numbers():
    params = crf.init(jax.random.key(0), 40, jnp.bfloat16)
    assert [x.shape for x in params] == [(40, 40), (40,), (40,)]
    assert all(x.dtype == jnp.bfloat16 and 0.05 < np.std(np.float32(x)) < 0.15 for x in params)
    assert not np.array_equal(params.start, params.end)
    assert crf.init(jax.random.key(0), 2).start.dtype == jnp.result_type(float)


PARAMS = crf.Params(np.zeros((K, K), np.float32), np.zeros(K, np.float32), np.zeros(K, np.float32))
SCORES, TAGS = np.zeros((4, 2, K), np.float32), np.zeros((4, 2), int)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: crf.log_partition(untyped(tuple(PARAMS)), SCORES),
            TypeError,
            "`params` must be crf.Params.*got tuple",
        ),
        (
            lambda: crf.marginals(PARAMS, SCORES[..., :2]),
            ValueError,
            r"`scores` must be \[T, B, K\] with the K = 3 states of",
        ),
        (
            lambda: crf.marginals(PARAMS._replace(start=np.zeros(2)), SCORES),
            ValueError,
            r"`params.start` must be \[K\] = \(3,\)",
        ),
        (
            lambda: crf.pairs(PARAMS._replace(transition=np.zeros((2, 3))), SCORES),
            ValueError,
            r"`params.transition` must be \[K, K\] = \(3, 3\)",
        ),
        (
            lambda: crf.viterbi(PARAMS._replace(end=np.zeros(3, complex)), SCORES),
            TypeError,
            r"`params.end` must be real numbers \[K\]; got complex",
        ),
        (
            lambda: crf.pairs(PARAMS, SCORES, parallel=untyped("no")),
            TypeError,
            "`parallel` must be True, False or a .*; got 'no'",
        ),
        (lambda: crf.viterbi(PARAMS, TAGS), TypeError, r"`scores` must be floating \[T, B, K\]"),
        (lambda: crf.viterbi(PARAMS, SCORES, mask=np.ones((2, 4), bool)), ValueError, "Did you pass batch-major"),
        (lambda: crf.score(PARAMS, SCORES, TAGS.T), ValueError, r"`tags` must be int \[T, B\] = \(4, 2\).*batch-major"),
        (lambda: crf.score(PARAMS, SCORES, TAGS[:3]), ValueError, r"the steps of `scores`; got .*3, 2.\.$"),
        (lambda: crf.log_likelihood(PARAMS, SCORES, TAGS > 0), TypeError, r"`tags` must be int .*got bool"),
        (lambda: crf.k_best(PARAMS, SCORES, 0), ValueError, "`k` must be a positive int; got 0"),
        (lambda: crf.sample(untyped(3), PARAMS, SCORES), TypeError, "`key` must be"),
        (lambda: crf.init(jax.random.key(0), 0), ValueError, "`K` must be a positive int"),
        (lambda: crf.bio("O"), TypeError, "`labels` must be a sequence of names"),
        (lambda: crf.bio(untyped([0, 1])), TypeError, "`labels` must be a sequence of names"),
        (lambda: crf.bio(untyped(None)), TypeError, "`labels` must be a sequence of names, .*; got None"),
        (lambda: crf.bio([]), ValueError, "`labels` must be distinct names, at least one"),
        (lambda: crf.bio(["O", "O"]), ValueError, "`labels` must be distinct names"),
        (lambda: crf.bio(["O", "S-X"]), ValueError, r"like 'B-PER', 'I-PER' in the scheme BIO; got 'S-X'"),
        (lambda: crf.bio(["O-X"]), ValueError, "got 'O-X'"),
        (lambda: crf.bio(["B-"]), ValueError, "got 'B-'"),
        (lambda: crf.bio(["NOUN"]), ValueError, "got 'NOUN'"),
        (lambda: crf.bio(["O"], "BILOU"), ValueError, "`scheme` must be 'BIO' or 'IOB1' or 'BIOES'; got 'BILOU'"),
        (lambda: crf.constrain(PARAMS, untyped(PARAMS.transition > 0)), TypeError, "`allowed` must be a crf.Allowed"),
        (
            lambda: crf.constrain(PARAMS, crf.bio(["O", "B"])),
            ValueError,
            r"`allowed.transition` must be bool \[K, K\] = \(3, 3\); got bool \(2, 2\)",
        ),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
