"""CTC's loss, alignment and greedy decoding against all paths, written out; gradients; impossible labels; long rows."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxseq.structured import ctc
from tests.structured import ctc_by_hand as by_hand
from tests.untyped import untyped

T, V, L = 5, 3, 4
MASKS = np.array(list(itertools.product([True, False], repeat=T)))  # [32, T]

loss = jax.jit(ctc.loss, static_argnames="blank")
align = jax.jit(ctc.align, static_argnames="blank")
greedy = jax.jit(ctc.greedy, static_argnames="blank")


def total_loss(log_probs, *arguments, **options):
    losses = ctc.loss(log_probs, *arguments, **options)
    return jnp.sum(jnp.where(jnp.isinf(losses), 0, losses)), losses


value_and_gradient = jax.jit(jax.value_and_grad(total_loss, has_aux=True), static_argnames="blank")


def every_case(blank):
    """All masks by all labellings of up to 3 labels, with holes: arguments, and of each row its paths and frames."""
    generator = np.random.default_rng(blank)
    of_mask = by_hand.log_softmax(generator.normal(0, 2, (len(MASKS), T, V)))
    of_mask[3, 1, 1] = of_mask[0, 2, 0] = of_mask[0, 3, 2] = -np.inf  # impossible; both are real there
    known = [by_hand.paths(row[mask], blank) for row, mask in zip(of_mask, MASKS, strict=True)]
    letters = [v for v in range(V) if v != blank]
    labellings = [one for n in range(4) for one in itertools.product(letters, repeat=n)]
    rows = list(itertools.product(range(len(MASKS)), labellings))
    labels = generator.integers(-3, V + 3, (L, len(rows)))
    label_mask = np.zeros((L, len(rows)), bool)
    for place, (_, labelling) in enumerate(rows):
        places = np.sort(generator.permutation(L)[: len(labelling)])
        labels[places, place] = labelling
        label_mask[places, place] = True
    which = [m for m, _ in rows]
    log_probs, mask = of_mask[which].swapaxes(0, 1), MASKS[which].T
    dirty = np.where(mask[..., None], log_probs, np.nan)
    return (
        dirty,
        mask,
        labels,
        label_mask,
        [(known[m][labelling], log_probs[:, i]) for i, (m, labelling) in enumerate(rows)],
    )


@pytest.mark.some(1)
@pytest.mark.parametrize("blank", [0, 2])
def test_all_masks_and_labels_against_all_paths(x64, blank):
    log_probs, mask, labels, label_mask, rows = every_case(blank)
    (_, losses), gradient = value_and_gradient(log_probs, labels, mask=mask, label_mask=label_mask, blank=blank)
    found = align(log_probs, labels, mask=mask, label_mask=label_mask, blank=blank)
    np.testing.assert_allclose(losses, [-by_hand.total(paths) for paths, _ in rows], rtol=1e-12)
    assert np.isinf(losses).any()
    want = np.zeros_like(gradient)
    for i, (paths, row) in enumerate(rows):
        want[mask[:, i], i] = by_hand.gradient(paths, row[mask[:, i]])
        tokens, positions = np.array(found.tokens[:, i]), np.array(found.positions[:, i])
        best = max((score for score, _ in paths), default=-np.inf)
        np.testing.assert_allclose(found.score[i], best, rtol=1e-12)
        if best == -np.inf:
            assert (tokens == -1).all()
            assert (positions == -1).all()
            continue
        real = mask[:, i]
        assert (tokens[~real] == -1).all()
        assert (positions[~real] == -1).all()
        assert by_hand.collapse(tokens[real], blank) == tuple(labels[label_mask[:, i], i])
        np.testing.assert_allclose(sum(row[t, tokens[t]] for t in np.flatnonzero(real)), best, rtol=1e-12)
        said = positions >= 0
        np.testing.assert_array_equal(said, real & (tokens != blank))
        np.testing.assert_array_equal(labels[positions[said], i], tokens[said])
        assert label_mask[positions[said], i].all()
        assert (np.diff(positions[said]) >= 0).all()
        assert set(positions[said]) == set(np.flatnonzero(label_mask[:, i]))
    np.testing.assert_allclose(gradient, want, atol=1e-12)


def test_greedy_against_the_best_path_of_every_mask(x64):
    generator = np.random.default_rng(4)
    log_probs = by_hand.log_softmax(generator.normal(0, 2, (T, len(MASKS), V)))
    for blank in (0, 2):
        found = greedy(np.where(MASKS.T[..., None], log_probs, np.nan), mask=MASKS.T, blank=blank)
        for i, mask in enumerate(MASKS):
            row = log_probs[mask, i]
            labels = by_hand.collapse(row.argmax(-1), blank)
            assert found.labels[:, i].tolist() == by_hand.padded(labels, T)
            assert found.lengths[i] == len(labels)
            np.testing.assert_allclose(found.score[i], row.max(-1).sum(), rtol=1e-12)


def test_collapse_of_all_paths_with_and_without_a_mask():
    tokens = np.array(list(itertools.product(range(3), repeat=4))).T
    for blank in (0, 1):
        labels, lengths = jax.jit(ctc.collapse, static_argnames="blank")(tokens, blank=blank)
        want = [by_hand.collapse(path, blank) for path in tokens.T]
        assert labels.T.tolist() == [by_hand.padded(one, 4) for one in want]
        assert lengths.tolist() == [len(one) for one in want]
    labels, lengths = ctc.collapse(jnp.array([7, -5, 7, 9, 0, 9]), mask=jnp.array([1, 0, 1, 1, 0, 1], bool))
    assert (labels.tolist(), lengths.item()) == ([7, 9, -1, -1, -1, -1], 2)
    labels, lengths = ctc.collapse(jnp.zeros((0, 2), jnp.uint8), mask=jnp.zeros((0, 2), bool))
    assert (labels.shape, lengths.tolist()) == ((0, 2), [0, 0])


def plain(log_probs, paths):
    """-log p(labels), differentiable by JAX."""
    scores = log_probs[jnp.arange(log_probs.shape[0]), jnp.array(paths)].sum(-1)
    return -jax.scipy.special.logsumexp(scores)


def test_second_derivatives_also_where_all_paths_are_equal(x64):
    generator = np.random.default_rng(5)
    labels, T = (1, 1, 2), 5
    rows = by_hand.log_softmax(np.stack([np.zeros((T, V)), generator.normal(0, 2, (T, V))]))
    paths = [path for _, path in by_hand.paths(rows[0], 0)[labels]]
    got, want = (
        jax.jit(jax.vmap(jax.hessian(f)))(rows)
        for f in (lambda row: ctc.loss(row, jnp.array(labels)), lambda row: plain(row, paths))
    )
    np.testing.assert_allclose(got, want, atol=1e-12)
    check_grads(lambda row: ctc.loss(row, jnp.array(labels)), (rows[1],), 2, modes=["rev"], eps=1e-4)


CASES = [  # frames, labels, loss where all symbols are equally probable, in units of log 3
    (0, [], 0),
    (0, [1], np.inf),
    (1, [], 1),
    (1, [1], 1),
    (1, [1, 2], np.inf),
    (2, [1, 1], np.inf),
    (3, [1, 1], 3),
    (3, [1, 0], np.inf),  # the blank is no label
    (3, [-1], np.inf),
    (3, [3], np.inf),
]


def test_few_frames_and_labels_that_are_none(x64):
    frames, counts = np.array([n for n, *_ in CASES]), np.array([len(labels) for _, labels, _ in CASES])
    labels = np.array([by_hand.padded(labels, 2) for _, labels, _ in CASES]).T
    masks: dict[str, Any] = {"mask": np.arange(3)[:, None] < frames, "label_mask": np.arange(2)[:, None] < counts}
    want = np.array([want for *_, want in CASES]) * np.log(3)

    @jax.jit
    def run(log_probs):
        def losses(log_probs):
            return ctc.loss(log_probs, labels, **masks)

        gradients = [jax.grad(lambda x, f=f: f(losses(x)).sum())(log_probs) for f in (lambda x: x, jnp.square)]
        return losses(log_probs), gradients, ctc.align(log_probs, labels, **masks)

    got, gradients, found = run(jnp.full((3, len(CASES), 3), -np.log(3)))
    np.testing.assert_allclose(got, want, atol=1e-15)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert (np.asarray(gradient)[:, np.isinf(want)] == 0).all()
        assert (np.abs(gradient).sum((0, 2))[np.isfinite(want) & (frames > 0)] > 0.5).all()
    np.testing.assert_array_equal(np.isinf(found.score), np.isinf(want))
    assert (np.asarray(found.tokens)[:, np.isinf(want)] == -1).all()


def test_arrays_without_frames_or_labels():
    labels, label_mask = np.array([[1, 1], [1, 1]]), np.array([[False, True], [False, False]])

    @jax.jit
    def run(some, nothing, none):
        def losses(*arguments, **options):
            return ctc.loss(*arguments, **options).sum(), ctc.loss(*arguments, **options)

        return (
            jax.grad(losses, has_aux=True)(some, none),
            jax.grad(losses, has_aux=True)(nothing, labels, label_mask=label_mask),
            ctc.align(some, none),
            ctc.align(nothing, labels, label_mask=label_mask),
            ctc.greedy(nothing),
        )

    short, empty, blanks, aligned, greedy = run(np.full((2, 2, 3), -1.0), np.zeros((0, 2, 3)), np.zeros((0, 2), int))
    assert short[1].tolist() == [2, 2]
    assert short[0].tolist() == [[[-1, 0, 0]] * 2] * 2
    assert empty[1].tolist() == [0, np.inf]
    assert empty[0].shape == (0, 2, 3)
    assert (blanks.tokens.tolist(), blanks.positions.tolist()) == ([[0, 0]] * 2, [[-1, -1]] * 2)
    assert (aligned.tokens.shape, aligned.positions.shape, aligned.score.tolist()) == ((0, 2), (0, 2), [0, -np.inf])
    assert (greedy.labels.shape, greedy.lengths.tolist(), greedy.score.tolist()) == ((0, 2), [0, 0], [0, 0])


def test_labels_of_narrow_integers():
    log_probs = jnp.log(jnp.full((4, 300), 1 / 300))
    kinds = (jnp.int32, jnp.int8, jnp.uint8, jnp.uint32)
    want, *got = jax.jit(lambda x: [ctc.loss(x, jnp.array([5, 100], kind)) for kind in kinds])(log_probs)
    np.testing.assert_array_equal(got, [want] * 3)
    assert np.isfinite(want)
    assert jnp.isinf(loss(log_probs, jnp.array([5, -100], jnp.int8), blank=299))


@pytest.mark.learn
def test_any_batch_axes_vmap_and_narrow_floats():
    generator = np.random.default_rng(6)
    log_probs = by_hand.log_softmax(generator.normal(0, 2, (T, 2, 3, V))).astype(np.float32)
    mask, labels = generator.random((T, 2, 3)) < 0.8, generator.integers(1, V, (2, 2, 3))
    label_mask = generator.random((2, 2, 3)) < 0.7
    arguments = (log_probs, labels, mask, label_mask)

    @jax.jit
    def run(log_probs, labels, mask, label_mask):
        options = {"mask": mask, "label_mask": label_mask}
        gradient = jax.grad(lambda x: total_loss(x, labels, **options)[0])(log_probs)
        results = (
            ctc.loss(log_probs, labels, **options),
            *ctc.align(log_probs, labels, **options),
            *ctc.greedy(log_probs, mask=mask),
        )
        return results, gradient

    want, d_want = run(*arguments)
    got, d_got = jax.vmap(jax.vmap(run, 1), 1)(*arguments)  # rows without a batch, which leads in what comes out
    for one, other in zip(want, got, strict=True):
        np.testing.assert_allclose(one if other.ndim == 2 else np.moveaxis(one, 0, -1), other, rtol=1e-6)
    np.testing.assert_allclose(np.moveaxis(d_want, 0, 2), d_got, atol=1e-6)
    narrow = jnp.asarray(log_probs, jnp.bfloat16)
    (_, losses), gradient = value_and_gradient(narrow, labels, mask=mask, label_mask=label_mask)
    assert (losses.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(losses, run(np.asarray(narrow, np.float32), *arguments[1:])[0][0], rtol=1e-6)


@pytest.mark.learn
def test_long_rows_in_float32_are_those_of_float64():
    T, B, V, L = 10_000, 3, 5, 60
    generator = np.random.default_rng(7)
    log_probs = by_hand.log_softmax(generator.normal(0, 1, (T, B, V)))
    labels = generator.integers(1, V, (L, B))
    mask = np.arange(T)[:, None] < [T, T // 3, 7]  # the last has too few frames
    (_, narrow), d_narrow = value_and_gradient(log_probs.astype(np.float32), labels, mask=mask)
    with jax.enable_x64(True):
        (_, wide), d_wide = value_and_gradient(log_probs, labels, mask=mask)
        _, score = jax.jit(lambda *a: ctc.align(*a, mask=mask))(log_probs, labels)[1:]
        wide, d_wide, score = np.array(wide), np.array(d_wide), np.array(score)
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)
    np.testing.assert_allclose(d_narrow, d_wide, atol=2e-3)
    np.testing.assert_allclose(d_wide.sum(-1)[:, :2], -mask[:, :2].astype(float), atol=1e-9)  # a frame says one thing
    assert np.isinf(narrow[2])
    assert (d_narrow[:, 2] == 0).all()
    assert (-wide[:2] > score[:2]).all()


LOG_PROBS, LABELS = np.zeros((4, 2, 3), np.float32), np.ones((2, 2), np.int32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ctc.loss(LOG_PROBS.astype(int), LABELS),
            TypeError,
            r"`log_probs` must be floating \[T, B, V\]; got int",
        ),
        (
            lambda: ctc.loss(LOG_PROBS[:, 0, 0], LABELS),
            ValueError,
            r"`log_probs` must be \[T, B, V\], with at least the",
        ),
        (lambda: ctc.loss(untyped([0.0]), LABELS), TypeError, r"`log_probs` must be an array \[T, B, V\]; got list"),
        (lambda: ctc.loss(LOG_PROBS, LABELS.astype(float)), TypeError, r"`labels` must be int \[L, B\]; got float"),
        (
            lambda: ctc.loss(LOG_PROBS, LABELS[:, 0]),
            ValueError,
            r"`labels` must be .* batch \(2,\) of `log_probs`; got",
        ),
        (lambda: ctc.loss(LOG_PROBS, np.ones((2, 5), int)), ValueError, "`labels` must be .* you pass batch-major?"),
        (lambda: ctc.loss(LOG_PROBS, LABELS, mask=np.ones((2, 4), bool)), ValueError, "`mask` must be .* batch-major?"),
        (lambda: ctc.loss(LOG_PROBS, LABELS, label_mask=LABELS), TypeError, r"`label_mask` must be bool \[L, B\]"),
        (lambda: ctc.loss(LOG_PROBS, LABELS, blank=3), ValueError, "`blank` must be one of the V = 3 .* 0 to 2; got 3"),
        (lambda: ctc.align(LOG_PROBS, LABELS, blank=-1), ValueError, "`blank` must be an int, 0 or more; got -1"),
        (lambda: ctc.greedy(LOG_PROBS, blank=untyped(1.5)), TypeError, "`blank` must be an int, 0 or more; got 1.5"),
        (lambda: ctc.collapse(LOG_PROBS), TypeError, r"`tokens` must be int \[T, B\]; got float32"),
        (lambda: ctc.collapse(LABELS, mask=LABELS), TypeError, r"`mask` must be bool \[T, B\]"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
