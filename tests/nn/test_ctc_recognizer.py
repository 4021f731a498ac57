"""The recogniser is its parts in turn, batch-major; it learns; padding reaches nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn
from jaxseq.structured import ctc
from tests import zoo
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, D, V, L = 4, 12, 3, 5, 3
XS = np.random.default_rng(1).normal(size=(B, T, D)).astype(np.float32)
IDS = np.random.default_rng(0).integers(0, 7, (B, T))
MASK = np.arange(T) < np.array([12, 9, 7, 0])[:, None]
LABELS = np.array([[1, 2, 3], [4, 4, 99], [-5, 1, 2], [7, 7, 7]])
LABEL_MASK = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
CELL = jaxseq.dropout(jaxseq.bidirectional(jaxseq.rnn(4)), inputs=0.3)
OPTIONS = {"mask": MASK, "label_mask": LABEL_MASK}


def test_it_is_its_parts_in_turn():
    model = drawn(nn.CTCRecognizer, CELL, D, V, blank=2)
    of_ids = drawn(nn.CTCRecognizer, CELL, D, V, vocabulary=7)

    def bigrams(carry, tokens):
        return carry + 1, jnp.cos(jnp.arange(V) * tokens[:, None] + carry[:, None])

    search = {
        "language_model": bigrams,
        "carry": np.zeros(B, np.float32),
        "weight": 0.5,
        "bonus": 0.2,
        "expand": 3,
        "start": 1,
    }

    @nnx.jit
    def run(model, of_ids, xs):
        log_probs = model(xs, mask=MASK)
        logits = model.head(model.recurrent(xs, mask=MASK))
        frames = jnp.moveaxis(log_probs, 1, 0)
        got = (
            log_probs,
            model.loss(xs, LABELS, **OPTIONS),
            model.greedy(xs, mask=MASK),
            model.beam_search(xs, 4, mask=MASK, **search),
            of_ids(IDS),
        )
        greedy = ctc.greedy(frames, mask=MASK.T, blank=2)
        beam = ctc.beam_search(frames, 4, mask=MASK.T, blank=2, **search)
        embedded = of_ids.embedding.embedding[...][IDS]
        want = (
            jax.nn.log_softmax(logits),
            ctc.loss(frames, LABELS.T, mask=MASK.T, label_mask=LABEL_MASK.T, blank=2),
            greedy._replace(labels=greedy.labels.T),
            beam._replace(labels=jnp.moveaxis(beam.labels, 0, 1)),
            jax.nn.log_softmax(of_ids.head(of_ids.recurrent(embedded))),
        )
        return got, want

    got, want = jax.tree.map(np.asarray, run(model, of_ids, np.where(MASK[..., None], XS, np.nan)))
    zoo.assert_close(got, want, 1e-5)
    assert got[1][3] == 0
    assert got[2].lengths[3] == 0
    assert got[3].labels.shape == (B, T, 4)


@pytest.mark.learn
def test_it_learns_and_padding_reaches_neither_the_loss_nor_a_gradient():
    graph, state = nnx.split(drawn(nn.CTCRecognizer, CELL, D, V))

    @jax.jit
    def train(state, xs, key=None):
        def loss(state):
            losses = nnx.merge(graph, state).loss(xs, LABELS, **OPTIONS, key=key)
            return losses.sum(), losses

        (_, losses), gradient = jax.value_and_grad(loss, has_aux=True)(state)
        return jax.tree.map(lambda p, d: p - 0.03 * d, state, gradient), losses, gradient

    dirty = np.where(MASK[..., None], XS, np.nan)
    after, *rest = train(state, dirty)
    first, gradient = jax.tree.map(np.asarray, rest)
    zoo.assert_close(train(state, XS)[1:], (first, gradient), 1e-5)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    noisy = train(state, XS, jax.random.key(0))[1]
    assert np.abs(np.asarray(noisy) - first)[:3].min() > 1e-4
    after, losses, _ = train(after, dirty)
    for _ in range(149):
        after, losses, _ = train(after, dirty)
    assert np.asarray(losses).sum() < 0.3 * first.sum()
    greedy = jax.jit(lambda state, xs: nnx.merge(graph, state).greedy(xs, mask=MASK))
    found = jax.tree.map(np.asarray, greedy(after, dirty))
    want = [LABELS[i][LABEL_MASK[i]].tolist() for i in range(B)]
    assert [row[:n].tolist() for row, n in zip(found.labels, found.lengths, strict=True)] == want


def test_the_dtype_and_the_kernel_are_passed_on():
    def run(xs):
        model = nn.CTCRecognizer(jaxseq.rnn(4), D, V, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        return model(xs), [leaf[...] for _, leaf in nnx.to_flat_state(nnx.state(model))]

    log_probs, params = jax.eval_shape(run, jnp.ones((2, 3, D), jnp.bfloat16))
    assert log_probs.dtype == jnp.float32
    assert {leaf.dtype for leaf in params} == {jnp.dtype(jnp.bfloat16)}
    model = drawn(nn.CTCRecognizer, jaxseq.rnn(4), D, V, kernel=jaxseq.kernels.scan)
    assert untyped(model.recurrent).kernel is jaxseq.kernels.scan


def recogniser(**options):
    return drawn(nn.CTCRecognizer, jaxseq.rnn(4), D, V, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: drawn(nn.CTCRecognizer, jaxseq.rnn(4), D, 0), ValueError, "`labels` must be a positive int; got 0"),
        (lambda: recogniser(blank=V), ValueError, "`blank` must be one of the V = 5 `labels`, 0 to 4; got 5"),
        (lambda: recogniser(blank=0.5), TypeError, "`blank` must be an int, 0 or more; got 0.5"),
        (lambda: recogniser().loss(XS, LABELS + 0.5), TypeError, r"`labels` must be int \[B, L\]; got float"),
        (lambda: recogniser().loss(XS, LABELS.T), ValueError, r"`labels` must be int \[B, L\], with the batch \(4,\)"),
        (lambda: recogniser().loss(XS, LABELS, mask=MASK.T), ValueError, r"`mask` must be .* you pass time-major\?"),
        (lambda: recogniser().loss(XS, LABELS, label_mask=LABELS), TypeError, r"`label_mask` must be bool \[B, L\]"),
        (lambda: recogniser().beam_search(XS, 0), ValueError, "`size` must be a positive int; got 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(call)
