"""Models on a stream: steps and stretches give what a call gives for all steps at once."""

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

B, T, D, V = 3, 6, 3, 7
NET = jaxseq.stack(jaxseq.lstm(4), jaxseq.learned_carry(jaxseq.gru(3)))
POOLINGS = ("last", "mean", "max", "mean_max", "attention")
MODELS = {
    "tagger": lambda: drawn(nn.SequenceTagger, NET, D, 2, vocabulary=V),
    "recognizer": lambda: drawn(nn.CTCRecognizer, NET, D, 5),
    "autoregressive": lambda: drawn(nn.AutoregressiveForecaster, NET, D, head=nn.Gaussian()),
    "forecaster": lambda: drawn(nn.Forecaster, NET, D, 2, head=nn.Quantiles((0.1, 0.5))),
    "convolution": lambda: drawn(nn.SequenceClassifier, drawn(nn.TCN, D, [4], width=2), D, 2, pooling="mean"),
    **{pool: lambda pool=pool: drawn(nn.SequenceClassifier, NET, D, 2, pooling=pool) for pool in POOLINGS},
}
XS = np.random.default_rng(2).normal(size=(B, T, D)).astype(np.float32)
IDS = np.random.default_rng(0).integers(0, V, (B, T))
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
RESET = np.zeros((B, T), bool)
RESET[[0, 1, 1], [4, 0, 2]] = True

unroll = nnx.jit(lambda model, xs, carry=None, **flags: model.unroll(xs, carry, **flags))


def inputs(name):
    return IDS if name == "tagger" else XS


def per_step(model):
    return isinstance(model, nn.SequenceTagger | nn.AutoregressiveForecaster)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", MODELS)
def test_steps_are_calls_with_the_steps_so_far(name):
    """By `lax.scan`, which keeps the dtypes of the carry; a reset starts a sequence anew."""
    model, xs = MODELS[name](), inputs(name)

    @nnx.jit
    def steps(model, reset):
        step = lambda carry, given: model.step(carry, given[0], reset=given[1])
        return jax.lax.scan(step, model.initial_carry((B,)), (jnp.moveaxis(xs, 1, 0), reset.T))[1]

    found = jnp.moveaxis(steps(model, RESET), 0, 1)
    if per_step(model):
        want = unroll(model, xs, reset=RESET)[1]
    else:
        want = [nnx.jit(lambda model, t=t: model(xs[:, :t], reset=RESET[:, :t]))(model) for t in range(1, T + 1)]
        want = jnp.stack(want, 1)
        # The first row's second sequence, by itself.
        zoo.assert_close(want[0, -1], nnx.jit(lambda model: model(xs[:1, 4:]))(model)[0], 1e-5)
    zoo.assert_close(found, want, 1e-5)
    first = nnx.jit(lambda model: model.step(None, xs[:, 0])[1])(model)
    zoo.assert_close(first, found[:, 0], 1e-5)


@pytest.mark.some(1)
@pytest.mark.parametrize("name", MODELS)
def test_stretches_are_the_whole(name):
    """Under masks and resets, with NaN or ids out of range on padding, a stretch without steps, and gradients."""
    model, clean = MODELS[name](), inputs(name)
    graph, state = nnx.split(model)
    xs = np.where(MASK, clean, -99) if name == "tagger" else np.where(MASK[..., None], clean, np.nan)

    @jax.jit
    def both(state, clean):
        def loss(state, cuts):
            model, carry, ys = nnx.merge(graph, state), None, []
            for part in cuts:
                carry, y = model.unroll(clean[:, part], carry, mask=MASK[:, part], reset=RESET[:, part])
                ys.append(y)
            ys = jnp.concatenate(ys, 1) if per_step(model) else ys[-1]
            return jnp.sum(ys**2), (carry, ys)

        grad = jax.grad(loss, has_aux=True)
        return grad(state, [slice(0, T)]), grad(state, [slice(0, 1), slice(1, 3), slice(3, 3), slice(3, T)])

    want, got = both(state, xs)
    zoo.assert_close(got, want, 1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(want[0]))


def test_a_call_goes_on_from_a_carry():
    model = MODELS["mean"]()
    carry, _ = unroll(model, XS[:, :4])
    got = nnx.jit(lambda model, carry: model(XS[:, 4:], carry))(model, carry)
    zoo.assert_close(got, unroll(model, XS)[1], 1e-5)
    assert carry.pooled.steps.tolist() == [4, 4, 4]


def test_great_and_small_scores():
    """Weights of attention neither overflow nor vanish, whatever came before."""
    model = MODELS["attention"]()
    model.pool.query.kernel[...] *= 1e4
    carry, logits = None, None
    for t in range(T):
        carry, logits = jax.tree.map(np.asarray, model.step(carry, XS[:, t]))
    zoo.assert_close(logits, model(XS), 1e-4)


def test_16_bits_and_64(x64):
    for dtype in ("bfloat16", "float16", "float64"):
        model = drawn(nn.SequenceClassifier, NET, D, 2, pooling="mean_max", param_dtype=dtype)
        xs = jnp.asarray(XS[:, 0], dtype)
        carry, logits = jax.eval_shape(lambda model=model, xs=xs: model.step(None, xs))
        assert carry == jax.eval_shape(lambda model=model: model.initial_carry((B,)))
        assert logits.dtype == dtype
        assert carry.pooled[0].total.dtype == (np.float64 if dtype == "float64" else np.float32)


def test_errors():
    model, both_ways = MODELS["mean"](), drawn(nn.SequenceClassifier, jaxseq.bidirectional(jaxseq.rnn(2)), D, 2)
    for call, words in (
        (lambda: model.step(model.recurrent.initial_carry((B,)), XS[:, 0]), "`carry` must be the nn.PooledCarry that"),
        (lambda: model(XS, untyped(3)), "`carry` must be the nn.PooledCarry that this model returns; got int"),
        (lambda: model.step(model.initial_carry((2,)), XS[:, 0]), r"`carry"),
        (lambda: model.step(None, XS[:, 0], reset=np.zeros(2, bool)), "`reset` must be bool"),
        (lambda: both_ways.step(None, XS[:, 0]), "causal"),
        (lambda: MODELS["tagger"]().step(None, XS[:, 0]), "`x` must be int ids"),
        (lambda: model.initial_carry(untyped("a")), "`batch_shape` must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            call()
