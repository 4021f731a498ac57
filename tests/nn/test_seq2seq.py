"""Sequence to sequence: one probability by teaching, by steps and by enumeration; padding; what may be put together."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import decoding, nn
from jaxseq.train import losses
from tests.nn.drawn import drawn

D, SOURCE, V, START, END = 4, 6, 4, 0, 3
IDS = {"source_vocabulary": SOURCE, "target_vocabulary": V, "features": D, "start": START, "end": END}


def recurrent(**options):
    def make(rngs):
        encoder = jaxseq.bidirectional(jaxseq.gru(3))
        return nn.Seq2Seq(encoder, jaxseq.lstm(5), **IDS, **options, rngs=rngs)

    return make


def transformer(rngs):
    shape = {"heads": 2, "rngs": rngs}
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
SOURCE_MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 0]], bool)
TARGETS = np.array([[1, 2, 1], [2, 0, 0], [0, 1, 0]])
TARGET_MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0]], bool)
MASKS = {"source_mask": SOURCE_MASK, "target_mask": TARGET_MASK}


@functools.cache
def model(name):
    return drawn(MODELS[name], scale=0.7)


def by_steps(name, source, target):
    """The log-probability of a target and its end, one step at a time, of one row without padding."""
    made = model(name)
    carry, total = made.encode(source[None]), 0.0
    for token, said in zip([START, *target], [*target, END], strict=True):
        carry, logits = step(name)(carry, jnp.array([token]))
        total += jax.nn.log_softmax(logits)[0, said]
    return total


@functools.cache
def step(name):
    return jax.jit(model(name).step)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_of_the_steps_and_padding_is_not_there(name):
    made = model(name)
    run = jax.jit(lambda source, target: made.loss(source, target, **MASKS))
    got = run(np.where(SOURCE_MASK, SOURCES, -9), np.where(TARGET_MASK, TARGETS, 99))
    for b, loss in enumerate(got):
        want = -by_steps(name, SOURCES[b, SOURCE_MASK[b]], TARGETS[b, TARGET_MASK[b]].tolist())
        np.testing.assert_allclose(loss, want, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_those_of_the_steps_and_see_no_future(name):
    made, source, target = model(name), SOURCES[:1], np.array([[1, 2, 1]])
    whole = jax.jit(lambda target: made(source, target))
    carry, logits = made.encode(source), []
    for token in [START, *target[0].tolist()]:
        carry, after = step(name)(carry, jnp.array([token]))
        logits.append(after)
    np.testing.assert_allclose(jnp.stack(logits, 1), whole(target), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(whole(np.array([[1, 2, 0]]))[:, :3], whole(target)[:, :3])


@pytest.mark.parametrize("kernel", [jaxseq.kernels.bptt, jaxseq.kernels.remat(2)], ids=["bptt", "remat"])
@pytest.mark.parametrize("name", ["plain", "general_fed"])
def test_every_kernel_gives_the_same_loss_and_gradients(name, kernel):
    def run(kernel):
        encoder = jaxseq.bidirectional(jaxseq.gru(3))
        attention = {"attention": None} if name == "plain" else {"attention": "general", "input_feeding": True}
        make = functools.partial(nn.Seq2Seq, encoder, jaxseq.lstm(5), **IDS, **attention, kernel=kernel)
        graph, params = nnx.split(drawn(make, scale=0.7))
        return jax.jit(jax.value_and_grad(lambda p: nnx.merge(graph, p).loss(SOURCES, TARGETS, **MASKS).sum()))(params)

    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2e-5), run(kernel), run(jaxseq.kernels.scan)
    )


def test_smoothing_spreads_a_share_of_what_is_taught():
    made = model("additive")
    logits, outputs = made(SOURCES, TARGETS, **MASKS), np.array([[1, 2, 1, END], [2, END, 0, 0], [1, END, 0, 0]])
    real = np.arange(4) <= TARGET_MASK.sum(1)[:, None]
    want = losses.cross_entropy(logits, outputs, smoothing=0.3, mask=real).sum(-1)
    np.testing.assert_allclose(made.loss(SOURCES, TARGETS, **MASKS, smoothing=0.3), want, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`smoothing` must be a rate in \[0, 1\); got 1"):
        made.loss(SOURCES, TARGETS, smoothing=1)


@pytest.mark.parametrize("name", ["additive", "general_fed", "transformer"])
def test_generation_is_the_best_of_all_targets(name):
    made = model(name)
    wide = functools.partial(decoding.beam_search, size=40)
    found = jax.jit(lambda source: made.generate(source, 3, source_mask=SOURCE_MASK, decode=wide))(SOURCES)
    assert found.tokens.shape == (3, 3, 40)
    targets = [t for n in range(3) for t in itertools.product([0, 1, 2], repeat=n)]
    padded = np.array([[*t, *[0] * (2 - len(t))] for t in targets])
    mask = np.array([[1] * len(t) + [0] * (2 - len(t)) for t in targets], bool)
    many = jax.jit(jax.vmap(lambda source, source_mask: made.loss(
        jnp.broadcast_to(source, (len(targets), 4)), padded,
        source_mask=jnp.broadcast_to(source_mask, (len(targets), 4)), target_mask=mask,
    )))(SOURCES, SOURCE_MASK)  # fmt: skip
    for b in range(3):
        ended = {t: -loss for t, loss in zip(targets, many[b], strict=True)}
        for k in range(40):
            tokens = found.tokens[b, : found.lengths[b, k], k].tolist()
            if tokens and tokens[-1] == END:
                np.testing.assert_allclose(found.scores[b, k], ended.pop(tuple(tokens[:-1])), rtol=1e-4)
        assert not ended


def test_generation_by_greedy_and_by_draws():
    made = model("additive")
    one = made.generate(SOURCES, 5, source_mask=SOURCE_MASK)
    again = made.generate(SOURCES, 5, source_mask=SOURCE_MASK, decode=functools.partial(decoding.beam_search, size=1))
    np.testing.assert_array_equal(one.tokens, again.tokens[..., 0])
    sampler = functools.partial(decoding.sample, jax.random.key(0), top_k=1)
    np.testing.assert_array_equal(one.tokens, made.generate(SOURCES, 5, source_mask=SOURCE_MASK, decode=sampler).tokens)


@pytest.mark.parametrize("name", ["additive", "general_fed"])
def test_alignments_are_weights_over_the_real_source(name):
    weights = model(name).alignments(SOURCES, TARGETS, **MASKS)
    assert weights.shape == (3, 4, 4)
    real = np.arange(4) <= TARGET_MASK.sum(1)[:, None]
    np.testing.assert_allclose(np.asarray(weights.sum(-1))[real], 1, rtol=1e-5)
    assert np.all(np.asarray(weights)[np.broadcast_to(~SOURCE_MASK[:, None], weights.shape)] == 0)


def test_scheduled_sampling_feeds_what_the_model_says():
    """Of a model that is sure of itself: never fed it is the loss, always fed it is the loss along what it says."""
    made = drawn(MODELS["additive"], scale=3.0)
    key = jax.random.key(0)
    options = {**MASKS, "key": key}
    never = made.loss(SOURCES, TARGETS, **options, sampled=jnp.asarray(0.0))
    np.testing.assert_allclose(never, made.loss(SOURCES, TARGETS, **MASKS), rtol=1e-5)
    some = made.loss(SOURCES, TARGETS, **options, sampled=0.9)
    assert np.any(np.abs(some - never) > 1e-3)
    assert np.all(np.isfinite(jax.grad(lambda x: made.loss(SOURCES, TARGETS, **options, sampled=x).sum())(0.5)))
    with pytest.raises(TypeError, match=r"`key` must be a jax\.random\.key, to draw by"):
        made.loss(SOURCES, TARGETS, **MASKS, sampled=0.5)


def test_what_the_encoder_says_is_added_to_what_is_told_by_its_name():
    """An sLSTM's normaliser and stabiliser keep their start, a learned carry is still learned, a counter counts."""
    made = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), jaxseq.slstm(4), **IDS, rngs=rngs))
    start, initial = made.encode(SOURCES).decoder, made.decoder.layer.initial_carry((3,))
    assert np.all(np.asarray(start.h) != initial.h)
    np.testing.assert_array_equal(start.n, initial.n)
    np.testing.assert_array_equal(start.m, initial.m)
    learned = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), jaxseq.learned_carry(jaxseq.gru(4)), **IDS, rngs=rngs))
    gradient = nnx.grad(lambda model: jnp.sum(model.loss(SOURCES, TARGETS)))(learned)
    assert np.all(np.asarray(gradient.decoder.layer.params.carry[...]) != 0)
    counting = jaxseq.Cell(
        size=4,
        init=lambda key, in_size, dtype=None: {"w": jax.random.normal(key, (in_size, 4), dtype)},
        carry=lambda params, batch_shape=(): (jnp.zeros((*batch_shape, 4)), jnp.full(batch_shape, 7)),
        project=lambda params, xs: xs @ params["w"],
        step=lambda params, carry, u: ((jnp.tanh(carry[0] + u), carry[1] + 1), carry[0]),
    )
    counted = drawn(lambda rngs: nn.Seq2Seq(jaxseq.gru(3), counting, **IDS, rngs=rngs))
    assert counted.step(counted.encode(SOURCES), jnp.zeros(3, int))[0].decoder[1].tolist() == [8, 8, 8]
    narrow = nn.Seq2Seq(jaxseq.gru(3), nn.TCN(D, [4], width=1, rngs=RNGS), **IDS, rngs=RNGS)  # an empty carry
    assert narrow.loss(SOURCES, TARGETS).shape == (3,)


def test_a_decoder_without_room_learns_and_does_not_write():
    encoder = nn.Transformer(D, D, layers=1, heads=2, causal=False, rngs=RNGS)
    decoder = nn.Transformer(D, D, layers=1, heads=2, causal=True, memory_features=D, rngs=RNGS)
    made = nn.Seq2Seq(encoder, decoder, **IDS, rngs=RNGS)
    assert np.all(np.isfinite(made.loss(SOURCES, TARGETS)))
    with pytest.raises(ValueError, match="only a layer with causal=True and a `max_length` has a carry"):
        made.generate(SOURCES, 3)


@pytest.mark.parametrize("name", ["dropped", "transformer"])
def test_a_key_drops_out_and_the_dtype_is_the_asked_one(name):
    net, options = jaxseq.dropout(jaxseq.gru(3), inputs=0.5), {"param_dtype": jnp.bfloat16, "rngs": nnx.Rngs(0)}
    shape = {"layers": 1, "heads": 2, "dropout": 0.5, **options}
    nets = {"dropped": (net, net), "transformer": (
        nn.Transformer(D, D, causal=False, **shape), nn.Transformer(D, 3, **{**shape, "heads": 1, "positions": None},
        causal=True, memory_features=D)
    )}[name]  # fmt: skip
    kernel = jaxseq.kernels.scan if name == "dropped" else None
    made = nn.Seq2Seq(*nets, **IDS, kernel=kernel, **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(made))} == {jnp.dtype("bfloat16")}
    loss = jax.jit(lambda key: made.loss(SOURCES, TARGETS, key=key))
    plain, one, again, other = loss(None), *(loss(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one != plain)
    assert plain.dtype == jnp.float32


def test_ids_past_32_bits_are_nan(x64):
    made = nn.Seq2Seq(jaxseq.gru(3), jaxseq.gru(3), **IDS, rngs=nnx.Rngs(0))
    wrong = jnp.asarray([[1, 2**32 + 1]])
    assert np.isnan(made.loss(SOURCES[:1], wrong)[0])
    assert np.isnan(made.loss(SOURCES[:1], -jnp.asarray([[1, 1]]))[0])


@pytest.mark.parametrize("name", ["general_fed", "transformer"])
def test_gradients_reach_every_param_and_none_is_of_padding(name):
    graph, params = nnx.split(model(name))

    @jax.jit
    def gradients(source, target):
        return jax.grad(lambda params: jnp.sum(nnx.merge(graph, params).loss(source, target, **MASKS)))(params)

    got = gradients(np.where(SOURCE_MASK, SOURCES, -9), np.where(TARGET_MASK, TARGETS, 99))
    want = gradients(SOURCES, TARGETS)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    still = [path for path, leaf in jax.tree_util.tree_leaves_with_path(got) if not np.any(leaf != 0)]
    assert all("key" in str(path) and "bias" in str(path) for path in still), still  # a key's bias moves all scores


RNGS = nnx.Rngs(0)


def make(encoder=None, decoder=None, **options):
    encoder, decoder = encoder or jaxseq.gru(3), decoder or jaxseq.gru(3)
    return nn.Seq2Seq(encoder, decoder, **{**IDS, **options}, rngs=RNGS)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda: make(start=V), ValueError, "`start` must be one of the V = 4 ids of the target, 0 to 3; got 4"),
        (lambda: make(end=-1), ValueError, "`end` must be an int, 0 or more; got -1"),
        (lambda: make(attention=None, input_feeding=True), ValueError, "there is no `attention`"),
        (lambda: make(attention="cosine"), ValueError, "`attention` must be 'additive' or"),
        (lambda: make(decoder=jaxseq.bidirectional(jaxseq.gru(2))), ValueError, "`decoder` must be causal"),
        (
            lambda: make(decoder=nn.Transformer(D, D, layers=1, heads=2, causal=True, rngs=RNGS)),
            ValueError,
            "a Transformer as `decoder` must have memory_features=3",
        ),
        (
            lambda: model("transformer").loss(SOURCES, np.ones((3, 9), int)),
            ValueError,
            "`target` is too long for the decoder: start and ids take 10 steps, its `max_length` is 9",
        ),
        (lambda: model("transformer").generate(SOURCES, 10), ValueError, "`max_length` is too long for the decoder"),
        (lambda: model("plain").alignments(SOURCES, TARGETS), ValueError, "only a recurrent decoder with attention"),
        (
            lambda: make(nn.Transformer(D, D, layers=1, heads=2, causal=False, memory_features=3, rngs=RNGS)),
            ValueError,
            "`encoder` reads the source alone",
        ),
        (lambda: make(decoder=3, input_feeding=True), TypeError, "Cell"),
        (
            lambda: model("plain").loss(SOURCES, TARGETS[:2]),
            ValueError,
            r"`source` and `target` must have the same batch; got \(3,\) and \(2,\)",
        ),
        (lambda: model("plain").loss(SOURCES, TARGETS, key=3), TypeError, "`key` must be a jax.random.key or None"),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, key=jax.random.key(0), sampled=2),
            ValueError,
            r"`sampled` must be a probability in \[0, 1\]; got 2",
        ),
        (
            lambda: model("plain").loss(SOURCES, TARGETS, sampled="a"),
            TypeError,
            r"`sampled` must be a probability, a number in \[0, 1\]; got 'a'",
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
