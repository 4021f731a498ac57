"""One battery for all that reads sequences in a model: masks, resets, carries, causality, axes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import masking, nn
from jaxseq.nn.models._streams import PerSequence, PerStep
from tests.nn.blocks import BLOCKS, H, all_blocks
from tests.nn.drawn import drawn
from tests.untyped import untyped

T, B, D = 9, 4, 3


def transformer(**options):
    given = {"layers": 2, "heads": 4, "causal": True, "max_length": 12, "dropout": 0.3, "positions": "rotary"}
    return lambda rngs: nn.Transformer(D, 8, **{**given, **options}, rngs=rngs)


def one_block(rngs):
    return nn.Blocks([BLOCKS["griffin"].make(dropout=0.3, rngs=rngs)], in_features=D, rngs=rngs)


def every_block(rngs):
    attention = nn.Transformer(H, H, layers=1, heads=2, causal=True, max_length=12, positions="rotary", rngs=rngs)
    return nn.Blocks([*all_blocks(rngs, dropout=0.3), attention], in_features=D, remat=True, rngs=rngs)


LAYERS: dict[str, Callable[[nnx.Rngs], nn.Layer]] = {
    "lstm": lambda rngs: nn.Recurrent(jaxseq.dropout(jaxseq.lstm(5), inputs=0.3), D, rngs=rngs),
    "linear": lambda rngs: nn.Recurrent(
        jaxseq.stack(
            jaxseq.dropout(jaxseq.causal_conv(D, width=3), outputs=0.3), jaxseq.lru(4), jaxseq.mlstm(4, heads=2)
        ),
        D,
        rngs=rngs,
    ),
    "tcn": lambda rngs: nn.TCN(D, [4, 4, 6], width=3, dropout=0.3, rngs=rngs),
    "tcn_plain": lambda rngs: nn.TCN(D, [3], width=2, weight_norm=False, dropout=0.3, rngs=rngs),
    "transformer": transformer(),
    "grouped": transformer(layers=1, kv_heads=2, norm="post", positions="sinusoidal"),
    "learned": transformer(layers=1, kv_heads=1, positions="learned", remat=True),
    "block": one_block,
    "every_block": every_block,
}
EACH = [pytest.param(name, marks=pytest.mark.learn) if name == "every_block" else name for name in LAYERS]
MASKS = np.zeros((6, T), bool)
MASKS[0] = True
MASKS[1, :5] = True
MASKS[2, 4:] = True
MASKS[3, [0, 3, 4, 7]] = True
MASKS[4, 8] = True


NEVER = np.zeros_like(MASKS)
RESETS = np.random.default_rng(1).random(MASKS.shape) < 0.25


@functools.cache
def layer(name):
    """With params that are all drawn, biases and scales too."""
    return drawn(LAYERS[name], seed=1)


@functools.cache
def compiled(name):
    graph, params = nnx.split(layer(name))
    run = jax.jit(lambda params, *args, **options: nnx.merge(graph, params).unroll(*args, **options))
    return functools.partial(run, params)


def inputs():
    return np.random.default_rng(0).normal(size=(len(MASKS), T, D)).astype(np.float32)


def padded(xs, mask, padding):
    return np.where(mask[..., None], xs, np.float32(padding))


def same(got, want, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), got, want)


def visible(carry):
    """A carry without what stands in a cache beyond its length; carries and outputs beside it stay."""
    if not isinstance(carry, nn.TransformerCarry):
        is_cache = lambda part: isinstance(part, nn.TransformerCarry)
        return jax.tree.map(lambda part: visible(part) if is_cache(part) else part, carry, is_leaf=is_cache)
    places = np.arange(carry.layers[0].keys.shape[-2]) < np.asarray(carry.length)[..., None]
    return jax.tree.map(lambda leaf: leaf * places[..., None, :, None] if leaf.ndim > 2 else leaf, carry)


@functools.cache
def by_steps(name):
    """What `unroll` says, by steps: on padding the carry is held, and comes to its start where a sequence does."""
    graph, params = nnx.split(layer(name))

    @jax.jit
    def run(params, xs, mask, reset):
        made = nnx.merge(graph, params)
        initial = made.initial_carry(xs.shape[:1])

        def step(carry, at):
            x, mask, reset = at
            after, y = made.step(carry, x, reset=reset)
            carry = masking.choose(mask, after, masking.choose(reset, initial, carry))
            return carry, masking.keep(mask, y)

        carry, ys = jax.lax.scan(step, initial, tuple(jnp.swapaxes(x, 0, 1) for x in (xs, mask, reset)))
        return carry, jnp.swapaxes(ys, 0, 1)

    return functools.partial(run, params)


@pytest.mark.some(1, learn=4)
@pytest.mark.parametrize("name", EACH)
def test_the_whole_and_its_chunks_are_the_steps_under_masks_and_resets(name):
    xs, mask, reset, run, steps = inputs(), MASKS, RESETS, compiled(name), by_steps(name)
    dirty = padded(xs, mask, np.nan)
    same(visible(run(xs)), visible(steps(xs, ~NEVER, NEVER)))
    want_carry, want = steps(xs, mask, reset)
    carry, ys = run(dirty, mask=mask, reset=reset)
    same(ys, want)
    same(visible(carry), visible(want_carry))
    carry, first = run(xs[:, :4], mask=mask[:, :4], reset=reset[:, :4])
    carry, second = run(xs[:, 4:], carry, mask=mask[:, 4:], reset=reset[:, 4:])
    same(np.concatenate([first, second], 1), want)
    same(visible(carry), visible(want_carry))
    want_carry, want = steps(xs, mask, NEVER)  # no reset: a cache is written before it is looked at
    carry, first = run(xs[:, :4], mask=mask[:, :4])
    carry, second = run(dirty[:, 4:], carry, mask=mask[:, 4:])
    same(np.concatenate([first, second], 1), want)
    same(visible(carry), visible(want_carry))


@pytest.mark.some(1, learn=3)
@pytest.mark.parametrize("name", EACH)
def test_a_carry_of_numpy_arrays_as_from_a_file_is_one(name):
    carry, xs = layer(name).initial_carry((2,)), jnp.asarray(inputs()[:2, 0])
    got = layer(name).step(jax.tree.map(np.asarray, carry), xs)
    same(got, layer(name).step(carry, xs), atol=0)
    with pytest.raises((TypeError, ValueError), match="`carry"):
        layer(name).step(jax.tree.map(lambda leaf: np.full(leaf.shape, "a"), carry), xs)


@pytest.mark.some(2)
@pytest.mark.parametrize("name", EACH)
def test_padding_reaches_no_gradient(name):
    graph, params = nnx.split(layer(name))

    @jax.jit
    def gradients(xs):
        loss = lambda params, xs: jnp.sum(jnp.sin(nnx.merge(graph, params)(xs, mask=MASKS)))
        return jax.grad(loss, (0, 1))(params, xs)

    want, got = (gradients(padded(inputs(), MASKS, padding)) for padding in (0, np.nan))
    same(got, want, atol=0)
    assert np.all(np.asarray(got[1])[~MASKS] == 0)


@pytest.mark.some(2)
@pytest.mark.parametrize("name", EACH)
def test_no_output_depends_on_the_future(name):
    graph, params = nnx.split(layer(name))
    jacobian = jax.jit(jax.jacobian(lambda xs: nnx.merge(graph, params)(xs[None])[0].sum(-1)))(inputs()[0])
    depends = np.abs(np.asarray(jacobian)).sum(-1)
    assert np.all(depends[np.triu_indices(T, 1)] == 0)
    assert np.sum(np.diag(depends)) > 0


@pytest.mark.some(1)
@pytest.mark.parametrize("name", ["tcn", "transformer", "learned"])
def test_any_batch_axes_and_vmap(name):
    run = lambda *args: compiled(name)(args[0], mask=args[1], reset=args[2])[1]
    flat = inputs(), MASKS, RESETS
    want = np.asarray(run(*flat))
    axes = [x.reshape(2, 3, *x.shape[1:]) for x in flat]
    same(run(*axes).reshape(6, T, -1), want)
    same(run(*(x[0] for x in flat)), want[0])
    same(jax.jit(jax.vmap(run))(*(x[:, 0] for x in axes)), want.reshape(2, 3, T, -1)[:, 0])


@pytest.mark.some(3)
@pytest.mark.parametrize("name", EACH)
def test_noise_is_drawn_from_a_key_and_only_from_one(name):
    plain = np.asarray(compiled(name)(inputs())[1])
    one, again, other = (np.asarray(compiled(name)(inputs(), key=jax.random.key(seed))[1]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one != plain)


@pytest.mark.parametrize("name", ["tcn", "transformer", "learned"])
def test_params_and_outputs_have_the_asked_dtype(name):
    shape = {"layers": 1, "heads": 2, "max_length": T}
    make = {
        "tcn": functools.partial(nn.TCN, D, [4]),
        "transformer": functools.partial(nn.Transformer, D, 8, causal=True, **shape),
        "learned": functools.partial(nn.Transformer, 8, 8, causal=False, positions="learned", norm="post", **shape),
    }[name]
    made = drawn(make, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(made))} == {jnp.dtype("bfloat16")}
    carry, ys = jax.jit(made.unroll)(np.ones((2, T, made.in_features), jnp.bfloat16))
    assert ys.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} <= {jnp.dtype("bfloat16"), jnp.dtype("int32")}


@pytest.mark.parametrize("name", ["tcn", "transformer"])
def test_no_steps(name):
    carry, ys = compiled(name)(inputs()[:, :0])
    assert ys.shape == (len(MASKS), 0, layer(name).size)
    same(visible(carry), jax.jit(lambda: layer(name).initial_carry((len(MASKS),)))())


@pytest.mark.some(2)
@pytest.mark.parametrize("name", EACH)
def test_a_language_model_s_steps_are_its_whole_and_see_no_future(name):
    model = drawn(lambda rngs: nn.LanguageModel(LAYERS[name](rngs), 7, D, rngs=rngs))
    ids = np.random.default_rng(0).integers(7, size=(B, T))
    cut = np.where(np.arange(T) < 5, ids, 0)
    whole = jax.jit(model)
    steps = jax.jit(lambda ids: jax.lax.scan(model.step, model.initial_carry((B,)), ids.T)[1])
    want = np.asarray(whole(ids))
    same(np.swapaxes(steps(ids), 0, 1), want)
    np.testing.assert_array_equal(whole(cut)[:, :5], want[:, :5])


@pytest.mark.some(1)
@pytest.mark.parametrize(
    "make",
    [lambda rngs: nn.TCN(D, [6], rngs=rngs), transformer(layers=1), pytest.param(one_block, marks=pytest.mark.learn)],
    ids=["tcn", "transformer", "blocks"],
)
def test_every_model_takes_a_layer(make):
    def made(model, *arguments, **options):
        return drawn(lambda rngs: model(make(rngs), *arguments, **options, rngs=rngs))

    classifier, tagger = made(nn.SequenceClassifier, D, 7), made(nn.SequenceTagger, D, 7, vocabulary=5)
    forecaster, fed_back = made(nn.Forecaster, D, 2), made(nn.AutoregressiveForecaster, D)
    recogniser, language = made(nn.CTCRecognizer, D, 7), made(nn.LanguageModel, 5, D)

    @jax.jit
    def run(xs, ids, key):
        return (
            (classifier(xs), tagger(ids), forecaster(xs)),
            (fed_back.forecast(xs, 2), recogniser(xs), language.generate(ids[:, :4], 3, key=key)),
        )

    xs, ids = inputs()[:B], np.ones((B, T), np.int32)
    (classes, tags, ahead), (points, labels, text) = run(xs, ids, jax.random.key(0))
    assert classes.shape == (B, 7)
    assert tags.shape == (B, T, 7)
    assert ahead.shape[0] == B
    assert points.shape == (B, 2, D, 1)
    assert labels.shape == (B, T, 7)
    assert text.shape == (B, 3)
    with pytest.raises(ValueError, match=r"`cell` must be a layer for the 4 features that the model feeds it; got 3"):
        nn.SequenceClassifier(fed_back.recurrent, 4, 7, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="`kernel` applies to a Cell or a Composite"):
        nn.SequenceClassifier(fed_back.recurrent, D, 7, kernel=jaxseq.kernels.scan, rngs=nnx.Rngs(0))
    with pytest.raises(
        TypeError, match=r"`cell` must be a Cell, a Composite, or a layer such as nn.TCN; Linear has no"
    ):
        nn.SequenceClassifier(untyped(drawn(nnx.Linear, 2, 3)), D, 7, rngs=nnx.Rngs(0))


def test_every_layer_of_nn_is_here():
    """A layer is what has the methods of `nn.Layer`."""
    methods = ("unroll", "step", "initial_carry", "__call__")
    found = {
        value
        for value in vars(nn).values()
        if isinstance(value, type) and all(callable(getattr(value, name, None)) for name in methods)
    }
    inside = {type(module) for name in LAYERS for _, module in nnx.iter_modules(untyped(layer(name)))}
    models = {value for value in found if issubclass(value, PerStep | PerSequence | nn.LanguageModel)}
    assert found - models - {nn.Layer} == found & inside


class Doubled(nnx.Module):
    """A layer of one's own, without what may be left out: y is 2 x."""

    in_features = size = D
    causal = True

    def __call__(self, xs, carry=None, *, mask=None, reset=None, key=None):
        return self.unroll(xs, carry, mask=mask)[1]

    def unroll(self, xs, carry=None, *, mask=None, reset=None, key=None):
        ys = 2 * xs if mask is None else jnp.where(mask[..., None], 2 * xs, 0)
        return self.initial_carry(xs.shape[:-2]), ys

    def step(self, carry, x, *, reset=None):
        return carry, 2 * x

    def initial_carry(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 0))


def test_a_layer_of_ones_own_may_leave_out_what_has_a_default():
    model = nn.LanguageModel(Doubled(), 5, D, rngs=nnx.Rngs(0))
    ids = np.ones((2, 4), np.int32)
    assert jax.eval_shape(lambda: model.generate(ids, 3, temperature=0)).shape == (2, 3)
    with pytest.raises(ValueError, match="`read` needs a carry, and a model without n-grams whose layer has `rewind`"):
        model.read(model.initial_carry((2,)), ids)
    languages: dict[str, Any] = {"source_vocabulary": 5, "target_vocabulary": 5, "features": D, "start": 0, "end": 1}
    for make in (lambda rngs: Doubled(), one_block):
        translator = drawn(lambda rngs, make=make: nn.Seq2Seq(make(rngs), make(rngs), **languages, rngs=rngs))
        written = jax.eval_shape(lambda translator=translator: translator.generate(ids, 3).tokens)
        assert written.shape == (2, 3)
