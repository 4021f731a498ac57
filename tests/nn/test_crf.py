"""The field as a Flax module: the numbers of `jaxseq.structured.crf` in the other order of axes, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxseq import nn
from jaxseq.structured import crf
from tests import zoo
from tests.nn.drawn import drawn

B, T, K, V = 4, 6, 3, 11
LABELS = ["O", "B-X", "I-X"]
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6], bool)
RNG = np.random.default_rng(0)
SCORES, TAGS = RNG.normal(0, 2, (B, T, K)).astype(np.float32), RNG.integers(0, 2, (B, T))


def made(allowed=None, **options):
    return drawn(nn.CRF, K, allowed=allowed, **options)


@nnx.jit
def everything(head, scores, tags, mask):
    return (
        head.log_likelihood(scores, tags, mask=mask),
        head.decode(scores, mask=mask),
        head.marginals(scores, mask=mask),
        head.k_best(scores, 2, mask=mask),
    )


@jax.jit
def time_major(params, scores, tags, mask):
    """The same by `jaxseq.structured.crf`."""
    scores, tags, mask = jnp.moveaxis(scores, 1, 0), tags.T, mask.T
    tags_of_k, best = crf.k_best(params, scores, 2, mask=mask)
    return (
        crf.log_likelihood(params, scores, tags, mask=mask),
        crf.viterbi(params, scores, mask=mask).states.T,
        jnp.moveaxis(crf.marginals(params, scores, mask=mask), 0, 1),
        crf.Path(jnp.moveaxis(tags_of_k, 0, 1), best),
    )


@pytest.mark.some(1)
@pytest.mark.parametrize("allowed", [None, crf.bio(LABELS)], ids=["free", "BIO"])
def test_it_is_the_field_batch_major(allowed):
    head = made(allowed)
    params = crf.Params(*(param[...] for param in head.params))
    params = params if allowed is None else crf.constrain(params, allowed)
    got = everything(head, np.where(MASK[..., None], SCORES, np.nan), np.where(MASK, TAGS, -7), MASK)
    zoo.assert_close(got, time_major(params, SCORES, TAGS, MASK), 1e-6)


@pytest.mark.learn
def test_any_number_of_batch_axes():
    head = made()
    want = everything(head, SCORES, TAGS, MASK)
    two = everything(head, *(np.stack([x, x], 1) for x in (SCORES, TAGS, MASK)))
    zoo.assert_close(jax.tree.map(lambda x: np.asarray(x)[:, 1], two), want, 1e-6)
    none = everything(head, SCORES[0], TAGS[0], None)
    zoo.assert_close(none, jax.tree.map(lambda x: np.asarray(x)[0], want), 1e-6)


def test_params_are_flax_params_and_small():
    allowed = crf.bio(LABELS)
    graph, _ = nnx.split(made(allowed, param_dtype=jnp.bfloat16))
    head = nnx.merge(
        graph, jax.jit(lambda: nnx.state(nn.CRF(K, allowed=allowed, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))))()
    )
    state = nnx.state(head, nnx.Param)
    assert [leaf.shape for leaf in jax.tree.leaves(state)] == [(K,), (K,), (K, K)]  # by name
    assert all(leaf.dtype == jnp.bfloat16 and 0 < np.abs(leaf).max() < 1 for leaf in jax.tree.leaves(state))
    assert len(jax.tree.leaves(nnx.state(head))) == 3  # what is allowed is no state
    assert jax.jit(head.log_likelihood)(SCORES, TAGS).dtype == jnp.float32


@pytest.mark.learn
def test_a_tagger_learns_what_follows_what():
    """The tag of a word depends on the tag before, which a tagger that reads one word alone cannot know."""
    generator = np.random.default_rng(1)
    tags = np.zeros((64, T), int)
    for t in range(T):
        tags[:, t] = generator.integers(0, 2, 64) if t == 0 else (tags[:, t - 1] + 1) % 3
    words = np.where(np.arange(T) == 0, tags, 3)  # only the first word tells

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.words = nnx.Embed(4, K, rngs=rngs)
            self.head = nn.CRF(K, rngs=rngs)

    def loss(model):
        return -jnp.mean(model.head.log_likelihood(model.words(words), tags))

    graph, _ = nnx.split(nnx.eval_shape(lambda: Model(nnx.Rngs(0))))
    model = nnx.merge(graph, jax.jit(lambda: nnx.state(Model(nnx.Rngs(0))))())
    optimizer = nnx.Optimizer(model, optax.adam(0.3), wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    values = [float(train(model, optimizer)) for _ in range(60)]
    assert values[0] > 4
    assert values[-1] < 0.75  # log 2 for the first tag is told by its word
    np.testing.assert_array_equal(nnx.jit(lambda model: model.head.decode(model.words(words)))(model), tags)


def test_constraints_leave_finite_params_and_gradients():
    head = made(crf.bio(LABELS))
    gradients = nnx.jit(nnx.grad(lambda head: jnp.sum(head.log_likelihood(SCORES, TAGS, mask=MASK))))(head)
    *_, transition = map(np.asarray, jax.tree.leaves(gradients))  # by name
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, nnx.state(head))))
    assert transition[0, 2] == 0
    assert np.abs(transition).min(where=np.arange(9).reshape(3, 3) != 2, initial=1) > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda head: nn.CRF(0, rngs=nnx.Rngs(0)), ValueError, "`tags` must be a positive int"),
        (lambda head: made(crf.bio(["O"])), ValueError, r"`allowed.transition` must be bool \[K, K\] = \(3, 3\)"),
        (lambda head: made(np.ones((K, K), bool)), TypeError, "`allowed` must be a crf.Allowed"),
        (lambda head: head.decode(SCORES[..., :2]), ValueError, "with the K = 3 tags of this field"),
        (lambda head: head.decode(SCORES[0, 0]), ValueError, r"`scores` must be \[B, T, K\], of at least 2 axes"),
        (lambda head: head.decode(TAGS), TypeError, r"`scores` must be floating \[B, T, K\]"),
        (lambda head: head.decode(SCORES, mask=MASK.T), ValueError, r"`mask` must be bool \[B, T\].*time-major"),
        (lambda head: head.log_likelihood(SCORES, TAGS.T), ValueError, r"`tags` must be int \[B, T\] = \(4, 6\)"),
        (
            lambda head: head.log_likelihood(SCORES, TAGS > 0),
            TypeError,
            r"`tags` must be int \[B, T\]; got bool \(4, 6\)",
        ),
        (lambda head: head.k_best(SCORES, 0), ValueError, "`k` must be a positive int"),
    ],
)
def test_errors_name_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call(made())


def test_the_field_is_what_structured_takes():
    head = made(crf.bio(LABELS))
    given = np.random.default_rng(2).normal(size=(5, 4, K)).astype(np.float32)
    mask = np.arange(4) < np.array([4, 3, 2, 1, 0])[:, None]

    @jax.jit
    def run(scores, mask, key):
        field = head.field()
        tags = head.sample(key, scores, mask=mask)
        likelihood = head.log_likelihood(scores, tags, mask=mask)
        states = crf.viterbi(field, jnp.moveaxis(scores, 1, 0)).states.T
        return field.transition, states, head.decode(scores), tags, likelihood

    transition, states, decoded, tags, likelihood = map(np.asarray, run(given, mask, jax.random.key(1)))
    assert np.isneginf(transition[0, 2])
    np.testing.assert_array_equal(states, decoded)
    np.testing.assert_array_equal(tags == -1, ~mask)
    assert np.all(np.isfinite(likelihood))
