"""The ready models: what each is made of, padding, dropout, options, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn
from tests import zoo
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, D, V = 4, 6, 3, 11
RNN = jaxseq.dropout(jaxseq.rnn(4), inputs=0.3, outputs=0.3)
BOTH = jaxseq.bidirectional(jaxseq.rnn(2))
XS = np.random.default_rng(2).normal(size=(B, T, D)).astype(np.float32)
IDS = np.random.default_rng(0).integers(0, V, (B, T))
MASK = np.arange(T) < np.array([6, 3, 1, 0])[:, None]


run = nnx.jit(lambda model, xs, carry=None, **flags: model(xs, carry, **flags))


MODELS = {
    "classifier": lambda: drawn(nn.SequenceClassifier, RNN, D, 2, pooling="attention"),
    "classifier of ids, both ways": lambda: drawn(nn.SequenceClassifier, BOTH, D, 2, vocabulary=V),
    "tagger": lambda: drawn(nn.SequenceTagger, BOTH, D, 5),
    "tagger of ids": lambda: drawn(nn.SequenceTagger, RNN, D, 5, vocabulary=V),
    "language model": lambda: drawn(nn.LanguageModel, RNN, V, D),
    "tied language model": lambda: drawn(nn.LanguageModel, RNN, V, D, tied=True),
    "forecaster": lambda: drawn(nn.Forecaster, BOTH, D, 4, targets=2, head=nn.Quantiles()),
    "forecaster of ids": lambda: drawn(nn.Forecaster, RNN, D, 4, vocabulary=V),
    "autoregressive": lambda: drawn(nn.AutoregressiveForecaster, RNN, D, head=nn.Gaussian()),
}
OUTPUTS = {"classifier": (2,), "tagger": (T, 5), "language": (T, V), "tied": (T, V), "autoregressive": (T, D, 2)}
PER_STEP = ("tagger", "language model", "tied", "autoregressive")


def takes_ids(name):
    return "ids" in name or "language" in name


def output_shape(name):
    if name.startswith("forecaster"):
        return (B, 4, 1, 1) if "ids" in name else (B, 4, 2, 3)
    return (B, *OUTPUTS[name.split()[0]])


def inputs(name, length=T):
    return (IDS if takes_ids(name) else XS)[:, :length]


def garbage(xs):
    """The same on real steps, and on padding what must not matter."""
    if xs.ndim == 3:
        return np.where(MASK[..., None], xs, np.nan)
    return np.where(MASK, xs, np.where(xs % 2, 10**6, -(10**6)))


def test_they_learn_and_padding_reaches_neither_an_output_nor_a_gradient():
    """One compiled step of training for all: on clean padding, then on garbage."""
    split = {name: nnx.split(make()) for name, make in MODELS.items()}
    generator = np.random.default_rng(1)
    targets = {name: generator.normal(0, 1, output_shape(name)) for name in MODELS}

    def loss(state, name, xs):
        ys = nnx.merge(split[name][0], state)(xs, mask=MASK)
        real = MASK if name.startswith(PER_STEP) else MASK.any(1)
        squares = (ys - targets[name]) ** 2
        return jnp.sum(jnp.mean(squares, axis=tuple(range(real.ndim, ys.ndim))) * real), ys

    @jax.jit
    def train(states, xs):
        found = {name: jax.value_and_grad(loss, has_aux=True)(states[name], name, xs[name]) for name in states}
        after = {name: jax.tree.map(lambda p, d: p - 0.02 * d, states[name], found[name][1]) for name in states}
        return after, found

    states = {name: state for name, (_, state) in split.items()}
    clean = {name: inputs(name) for name in MODELS}
    dirty = {name: garbage(xs) for name, xs in clean.items()}
    after, want = train(states, clean)
    got = train(states, dirty)[1]
    after, last = train(after, dirty)
    for _ in range(19):
        after, last = train(after, dirty)
    want, got, last = jax.tree.map(np.asarray, (want, got, last))
    for name, ((value, ys), gradients) in want.items():
        assert ys.shape == output_shape(name)
        zoo.assert_close(got[name], ((value, ys), gradients), 1e-5, name)
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients)), name  # every param learns
        assert last[name][0][0] < 0.9 * value, name


def test_noise_needs_a_key():
    models = {name: MODELS[name]() for name in ("classifier", "tagger of ids", "language model", "autoregressive")}

    @nnx.jit
    def run_all(models, key=None):
        return {name: model(inputs(name), key=key) for name, model in models.items()}

    quiet, noisy = (jax.tree.map(np.asarray, run_all(models, *key)) for key in ((), (jax.random.key(0),)))
    for name, model in models.items():
        model.train()
        assert np.abs(quiet[name] - noisy[name]).max() > 1e-3, name
    jax.tree.map(np.testing.assert_array_equal, run_all(models), quiet)


@pytest.mark.parametrize("length", [0, 1])
def test_lengths_0_and_1(length):
    for name, make in MODELS.items():
        xs = inputs(name, length)
        graph, state = nnx.split(make())
        ys = jax.eval_shape(lambda state, xs, graph=graph: nnx.merge(graph, state)(xs), state, xs)
        want = output_shape(name)
        assert ys.shape == ((B, length, *want[2:]) if name.startswith(PER_STEP) else want), name
    model = MODELS["classifier"]()
    logits = run(model, XS[:, :length], mask=np.zeros((B, length), bool))
    np.testing.assert_array_equal(logits, np.broadcast_to(model.head.bias[...], (B, 2)))


def test_a_classifier_reads_what_it_pools():
    pools = {"last": nn.last_pool, "mean": nn.mean_pool, "max": nn.max_pool, "mean_max": nn.mean_max_pool}
    models = {pooling: drawn(nn.SequenceClassifier, RNN, D, 2, pooling=pooling) for pooling in pools}

    @nnx.jit
    def both(models):
        want = {name: model.head(pools[name](model.recurrent(XS, mask=MASK), MASK)) for name, model in models.items()}
        return {name: model(garbage(XS), mask=MASK) for name, model in models.items()}, want

    zoo.assert_close(*both(models), 1e-6)


def test_last_of_a_bidirectional_net_holds_both_summaries():
    """What each direction says when it has read the whole row: its last carry."""
    model = drawn(nn.SequenceClassifier, BOTH, D, 2)

    @nnx.jit
    def parts(model):
        carry, ys = model.recurrent.unroll(XS, mask=MASK)
        return carry, model.pool(ys, MASK)

    carry, pooled = jax.tree.map(np.asarray, parts(model))
    assert model.head.bias is not None
    want = pooled @ np.asarray(model.head.kernel[...]) + np.asarray(model.head.bias[...])
    np.testing.assert_allclose(pooled[:3, :2], carry.forward[:3], atol=1e-6)
    np.testing.assert_allclose(pooled[:3, 6:], carry.backward[:3], atol=1e-6)
    np.testing.assert_allclose(run(model, XS, mask=MASK), want, atol=1e-6)


def test_a_model_is_its_parts_in_turn():
    tagger = MODELS["tagger of ids"]()
    carry = np.full((B, 4), 0.5, np.float32)
    reset = np.zeros((B, T), bool)
    reset[:, 2] = True
    embedded = np.asarray(tagger.embedding.embedding[...])[IDS]
    ys = run(tagger.recurrent, embedded, carry, mask=MASK, reset=reset)
    want = np.asarray(ys) @ np.asarray(tagger.head.kernel[...]) + np.asarray(tagger.head.bias[...])
    np.testing.assert_allclose(run(tagger, IDS, carry, mask=MASK, reset=reset), want, atol=1e-6)


def test_the_dtype_is_passed_on():
    def run(make, xs):
        model = make(param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        return model(xs), [leaf[...] for _, leaf in nnx.to_flat_state(nnx.state(model))]

    rnn, floats = jaxseq.rnn(4), jnp.ones((2, 3, 4), jnp.bfloat16)
    for make, xs in (
        (lambda **o: nn.SequenceClassifier(rnn, 4, 2, pooling="attention", **o), floats),
        (lambda **o: nn.SequenceClassifier(rnn, 4, 2, pooling="mean_max", **o), floats),
        (lambda **o: nn.SequenceTagger(rnn, 4, 2, vocabulary=V, **o), IDS),
        (lambda **o: nn.LanguageModel(rnn, V, 4, tied=True, **o), IDS),
        (lambda **o: nn.LanguageModel(rnn, V, 4, **o), IDS),
        (lambda **o: nn.Forecaster(rnn, 4, 2, head=nn.Quantiles(), **o), floats),
        (lambda **o: nn.AutoregressiveForecaster(rnn, 4, head=nn.Gaussian(), **o), floats),
    ):
        leaves = jax.tree.leaves(jax.eval_shape(lambda xs, make=make: run(make, xs), xs))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}


def test_the_default_dtype_follows_jax(x64):
    model = drawn(nn.SequenceClassifier, jaxseq.rnn(4), 3, 2, vocabulary=V, pooling="attention")
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float64)}


def test_a_kernel_is_passed_on():
    def kernel(cell, params, carry, xs, *, reverse=False):
        return jaxseq.kernels.scan(cell, params, carry, xs, reverse=reverse)

    rnn = jaxseq.rnn(4)
    for model in (
        drawn(nn.SequenceClassifier, rnn, 3, 2, kernel=kernel),
        drawn(nn.SequenceTagger, rnn, 3, 2, kernel=kernel),
        drawn(nn.LanguageModel, rnn, V, 3, kernel=kernel),
        drawn(nn.Forecaster, rnn, 3, 2, kernel=kernel),
        drawn(nn.AutoregressiveForecaster, rnn, 3, kernel=kernel),
    ):
        assert untyped(model.recurrent).kernel is kernel


def classifier(**options):
    return drawn(nn.SequenceClassifier, jaxseq.rnn(4), D, 2, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: classifier(pooling="first"), ValueError, "`pooling` must be 'last' or 'mean' or .*; got 'first'"),
        (lambda: classifier(vocabulary=0), ValueError, "`vocabulary` must be a positive int; got 0"),
        (lambda: classifier(vocabulary=V)(XS), TypeError, r"`xs` must be int ids \[B, T\]; got float32 \(4, 6, 3\)"),
        (lambda: classifier(vocabulary=V)(jnp.array(1)), ValueError, r"`xs` must be int ids \[B, T\], of at least 1"),
        (lambda: classifier(vocabulary=V)(IDS, mask=MASK.T), ValueError, r"`mask` must be .* you pass time-major\?"),
        (lambda: classifier()(IDS), TypeError, r"`xs` must be floating \[B, T, D\]; .* Embed ids first; cast numbers"),
        (
            lambda: drawn(nn.SequenceClassifier, jaxseq.rnn(4), D, 0),
            ValueError,
            "`classes` must be a positive int; got 0",
        ),
        (lambda: drawn(nn.SequenceTagger, jaxseq.rnn(4), D, 0), ValueError, "`tags` must be a positive int"),
        (lambda: drawn(nn.SequenceTagger, jaxseq.gru, D, 2), TypeError, "`cell` must be a jaxseq.Cell"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(call)


def test_ids_out_of_range_are_nan_at_both_ends():
    model = classifier(vocabulary=V)
    for bad in (-1, V):
        assert np.isnan(run(model, np.array([[1, bad]]))).all()


@pytest.mark.parametrize(
    ("vocabulary", "bad"),
    [
        (256, np.int8(-1)),
        (300, np.int8(-5)),
        (5, np.uint8(5)),
        (40_000, np.int16(-1)),
        (1, np.int32(1)),
        (1, np.int8(-1)),
    ],
    ids=str,
)
def test_wrong_ids_of_any_dtype_are_nan(vocabulary, bad):
    model = drawn(nn.SequenceTagger, jaxseq.rnn(2), 2, 3, vocabulary=vocabulary)
    assert np.isnan(run(model, np.array([[bad]]))).all()
    assert np.isfinite(run(model, np.zeros((1, 1), bad.dtype))).all()


def test_ids_past_32_bits_are_nan(x64):
    model = drawn(nn.SequenceTagger, jaxseq.rnn(2), 2, 3, vocabulary=5)
    for bad in (2**31, 2**32, 2**32 + 3, 2**62, -(2**32)):
        assert np.isnan(run(model, np.array([[bad]]))).all()
