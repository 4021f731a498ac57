"""The residual blocks against their equations, and what puts them one after the other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxseq
from jaxseq import nn
from jaxseq.cells._slstm import projected_slstm
from tests import compiled
from tests.nn import plain_blocks
from tests.nn.blocks import BLOCKS, H, all_blocks
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T = 2, 9
XS = np.random.default_rng(0).normal(size=(B, T, H))


def plain(module):
    """Params as nested dicts of arrays; NamedTuples by their fields, lists by their places."""
    return nested(nnx.to_pure_dict(nnx.state(module, nnx.Param)))


def nested(tree):
    if isinstance(tree, dict):
        return {name: nested(each) for name, each in tree.items()}
    if hasattr(tree, "_asdict"):
        return nested({name: each for name, each in tree._asdict().items() if each is not None})
    return np.asarray(tree)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_its_equations(name, x64):
    block = drawn(BLOCKS[name].make)
    want = [BLOCKS[name].plain(plain(block), xs) for xs in XS]
    np.testing.assert_allclose(jax.jit(block)(jnp.asarray(XS)), want, rtol=1e-10, atol=1e-10)


@pytest.mark.some(1)
@pytest.mark.parametrize("norm", ["rms", "layer", None])
def test_blocks_are_run_one_after_the_other_and_normalised(norm, x64):
    def make(rngs):
        blocks = [BLOCKS["mamba"].make(rngs=rngs), BLOCKS["griffin"].make(rngs=rngs)]
        return nn.Blocks(blocks, in_features=3, norm=norm, epsilon=0.01, rngs=rngs)

    layer, xs = drawn(make), XS[:, :, :3]
    params: Any = plain(layer)
    names = BLOCKS["mamba"], BLOCKS["griffin"]
    want = [plain_blocks.linear(row, params["enter"]) for row in xs]
    for place, entry in enumerate(names):
        want = [entry.plain(params["blocks"][place], row) for row in want]
    if norm is not None:
        normed = {"rms": plain_blocks.rms, "layer": plain_blocks.layer}[norm]
        want = [[normed(x, params["last_norm"]["scale"], 0.01) for x in row] for row in want]
    np.testing.assert_allclose(jax.jit(layer)(jnp.asarray(xs)), want, rtol=1e-10, atol=1e-10)


def model_of(make):
    """A language model of 8 ids."""
    return lambda rngs: nn.LanguageModel(make(rngs), 8, H, rngs=rngs)


def every_block(rngs):
    return nn.Blocks(all_blocks(rngs), rngs=rngs)


@pytest.mark.learn
def test_generation_takes_constant_memory():
    """Ids apart, what a text takes beside params does not grow with it; a cache of keys and values does."""

    def held(make, length):
        model = drawn(model_of(make))
        write = nnx.jit(lambda model, prompt: model.generate(prompt, length, temperature=0))
        return compiled.memory(write.lower(model, np.ones((B, 4), np.int32)).compile()).temp_size_in_bytes

    def with_room_for(length):
        room = {"causal": True, "max_length": length + 4}
        return lambda rngs: nn.Transformer(H, H, layers=1, heads=2, **room, rngs=rngs)

    short, long = 16, 512
    ids = B * np.dtype(np.int32).itemsize * (long - short)
    assert held(every_block, long) - held(every_block, short) <= ids
    assert held(with_room_for(long), long) - held(with_room_for(short), short) > 10 * ids

    layer = drawn(every_block)
    after = lambda T: jax.tree.map(jnp.shape, jax.eval_shape(layer.unroll, jnp.zeros((B, T, H)))[0])
    assert after(1) == after(100 * T) == jax.tree.map(jnp.shape, jax.eval_shape(lambda: layer.initial_carry((B,))))


@pytest.mark.learn
def test_the_gradient_is_the_same_where_insides_are_computed_again():
    def gradients(remat):
        layer = drawn(lambda rngs: nn.Blocks([BLOCKS["mamba2"].make(rngs=rngs)], remat=remat, rngs=rngs))
        graph, params = nnx.split(layer)
        loss = lambda params: jnp.sum(jnp.sin(nnx.merge(graph, params)(XS.astype(np.float32))))
        return jax.jit(jax.grad(loss))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), gradients(True), gradients(False))


def test_the_hand_written_backward_of_an_slstm_behind_projections(x64):
    cell = projected_slstm(4, 2)
    params = jax.tree.map(lambda leaf: leaf + 0.1, cell.init(jax.random.key(0), 16))
    jaxseq.check_bptt(cell, params, np.random.default_rng(1).normal(size=(5, B, 16)))


@pytest.mark.some(0, learn=4)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_language_model_of_blocks_learns_to_count(name):
    """Texts go up in steps of one to three ids of a ring of eight: which, the last two ids tell."""
    V, length = 8, 12
    ids = (np.arange(V)[:, None, None] + np.arange(1, 4)[:, None] * np.arange(length)) % V
    ids = jnp.asarray(ids.reshape(-1, length), jnp.int32)

    def make(rngs):
        small = BLOCKS[name].make
        blocks = [small.func(2 * H, **small.keywords, rngs=rngs) for _ in range(2)]
        return nn.LanguageModel(nn.Blocks(blocks, rngs=rngs), V, 2 * H, rngs=rngs)

    graph, params = nnx.split(nnx.jit(lambda: make(nnx.Rngs(0)))())
    optimiser = optax.adam(0.02)

    def loss(params):
        logits = nnx.merge(graph, params)(ids[:, :-1])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])[:, 1:])

    @jax.jit
    def train(params):
        def step(run, _):
            params, state = run
            value, gradients = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(gradients, state)
            return (optax.apply_updates(params, updates), state), value

        (params, _), losses = jax.lax.scan(step, (params, optimiser.init(params)), length=500)
        return params, losses

    params, losses = train(params)
    assert losses[-1] < 0.1 < 1 < losses[0]
    model = nnx.merge(graph, params)
    written = jax.jit(lambda prompt: model.generate(prompt, length - 3, temperature=0))(ids[:, :3])
    np.testing.assert_array_equal(written, ids[:, 3:])


def test_what_does_not_fit_is_refused_by_its_name():
    rngs = nnx.Rngs(0)
    one = drawn(nn.MambaBlock, H)
    with pytest.raises(ValueError, match=r"`heads` must divide `inner`; got 3 and 4"):
        nn.GriffinBlock(H, heads=3, rngs=rngs)
    with pytest.raises(ValueError, match=r"`xs` must have the 4 features"):
        one(jnp.ones((B, T, H + 1)))
    with pytest.raises(ValueError, match=r"`carry` must be what this layer returned for this batch"):
        one.step(one.initial_carry((B + 1,)), jnp.ones((B, H)))
    of_text = jax.tree.map(lambda leaf: np.full(leaf.shape, "a"), nn.MlstmBlock(4, heads=2, rngs=nnx.Rngs(0)))
    with pytest.raises(TypeError, match=r"`blocks\[0\]` must have floating params; got <U1 \("):
        nn.Blocks([of_text], rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`blocks` must hold at least one block; got none"):
        nn.Blocks([], rngs=rngs)
    with pytest.raises(TypeError, match=r"`blocks\[1\]` must be a layer such as nn.TCN; Linear has no `size`"):
        nn.Blocks([one, untyped(drawn(nnx.Linear, H, H))], rngs=rngs)
    with pytest.raises(
        ValueError, match=r"`blocks\[1\]` must read the 4 features that the block before it returns; got 5"
    ):
        nn.Blocks([one, drawn(nn.MambaBlock, H + 1)], rngs=rngs)
    with pytest.raises(ValueError, match=r"`blocks\[0\]` must be causal"):
        nn.Blocks([drawn(nn.Transformer, H, H, layers=1, heads=2, causal=False)], rngs=rngs)
