"""One battery for all that reads sequences in a model: masks, resets, carries, causality, axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxseq
from jaxseq import masking, nn

T, B, D = 9, 4, 3


def transformer(**options):
    given = {"layers": 2, "heads": 4, "causal": True, "max_length": 12, "dropout": 0.3, "positions": "rotary"}
    return lambda rngs: nn.Transformer(D, 8, **{**given, **options}, rngs=rngs)


LAYERS = {
    "lstm": lambda rngs: nn.Recurrent(jaxseq.dropout(jaxseq.lstm(5), inputs=0.3), D, rngs=rngs),
    "tcn": lambda rngs: nn.TCN(D, [4, 4, 6], width=3, dropout=0.3, rngs=rngs),
    "tcn_plain": lambda rngs: nn.TCN(D, [3], width=2, weight_norm=False, dropout=0.3, rngs=rngs),
    "transformer": transformer(),
    "grouped": transformer(kv_heads=2, norm="post", positions="sinusoidal"),
    "learned": transformer(kv_heads=1, positions="learned", remat=True),
}
MASKS = np.zeros((6, T), bool)
MASKS[0] = True
MASKS[1, :5] = True
MASKS[2, 4:] = True
MASKS[3, [0, 3, 4, 7]] = True
MASKS[4, 8] = True


@functools.cache
def layer(name):
    """With params that are all drawn, biases and scales too."""
    made = LAYERS[name](nnx.Rngs(0))
    graph, params = nnx.split(made)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    leaves = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, leaves))


@functools.cache
def compiled(name):
    graph, params = nnx.split(layer(name))
    run = jax.jit(lambda params, *args, **options: nnx.merge(graph, params).unroll(*args, **options))
    return functools.partial(run, params)


def inputs(batch=B, steps=T, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, steps, D)), jnp.float32)


def same(got, want, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), got, want)


def visible(carry):
    """A carry without what stands in a cache beyond its length; outputs beside it stay."""
    if not isinstance(carry, nn.TransformerCarry):
        is_pair = isinstance(carry, tuple) and len(carry) == 2 and isinstance(carry[0], nn.TransformerCarry)
        return (visible(carry[0]), carry[1]) if is_pair else carry
    places = np.arange(carry.layers[0].keys.shape[-2]) < np.asarray(carry.length)[..., None]
    return jax.tree.map(lambda leaf: leaf * places[..., None, :, None] if leaf.ndim > 2 else leaf, carry)


def step_by_step(name, xs, mask, reset):
    """What `unroll` says, by steps: on padding the carry is held, and comes to its start where a sequence does."""
    graph, params = nnx.split(layer(name))
    step = jax.jit(lambda carry, x, reset: nnx.merge(graph, params).step(carry, x, reset=reset))
    initial = carry = layer(name).initial_carry(xs.shape[:1])
    ys = []
    for t in range(xs.shape[1]):
        after, y = step(carry, xs[:, t], reset[:, t])
        carry = masking.choose(mask[:, t], after, masking.choose(reset[:, t], initial, carry))
        ys.append(masking.keep(mask[:, t], y))
    return carry, jnp.stack(ys, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_the_whole_and_its_chunks_are_the_steps_under_masks_and_resets(name):
    xs, mask, run = inputs(len(MASKS)), jnp.asarray(MASKS), compiled(name)
    never = jnp.zeros(mask.shape, bool)
    everywhere = step_by_step(name, xs, ~never, never)
    same(visible(run(xs)), visible(everywhere))
    reset = jnp.asarray(np.random.default_rng(1).random(mask.shape) < 0.25)
    want_carry, want = step_by_step(name, xs, mask, reset)
    carry, ys = run(jnp.where(mask[..., None], xs, jnp.nan), mask=mask, reset=reset)
    same(ys, want)
    same(visible(carry), visible(want_carry))
    carry, first = run(xs[:, :4], mask=mask[:, :4], reset=reset[:, :4])
    carry, second = run(xs[:, 4:], carry, mask=mask[:, 4:], reset=reset[:, 4:])
    same(jnp.concatenate([first, second], 1), want)
    same(visible(carry), visible(want_carry))
    want_carry, want = step_by_step(name, xs, mask, never)  # no reset: a cache is written before it is looked at
    carry, first = run(xs[:, :4], mask=mask[:, :4])
    carry, second = run(jnp.where(mask[:, 4:, None], xs[:, 4:], jnp.nan), carry, mask=mask[:, 4:])
    same(jnp.concatenate([first, second], 1), want)
    same(visible(carry), visible(want_carry))


@pytest.mark.parametrize("name", LAYERS)
def test_padding_reaches_no_gradient(name):
    graph, params = nnx.split(layer(name))
    mask, xs = jnp.asarray(MASKS), inputs(len(MASKS))

    @jax.jit
    def gradients(xs):
        loss = lambda params, xs: jnp.sum(jnp.sin(nnx.merge(graph, params)(xs, mask=mask)))
        return jax.grad(loss, (0, 1))(params, xs)

    want = gradients(jnp.where(mask[..., None], xs, 0))
    got = gradients(jnp.where(mask[..., None], xs, jnp.nan))
    same(got, want, atol=0)
    assert np.all(np.asarray(got[1])[~MASKS] == 0)


@pytest.mark.parametrize("name", LAYERS)
def test_no_output_depends_on_the_future(name):
    graph, params = nnx.split(layer(name))
    jacobian = jax.jacobian(lambda xs: nnx.merge(graph, params)(xs[None])[0].sum(-1))(inputs(1)[0])
    depends = np.abs(np.asarray(jacobian)).sum(-1)
    assert np.all(depends[np.triu_indices(T, 1)] == 0)
    assert np.sum(np.diag(depends)) > 0


@pytest.mark.parametrize("name", ["tcn", "transformer", "learned"])
def test_any_batch_axes_and_vmap(name):
    xs = inputs(6).reshape(2, 3, T, D)
    mask = jnp.asarray(MASKS.reshape(2, 3, T))
    reset = jnp.zeros((2, 3, T), bool).at[..., 4].set(True)
    _, want = compiled(name)(xs.reshape(6, T, D), mask=mask.reshape(6, T), reset=reset.reshape(6, T))
    _, got = compiled(name)(xs, mask=mask, reset=reset)
    same(got.reshape(6, T, -1), want)
    _, got = compiled(name)(xs[0, 0], mask=mask[0, 0], reset=reset[0, 0])
    same(got, want[0])
    mapped = jax.vmap(lambda xs, mask, reset: compiled(name)(xs, mask=mask, reset=reset)[1])
    same(mapped(xs[:, 0], mask[:, 0], reset[:, 0]), want.reshape(2, 3, T, -1)[:, 0])


@pytest.mark.parametrize("name", LAYERS)
def test_noise_is_drawn_from_a_key_and_only_from_one(name):
    xs = inputs()
    _, plain = compiled(name)(xs)
    one, again, other = (compiled(name)(xs, key=jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one != plain)


@pytest.mark.parametrize("name", ["tcn", "transformer", "learned"])
def test_params_and_outputs_have_the_asked_dtype(name):
    made = {
        "tcn": lambda: nn.TCN(D, [4], param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
        "transformer": lambda: nn.Transformer(
            D, 8, layers=1, heads=2, causal=True, max_length=T, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
        ),
        "learned": lambda: nn.Transformer(
            8, 8, layers=1, heads=2, causal=False, positions="learned", max_length=T, norm="post",
            param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0),
        ),
    }[name]()  # fmt: skip
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(made))} == {jnp.dtype("bfloat16")}
    carry, ys = made.unroll(jnp.ones((2, T, made.in_features), jnp.bfloat16))
    assert ys.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} <= {jnp.dtype("bfloat16"), jnp.dtype("int32")}


@pytest.mark.parametrize("name", ["tcn", "transformer"])
def test_no_steps(name):
    carry, ys = layer(name).unroll(inputs(steps=0))
    assert ys.shape == (B, 0, layer(name).size)
    same(visible(carry), layer(name).initial_carry((B,)))


@pytest.mark.parametrize("name", LAYERS)
def test_a_language_model_s_steps_are_its_whole_and_see_no_future(name):
    model = nn.LanguageModel(layer(name), 7, D, rngs=nnx.Rngs(0))
    ids = jnp.asarray(np.random.default_rng(0).integers(7, size=(B, T)))
    graph, params = nnx.split(model)
    step = jax.jit(lambda carry, token: nnx.merge(graph, params).step(carry, token))
    whole = jax.jit(lambda ids: nnx.merge(graph, params)(ids))
    carry, logits = model.initial_carry((B,)), []
    for t in range(T):
        carry, after = step(carry, ids[:, t])
        logits.append(after)
    same(jnp.stack(logits, 1), whole(ids))
    np.testing.assert_array_equal(whole(ids.at[:, 5:].set(0))[:, :5], whole(ids)[:, :5])


@pytest.mark.parametrize("name", ["tcn", "transformer"])
def test_every_model_takes_a_layer(name):
    rngs, key = nnx.Rngs(0), jax.random.key(0)
    make = lambda: LAYERS[name](rngs)
    xs, ids = inputs(), jnp.ones((B, T), jnp.int32)
    assert nn.SequenceClassifier(make(), D, 7, rngs=rngs)(xs).shape == (B, 7)
    assert nn.SequenceTagger(make(), D, 7, vocabulary=5, rngs=rngs)(ids).shape == (B, T, 7)
    assert nn.Forecaster(make(), D, 2, rngs=rngs)(xs).shape[0] == B
    assert nn.AutoregressiveForecaster(make(), D, rngs=rngs).forecast(xs, 2).shape == (B, 2, D, 1)
    assert nn.CTCRecognizer(make(), D, 7, rngs=rngs)(xs).shape == (B, T, 7)
    model = nn.LanguageModel(make(), 5, D, rngs=rngs)
    assert model.generate(ids[:, :4], 3, key=key).shape == (B, 3)
    with pytest.raises(ValueError, match=r"`cell` must be a layer for the 4 features that the model feeds it; got 3"):
        nn.SequenceClassifier(make(), 4, 7, rngs=rngs)
    with pytest.raises(ValueError, match="`kernel` is of a Cell or a Composite"):
        nn.SequenceClassifier(make(), D, 7, kernel=jaxseq.kernels.scan, rngs=rngs)
    with pytest.raises(
        TypeError, match=r"`cell` must be a Cell, a Composite, or a layer such as nn.TCN; Linear has no"
    ):
        nn.SequenceClassifier(nnx.Linear(2, 3, rngs=rngs), D, 7, rngs=rngs)
