"""The Transformer against Flax's attention, and its equations written out in NumPy."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseq import nn
from jaxseq.nn._flax import given
from jaxseq.nn.attention import _positions
from jaxseq.nn.attention._block import SelfAttention, Shape
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, H, N = 2, 5, 8, 2
XS = np.random.default_rng(0).normal(size=(B, T, H)).astype(np.float32)


def test_attention_is_flax_s_on_the_same_weights():
    ours = drawn(lambda rngs: SelfAttention(Shape(H, N, N, 1), H, given(None, None, rngs)))
    theirs = drawn(nnx.MultiHeadAttention, N, H, decode=False)
    for name in ("query", "key", "value"):
        layer, own = getattr(theirs, name), getattr(ours, name)
        layer.kernel[...] = np.reshape(own.kernel[...], (H, N, H // N))
        layer.bias[...] = np.reshape(own.bias[...], (N, H // N))
    assert theirs.out.bias is not None
    assert ours.out.bias is not None
    theirs.out.kernel[...] = np.reshape(ours.out.kernel[...], (N, H // N, H))
    theirs.out.bias[...] = ours.out.bias[...]
    causal = jnp.broadcast_to(jnp.tri(T, dtype=bool), (B, T, T))

    @jax.jit
    def both(xs):
        seen = ours.of(xs, None)
        got = ours(xs, seen, causal, None), ours(xs, seen, None, None)
        return got, (theirs(xs, mask=causal[:, None]), theirs(xs))

    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), *both(XS))


def test_heads_that_share_keys_are_heads_with_the_same_keys():
    shared = drawn(lambda rngs: SelfAttention(Shape(H, 4, 2, 1), H, given(None, None, rngs)))
    apart = drawn(lambda rngs: SelfAttention(Shape(H, 4, 4, 1), H, given(None, None, rngs)))
    for name in ("query", "out"):
        getattr(apart, name).kernel[...] = getattr(shared, name).kernel[...]
        getattr(apart, name).bias[...] = getattr(shared, name).bias[...]
    for name in ("key", "value"):
        kernel, bias = (np.asarray(getattr(getattr(shared, name), part)[...]) for part in ("kernel", "bias"))
        getattr(apart, name).kernel[...] = np.repeat(kernel.reshape(H, 2, 2), 2, axis=1).reshape(H, H)
        getattr(apart, name).bias[...] = np.repeat(bias.reshape(2, 2), 2, axis=0).reshape(H)
    run = jax.jit(lambda xs: [layer(xs, layer.of(xs, None), None, None) for layer in (shared, apart)])
    one, other = run(XS)
    np.testing.assert_allclose(one, other, atol=1e-5)


def affine(layer, xs):
    return xs @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...])


def normed(layer, xs):
    centred = xs - xs.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.epsilon)
    return scaled * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])


def attended(layer, xs, memory, causal):
    queries, keys, values = affine(layer.query, xs), affine(layer.key, memory), affine(layer.value, memory)
    heads = []
    for q, k, v in zip(*(np.split(x, N, -1) for x in (queries, keys, values)), strict=True):
        scores = q @ k.T / np.sqrt(H // N)
        scores = np.where(np.tri(*scores.shape) > 0, scores, -np.inf) if causal else scores
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    return affine(layer.out, np.concatenate(heads, -1))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_decoder_is_its_equations(norm):
    options = {"layers": 2, "heads": N, "causal": True, "norm": norm, "positions": None, "hidden": 6}
    layer = drawn(nn.Transformer, 3, H, memory_features=4, activation=jnp.tanh, **options)
    xs, memory = XS[..., :3], np.random.default_rng(1).normal(size=(B, 6, 4)).astype(np.float32)
    mask = np.array([[1] * 6, [0, 1, 1, 0, 1, 0]], bool)
    hidden = np.where(mask[..., None], memory, np.nan)
    got = jax.jit(lambda xs, memory: layer(xs, memory=layer.remember(memory, mask=mask)))(xs, hidden)
    for b in range(B):
        h, seen = affine(layer.enter, xs[b]), memory[b, mask[b]].astype(np.float64)
        for block in layer.blocks:
            sublayers = (
                lambda h, block=block: attended(block.attention, h, h, True),
                lambda h, block=block, seen=seen: attended(block.cross, h, seen, False),
                lambda h, block=block: affine(block.narrow, np.tanh(affine(block.wide, h))),
            )
            for sublayer, norm_layer in zip(sublayers, block.norms, strict=True):
                h = h + sublayer(normed(norm_layer, h)) if norm == "pre" else normed(norm_layer, h + sublayer(h))
        want = h if layer.last_norm is None else normed(layer.last_norm, h)
        np.testing.assert_allclose(got[b], want, rtol=0, atol=2e-4)


def test_an_encoder_sees_both_sides_and_no_padding():
    layer = drawn(nn.Transformer, H, H, layers=1, heads=N, causal=False)
    mask = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
    run = jax.jit(lambda xs, mask: layer(xs, mask=mask))
    got = run(np.where(mask[..., None], XS, np.nan), mask)
    assert np.all(np.asarray(got)[~mask] == 0)
    whole = jax.jit(layer)
    for b in range(B):  # both rows have three real steps
        np.testing.assert_allclose(np.asarray(got)[b, mask[b]], whole(XS[b : b + 1, mask[b]])[0], atol=1e-5)
    assert jax.jit(layer.unroll)(XS)[0] is None
    jacobian = jax.jit(jax.jacobian(lambda xs: layer(xs[None])[0].sum(-1)))(XS[0])
    assert np.all(np.abs(jacobian).sum(-1) > 0)


def test_positions():
    xs = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    got, rotated = jax.jit(
        lambda xs, positions: (_positions.sinusoidal(positions, 6, jnp.float32), _positions.rotary(xs, positions))
    )(xs, np.array([0, 3, 7]))
    angles = np.array([0, 3, 7])[:, None] * 10_000.0 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(got, np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=1e-5)
    turned = (xs[..., :3] + 1j * xs[..., 3:]) * np.exp(1j * angles)
    want = np.concatenate([turned.real, turned.imag], -1)
    np.testing.assert_allclose(rotated, want, atol=1e-5)


@pytest.mark.some(1)
@pytest.mark.parametrize(("positions", "scale"), [("sinusoidal", 2.0), ("learned", 2.0), ("rotary", 1.0), (None, 1.0)])
def test_models_scale_embeddings_where_positions_are_added(positions, scale):
    """Vaswani et al. 2017, §3.4, with D = 4 here: in each model, whole and by steps, and not for the tied output."""

    def make(rngs):
        layer = nn.Transformer(4, 4, layers=1, heads=2, causal=True, max_length=9, positions=positions, rngs=rngs)
        return nn.LanguageModel(layer, 6, 4, tied=True, rngs=rngs)

    model, ids = drawn(make), np.array([[1, 5, 0], [2, 2, 4]])

    def read(kind, given):
        """What a model says of ids, and of their embeddings."""
        reader = drawn(lambda rngs: kind(
            nn.Transformer(4, 4, layers=1, heads=2, causal=True, max_length=9, positions=positions, rngs=rngs), 4,
            **given, vocabulary=6, rngs=rngs,
        ))  # fmt: skip
        embedded = scale * np.asarray(reader.embedding.embedding[...])[ids]
        graph, params = nnx.split(reader)

        def of_floats(params):
            reader = nnx.merge(graph, params)
            reader.embedding = None
            return reader(embedded)

        return lambda ids: (nnx.merge(graph, params)(ids), of_floats(params))

    heads = {"classes": 3}, {"tags": 3}, {"horizon": 3}
    kinds = nn.SequenceClassifier, nn.SequenceTagger, nn.Forecaster
    readers = [read(kind, given) for kind, given in zip(kinds, heads, strict=True)]
    table = np.asarray(model.embedding.embedding[...])

    @jax.jit
    def run(ids, embedded):
        language = model(ids), model.step(None, ids[:, 0])[1], model.recurrent(embedded)
        return language, [reader(ids) for reader in readers]

    (whole, first, seen), pairs = run(ids, scale * table[ids])
    want = np.asarray(seen) @ table.T
    np.testing.assert_allclose(whole, want, atol=1e-5)
    np.testing.assert_allclose(first, want[:, 0], atol=1e-5)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_what_is_added_for_a_position_is_of_a_size_of_1():
    @jax.jit
    def added():
        options: dict[str, Any] = {"layers": 1, "heads": 1, "causal": False, "positions": "learned", "max_length": 50}
        learned = nn.Transformer(4, 64, **options, rngs=nnx.Rngs(0))
        assert learned.places is not None
        return learned.places.embedding[...], _positions.sinusoidal(jnp.arange(50), 64, jnp.float32)

    for values in added():
        assert 0.6 < np.sqrt(np.mean(np.square(values))) < 1.1


def test_rotary_positions_count_from_anywhere():
    """With all keys in sight, moving a sequence to other positions changes nothing: only distances count."""
    layer = drawn(nn.Transformer, H, H, layers=1, heads=N, causal=True, max_length=9, positions="rotary")
    attention = layer.blocks[0].attention

    def moved(xs, offset):
        return attention(xs, attention.of(xs, jnp.arange(T) + offset), None, jnp.arange(T) + offset)

    run = jax.jit(lambda xs: (moved(xs, 4), moved(xs, 0), layer(xs, layer.initial_carry((B,))), layer(xs)))
    one, other, from_a_carry, want = run(XS)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(from_a_carry, want, atol=1e-5)


def test_beyond_its_length_a_cache_gives_nan_and_learned_positions_too():
    layer = drawn(nn.Transformer, H, H, layers=1, heads=N, causal=True, max_length=4)
    learned = drawn(nn.Transformer, H, H, layers=1, heads=N, causal=False, positions="learned", max_length=4)

    @jax.jit
    def run(xs):
        carry, ys = jax.lax.scan(layer.step, layer.initial_carry((B,)), jnp.swapaxes(xs, 0, 1))
        _, after = layer.step(carry, xs[:, 0], reset=np.array([True, False]))
        return ys, after, (learned(xs), layer(xs), layer(xs, layer.initial_carry((B,))))

    ys, after, wholes = jax.tree.map(np.asarray, run(XS))
    np.testing.assert_allclose(np.swapaxes(ys[:4], 0, 1), wholes[1][:, :4], atol=1e-5)
    assert np.all(np.isnan(ys[4]))
    assert np.all(np.isfinite(after[0]))
    assert np.all(np.isnan(after[1]))
    for got in wholes:  # the whole is its chunks there too
        assert np.all(np.isfinite(got[:, :4]))
        assert np.all(np.isnan(got[:, 4]))


def test_a_cache_goes_back_as_far_as_it_is_told():
    layer = drawn(nn.Transformer, H, H, layers=2, heads=N, causal=True, max_length=9)

    @jax.jit
    def run(xs, steps, more):
        carry, whole = layer.unroll(xs)
        assert carry is not None
        back = layer.rewind(carry, steps)
        longer = layer(jnp.concatenate([xs, xs[:, 3:4]], 1))
        return back.length, layer.rewind(carry, more).length, layer.step(back, xs[:, 3])[1], whole, longer

    length, other, y, whole, longer = map(np.asarray, run(XS, np.array([2, -1]), np.array([7, 0])))
    assert length.tolist() == [3, 5]
    assert other.tolist() == [0, 5]
    np.testing.assert_allclose(y[0], whole[0, 3], atol=1e-5)
    np.testing.assert_allclose(y[1], longer[1, 5], atol=1e-5)


def test_a_carry_is_one_in_float64_too(x64):
    make = functools.partial(nn.Transformer, H, H, layers=1, heads=N, causal=True, max_length=9)
    layer = drawn(make, param_dtype=jnp.float64)
    mask, reset = np.ones((B, T), bool), np.zeros((B, T), bool)
    reset[1, 2] = True

    @jax.jit
    def run(xs, reset):
        step = lambda carry, at: layer.step(carry, at[0], reset=at[1])
        first, _ = layer.step(None, xs[:, 0], reset=reset[:, 0])
        later = jnp.swapaxes(xs[:, 1:], 0, 1), reset[:, 1:].T
        return jax.lax.scan(step, first, later), layer.unroll(xs, mask=mask, reset=reset)

    (carry, by_steps), (whole, ys) = run(XS.astype(np.float64), reset)
    assert jax.tree.map(jnp.shape, whole) == jax.tree.map(jnp.shape, carry)
    np.testing.assert_allclose(by_steps[-1], ys[:, -1], atol=1e-5)
    model = drawn(
        lambda rngs: nn.LanguageModel(
            make(param_dtype=jnp.float64, rngs=rngs), 7, H, param_dtype=jnp.float64, rngs=rngs
        )
    )
    generate = jax.jit(lambda prompt, key: model.generate(prompt, 3, key=key))
    assert generate(np.array([[1, 2], [3, 4]]), jax.random.key(0)).shape == (2, 3)


@pytest.mark.learn
def test_remat_changes_no_gradient():
    one = drawn(nn.Transformer, H, H, layers=2, heads=N, causal=True, dropout=0.2)
    again = drawn(nn.Transformer, H, H, layers=2, heads=N, causal=True, dropout=0.2, remat=True)
    gradients = []
    for layer in (one, again):
        graph, params = nnx.split(layer)
        loss = lambda params, graph=graph: jnp.sum(nnx.merge(graph, params)(XS, key=jax.random.key(0)) ** 2)
        gradients.append(jax.tree.leaves(jax.jit(jax.grad(loss))(params)))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), *gradients)


def make(*sizes, **options):
    return drawn(nn.Transformer, *(sizes or (H, H)), **{"layers": 1, "heads": N, "causal": True, **options})


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (
            lambda: make(heads=3),
            ValueError,
            "`heads` must divide `features`, and `kv_heads` must divide `heads`; got 8, 3 and 3",
        ),
        (lambda: make(heads=4, kv_heads=3), ValueError, "`heads` must divide `features`.*; got 8, 4 and 3"),
        (
            lambda: make(heads=8, positions="rotary"),
            ValueError,
            '`positions` "rotary" need pairs of features; got 8 in 8 heads',
        ),
        (lambda: make(positions="learned"), ValueError, '`positions` "learned" need a `max_length`'),
        (lambda: make(positions="absolute"), ValueError, "`positions` must be 'sinusoidal' or 'learned'"),
        (lambda: make(norm="rms"), ValueError, "`norm` must be 'pre' or 'post'"),
        (lambda: make(causal=2), ValueError, "`causal` must be True or False"),
        (
            lambda: make().step(None, XS[:, 0]),
            ValueError,
            "only a layer with causal=True and a `max_length` has a carry",
        ),
        (lambda: make().remember(XS), ValueError, "`memory` needs a layer with `memory_features`"),
        (lambda: make(memory_features=3)(XS), ValueError, "`memory` must be the result of `remember` of this layer"),
        (lambda: make(memory_features=3).remember(XS), ValueError, "`memory` must have the 3 features"),
        (
            lambda: make(max_length=4)(XS, make(max_length=5).initial_carry((B,))),
            ValueError,
            "`carry` must be what this layer returned for this batch",
        ),
        (
            lambda: make(memory_features=H)(XS, memory=make(memory_features=H, layers=2).remember(XS)),
            ValueError,
            "`memory` must be the result of `remember` of this layer",
        ),
        (
            lambda: make(memory_features=H)(XS, memory=make(memory_features=H).remember(XS[:1])),
            ValueError,
            r"`memory` must have the batch \(2,\) of `xs`; got \(1,\)",
        ),
        (lambda: make()(XS[0, 0]), ValueError, r"`xs` must be \[B, T, D\], of at least 2 axes; got float32 \(8,\)"),
        (lambda: make().rewind(untyped(None), np.ones(B, int)), TypeError, "`carry` must be what this layer returned"),
        (
            lambda: make(max_length=4).rewind(make(max_length=4).initial_carry((B,)), np.ones(3, np.int32)),
            ValueError,
            r"`steps` must be int \[B\] = \(2,\); got int32 \(3,\)",
        ),
        (lambda: make(4, H)(XS), ValueError, "`xs` must have the 4 features"),
        (lambda: make()(XS.astype(np.int32)), TypeError, r"`xs` must be floating \[B, T, D\]"),
    ],
)
def test_errors(bad, error, message):
    with pytest.raises(error, match=message):
        bad()
