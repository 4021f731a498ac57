"""Sequence to sequence: one probability by teaching, by steps and by enumeration; padding; what may be put together."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import decoding, nn
from jaxseq.train import losses
from tests.nn.drawn import drawn
from tests.untyped import untyped

D, SOURCE, V, START, END = 4, 6, 4, 0, 3
IDS: dict[str, Any] = {"source_vocabulary": SOURCE, "target_vocabulary": V, "features": D, "start": START, "end": END}


def recurrent(**options):
    def make(rngs):
        encoder = jaxseq.bidirectional(jaxseq.gru(3))
        return nn.Seq2Seq(encoder, jaxseq.lstm(5), **IDS, **options, rngs=rngs)

    return make


def transformer(rngs):
    shape: dict[str, Any] = {"heads": 2, "rngs": rngs}
    encoder = nn.Transformer(D, D, layers=1, causal=False, **shape)
    decoder = nn.Transformer(D, D, layers=2, causal=True, max_length=9, memory_features=D, **shape)
    return nn.Seq2Seq(encoder, decoder, **IDS, rngs=rngs)


def convolution(rngs):
    return nn.Seq2Seq(nn.TCN(D, [3], rngs=rngs), jaxseq.stack(jaxseq.gru(4), jaxseq.rnn(4)), **IDS, rngs=rngs)


MODELS = {
    "plain": recurrent(attention=None),
    "additive": recurrent(),
    "general_fed": recurrent(attention="general", input_feeding=True),
    "transformer": transformer,
    "convolution": convolution,
}
SOURCES = np.array([[5, 2, 1, 4], [1, 1, 3, 0], [2, 0, 4, 0]])
SOURCE_MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 0]], bool)
TARGETS = np.array([[1, 2, 1], [2, 0, 0], [0, 1, 0]])
TARGET_MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]], bool)
MASKS: dict[str, Any] = {"source_mask": SOURCE_MASK, "target_mask": TARGET_MASK}


@functools.cache
def model(name):
    return drawn(MODELS[name], scale=0.7)


@functools.cache
def steps(name):
    """The logits after each of the tokens, one step at a time."""
    made = model(name)
    return jax.jit(lambda source, tokens: jax.lax.scan(made.step, made.encode(source), tokens.T)[1])


def by_steps(name, source, target):
    """The log-probability of a target and its end, of one row without padding."""
    tokens, says = np.zeros((1, 4), int), [*target, END]
    tokens[0, 1 : len(says)] = target
    logits = np.asarray(steps(name)(source[None], tokens), np.float64)[: len(says), 0]
    return (logits[np.arange(len(says)), says] - np.log(np.exp(logits).sum(-1))).sum()


@pytest.mark.some(1)
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_of_the_steps_and_padding_is_not_there(name):
    made = model(name)
    run = jax.jit(lambda source, target: made.loss(source, target, **MASKS))
    got = run(np.where(SOURCE_MASK, SOURCES, -9), np.where(TARGET_MASK, TARGETS, 99))
    for b, loss in enumerate(np.asarray(got)):
        want = -by_steps(name, SOURCES[b, SOURCE_MASK[b]], TARGETS[b, TARGET_MASK[b]].tolist())
        np.testing.assert_allclose(loss, want, rtol=1e-4)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_those_of_the_steps_and_see_no_future(name):
    made, source, target = model(name), SOURCES[:1], np.array([[1, 2, 1]])
    run = jax.jit(lambda target: made(source, target))
    whole, other = np.asarray(run(target)), np.asarray(run(np.array([[1, 2, 0]])))
    logits = steps(name)(source, np.array([[START, 1, 2, 1]]))
    np.testing.assert_allclose(np.swapaxes(logits, 0, 1), whole, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(other[:, :3], whole[:, :3])


@functools.cache
def loss_and_gradients(name, kernel):
    encoder = jaxseq.bidirectional(jaxseq.gru(3))
    attention = {"attention": None} if name == "plain" else {"attention": "general", "input_feeding": True}
    make = functools.partial(nn.Seq2Seq, encoder, jaxseq.lstm(5), **IDS, **attention, kernel=kernel)
    graph, params = nnx.split(drawn(make, scale=0.7))
    return jax.jit(jax.value_and_grad(lambda p: nnx.merge(graph, p).loss(SOURCES, TARGETS, **MASKS).sum()))(params)


@pytest.mark.learn
@pytest.mark.parametrize("kernel", [jaxseq.kernels.bptt, jaxseq.kernels.remat(2)], ids=["bptt", "remat"])
@pytest.mark.parametrize("name", ["plain", "general_fed"])
def test_every_kernel_gives_the_same_loss_and_gradients(name, kernel):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2e-5),
        loss_and_gradients(name, kernel),
        loss_and_gradients(name, jaxseq.kernels.scan),
    )


def test_smoothing_spreads_a_share_of_what_is_taught():
    made = model("additive")
    outputs = np.array([[1, 2, 1, END], [2, END, 0, 0], [1, END, 0, 0]])
    real = np.arange(4) <= TARGET_MASK.sum(1)[:, None]

    @jax.jit
    def both(source, target):
        logits = made(source, target, **MASKS)
        want = losses.cross_entropy(logits, outputs, smoothing=0.3, mask=real).sum(-1)
        return made.loss(source, target, **MASKS, smoothing=0.3), want

    np.testing.assert_allclose(*both(SOURCES, TARGETS), rtol=1e-5)
    with pytest.raises(ValueError, match=r"`smoothing` must be a rate in \[0, 1\); got 1"):
        jax.eval_shape(lambda source: made.loss(source, TARGETS, smoothing=1), SOURCES)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["additive", "general_fed", "transformer"])
def test_generation_is_the_best_of_all_targets(name):
    made = model(name)
    wide = functools.partial(decoding.beam_search, size=40)
    found = jax.jit(lambda source: made.generate(source, 3, source_mask=SOURCE_MASK, decode=wide))(SOURCES)
    found = jax.tree.map(np.asarray, found)
    assert found.tokens.shape == (3, 3, 40)
    targets = [t for n in range(3) for t in itertools.product([0, 1, 2], repeat=n)]
    padded = np.array([[*t, *[0] * (2 - len(t))] for t in targets])
    mask = np.array([[1] * len(t) + [0] * (2 - len(t)) for t in targets], bool)
    run = jax.jit(jax.vmap(lambda source, source_mask: made.loss(
        jnp.broadcast_to(source, (len(targets), 4)), padded,
        source_mask=jnp.broadcast_to(source_mask, (len(targets), 4)), target_mask=mask,
    )))  # fmt: skip
    many = np.asarray(run(SOURCES, SOURCE_MASK))
    for b in range(3):
        ended = {t: -loss for t, loss in zip(targets, many[b], strict=True)}
        for k in range(40):
            tokens = found.tokens[b, : found.lengths[b, k], k].tolist()
            if tokens and tokens[-1] == END:
                np.testing.assert_allclose(found.scores[b, k], ended.pop(tuple(tokens[:-1])), rtol=1e-4)
        assert not ended


def test_generation_by_greedy_and_by_draws():
    made = model("additive")
    narrow = functools.partial(decoding.beam_search, size=1)
    sampler = functools.partial(decoding.sample, jax.random.key(0), top_k=1)

    @jax.jit
    def run(source):
        generate = functools.partial(made.generate, source, 5, source_mask=SOURCE_MASK)
        return generate().tokens, generate(decode=narrow).tokens[..., 0], generate(decode=sampler).tokens

    one, again, by_draws = run(SOURCES)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, by_draws)


@pytest.mark.parametrize("name", ["additive", "general_fed"])
def test_alignments_are_weights_over_the_real_source(name):
    made = model(name)
    weights = np.asarray(jax.jit(lambda source, target: made.alignments(source, target, **MASKS))(SOURCES, TARGETS))
    assert weights.shape == (3, 4, 4)
    real = np.arange(4) <= TARGET_MASK.sum(1)[:, None]
    np.testing.assert_allclose(weights.sum(-1)[real], 1, rtol=1e-5)
    assert np.all(weights[np.broadcast_to(~SOURCE_MASK[:, None], weights.shape)] == 0)


def test_scheduled_sampling_feeds_what_the_model_says():
    """Of a model that is sure of itself: never fed it is the loss, always fed it is the loss along what it says."""
    made = drawn(MODELS["additive"], scale=3.0)

    @jax.jit
    def run(source, target, never, half, key):
        loss = functools.partial(made.loss, source, target, **MASKS)
        slope = jax.grad(lambda x: loss(key=key, sampled=x).sum())(half)
        return loss(), loss(key=key, sampled=never), loss(key=key, sampled=0.9), slope

    told, never, some, slope = map(np.asarray, run(SOURCES, TARGETS, 0.0, 0.5, jax.random.key(0)))
    np.testing.assert_allclose(never, told, rtol=1e-5)
    assert np.any(np.abs(some - never) > 1e-3)
    assert np.all(np.isfinite(slope))
    with pytest.raises(TypeError, match=r"`key` must be a jax\.random\.key, to draw by"):
        made.loss(SOURCES, TARGETS, **MASKS, sampled=0.5)


def test_what_the_encoder_says_is_added_to_what_is_told_by_its_name():
    """An sLSTM's normaliser and stabiliser keep their start, a learned carry is still learned, a counter counts."""
    made = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), jaxseq.slstm(4), **IDS, rngs=rngs))
    start, initial = jax.jit(lambda source: (made.encode(source).decoder, made.decoder.layer.initial_carry((3,))))(
        SOURCES
    )
    assert np.all(np.asarray(start.h) != initial.h)
    np.testing.assert_array_equal(start.n, initial.n)
    np.testing.assert_array_equal(start.m, initial.m)
    learned = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), jaxseq.learned_carry(jaxseq.gru(4)), **IDS, rngs=rngs))
    graph, params = nnx.split(learned)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(nnx.merge(graph, params).loss(SOURCES, TARGETS))))(params)
    assert np.all(np.asarray(gradient.decoder.layer.params.carry[...]) != 0)
    counting = jaxseq.Cell(
        size=4,
        init=lambda key, in_size, dtype=None: {"w": jax.random.normal(key, (in_size, 4), dtype)},
        carry=lambda params, batch_shape=(): (jnp.zeros((*batch_shape, 4)), jnp.full(batch_shape, 7)),
        project=lambda params, xs: xs @ params["w"],
        step=lambda params, carry, u: ((jnp.tanh(carry[0] + u), carry[1] + 1), carry[0]),
    )
    counted = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), counting, **IDS, rngs=rngs))
    after, _ = jax.jit(lambda source, token: counted.step(counted.encode(source), token))(SOURCES, np.zeros(3, int))
    assert after.decoder[1].tolist() == [8, 8, 8]

    def narrow(rngs):
        return nn.Seq2Seq(jaxseq.gru(3), nn.TCN(D, [4], width=1, rngs=rngs), **IDS, rngs=rngs)  # an empty carry

    assert jax.jit(drawn(narrow).loss)(SOURCES, TARGETS).shape == (3,)


def test_a_decoder_without_room_learns_and_does_not_write():
    def make(rngs):
        encoder = nn.Transformer(D, D, layers=1, heads=2, causal=False, rngs=rngs)
        decoder = nn.Transformer(D, D, layers=1, heads=2, causal=True, memory_features=D, rngs=rngs)
        return nn.Seq2Seq(encoder, decoder, **IDS, rngs=rngs)

    made = drawn(make)
    assert np.all(np.isfinite(jax.jit(made.loss)(SOURCES, TARGETS)))
    with pytest.raises(ValueError, match="only a layer with causal=True and a `max_length` has a carry"):
        jax.eval_shape(lambda source: made.generate(source, 3), SOURCES)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["dropped", "transformer"])
def test_a_key_drops_out_and_the_dtype_is_the_asked_one(name):
    def dropped(**options):
        net = jaxseq.dropout(jaxseq.gru(3), inputs=0.5)
        return nn.Seq2Seq(net, net, **IDS, kernel=jaxseq.kernels.scan, **options)

    def attending(**options):
        shape = {"layers": 1, "dropout": 0.5, **options}
        encoder = nn.Transformer(D, D, heads=2, causal=False, **shape)
        decoder = nn.Transformer(D, 3, heads=1, positions=None, causal=True, memory_features=D, **shape)
        return nn.Seq2Seq(encoder, decoder, **IDS, **options)

    made = drawn({"dropped": dropped, "transformer": attending}[name], param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(made))} == {jnp.dtype("bfloat16")}
    loss = jax.jit(lambda key: made.loss(SOURCES, TARGETS, key=key))
    plain, one, again, other = map(np.asarray, (loss(None), *(loss(jax.random.key(seed)) for seed in (0, 0, 1))))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one != plain)
    assert plain.dtype == jnp.float32


def test_ids_past_32_bits_are_nan(x64):
    loss = jax.jit(drawn(nn.Seq2Seq, jaxseq.gru(3), jaxseq.gru(3), **IDS).loss)
    assert np.isnan(loss(SOURCES[:1], np.array([[1, 2**32 + 1]]))[0])
    assert np.isnan(loss(SOURCES[:1], np.array([[-1, -1]]))[0])


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["general_fed", "transformer"])
def test_gradients_reach_every_param_and_none_is_of_padding(name):
    graph, params = nnx.split(model(name))

    @jax.jit
    def gradients(source, target):
        return jax.grad(lambda params: jnp.sum(nnx.merge(graph, params).loss(source, target, **MASKS)))(params)

    dirty = np.where(SOURCE_MASK, SOURCES, -9), np.where(TARGET_MASK, TARGETS, 99)
    got, want = (jax.tree.map(np.asarray, gradients(*given)) for given in (dirty, (SOURCES, TARGETS)))
    jax.tree.map(np.testing.assert_array_equal, got, want)
    still = [path for path, leaf in jax.tree_util.tree_leaves_with_path(got) if not np.any(leaf)]
    assert all("key" in str(path) and "bias" in str(path) for path in still), still  # a key's bias moves all scores


def make(encoder=None, decoder=None, **options):
    encoder, decoder = encoder or jaxseq.gru(3), decoder or jaxseq.gru(3)
    return drawn(nn.Seq2Seq, encoder, decoder, **{**IDS, **options})


def attending(**options):
    return drawn(nn.Transformer, D, D, layers=1, heads=2, **options)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: make(start=V), ValueError, "`start` must be one of the V = 4 ids of the target, 0 to 3; got 4"),
        (lambda: make(end=-1), ValueError, "`end` must be an int, 0 or more; got -1"),
        (lambda: make(attention=None, input_feeding=True), ValueError, "`input_feeding` needs `attention`"),
        (lambda: make(attention="cosine"), ValueError, "`attention` must be 'additive' or"),
        (lambda: make(decoder=jaxseq.bidirectional(jaxseq.gru(2))), ValueError, "`decoder` must be causal"),
        (
            lambda: make(decoder=attending(causal=True)),
            ValueError,
            "a Transformer as `decoder` must have memory_features=3",
        ),
        (
            lambda: jax.eval_shape(model("transformer").loss, SOURCES, np.ones((3, 9), int)),
            ValueError,
            "`target` is too long for the decoder: start and ids take 10 steps, its `max_length` is 9",
        ),
        (lambda: model("transformer").generate(SOURCES, 10), ValueError, "`max_length` is too long for the decoder"),
        (lambda: model("plain").alignments(SOURCES, TARGETS), ValueError, "only a recurrent decoder with attention"),
        (
            lambda: make(attending(causal=False, memory_features=3)),
            ValueError,
            "`encoder` must have no `memory_features`",
        ),
        (lambda: make(decoder=3, input_feeding=True), TypeError, "Cell"),
        (
            lambda: jax.eval_shape(model("plain").loss, SOURCES, TARGETS[:2]),
            ValueError,
            r"`source` and `target` must have the same batch; got \(3,\) and \(2,\)",
        ),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, key=untyped(3)),
            TypeError,
            "`key` must be a jax.random.key or None",
        ),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, key=jax.random.key(0), sampled=2),
            ValueError,
            r"`sampled` must be a probability in \[0, 1\]; got 2",
        ),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, sampled=untyped("a")),
            TypeError,
            r"`sampled` must be a probability in \[0, 1\]; got 'a'",
        ),
        (lambda: model("plain").loss(SOURCES, TARGETS * 1.0), TypeError, r"`target` must be int \[B, L\]"),
        (lambda: model("plain").loss(SOURCES * 1.0, TARGETS), TypeError, r"`source` must be int ids \[B, S\]"),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, target_mask=TARGET_MASK[:2]),
            ValueError,
            r"`target_mask` must be bool \[B, L\] = \(3, 3\)",
        ),
    ],
)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()
