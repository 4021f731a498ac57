"""Hugging Face's transformers on the same weights, drawn at random: its plain PyTorch code, values and gradients.

It computes states in float32 whatever it is given, so that is the dtype here.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from jaxseq import nn
from tests.nn.drawn import drawn
from tests.parity import huggingface_keys

B, T, H = 2, 70, 16  # more steps than a chunk has
RANDOM = np.random.default_rng(0)
XS = RANDOM.normal(size=(B, T, H)).astype(np.float32)
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def randomised(module):
    """The module with all params drawn, norms and biases too."""
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(torch.tensor(RANDOM.normal(0, 0.3, param.shape)))
    return module.float().eval()


def state_of(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def filled(module, params):
    """The module with its params from nested dicts, each used once."""
    graph, state = nnx.split(module)
    used = []

    def value(path, leaf):
        names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
        found = params
        for name in (name for name in names if name != "value"):
            found = found[name]
        used.append(found)
        assert found.shape == leaf.shape, names
        return jnp.asarray(found)

    state = jax.tree_util.tree_map_with_path(value, state)
    assert len(used) == len(jax.tree.leaves(params))
    return nnx.merge(graph, state)


def gradient_of_theirs(run):
    xs = torch.tensor(XS, requires_grad=True)
    ys = run(xs)
    torch.sum(torch.sin(ys)).backward()
    return ys.detach().numpy(), xs.grad.numpy()


def gradient_of_ours(layer):
    graph, params = nnx.split(layer)

    @jax.jit
    def run(params, xs):
        def loss(xs):
            ys = nnx.merge(graph, params)(xs)
            return jnp.sum(jnp.sin(ys)), ys

        return jax.grad(loss, has_aux=True)(xs)

    gradient, ys = run(params, XS)
    return ys, gradient


pytestmark = pytest.mark.learn
SMALL = {"hidden_size": H, "num_hidden_layers": 2, "vocab_size": 7}
MODELS = {
    "mamba": lambda: (
        transformers.MambaModel(transformers.MambaConfig(**SMALL, state_size=4, time_step_rank=3)),
        lambda rngs: nn.MambaBlock(H, state=4, rank=3, rngs=rngs),
    ),
    "mamba2": lambda: (
        transformers.Mamba2Model(
            transformers.Mamba2Config(**SMALL, state_size=4, num_heads=4, head_dim=8, n_groups=2, chunk_size=4)
        ),
        lambda rngs: nn.Mamba2Block(H, heads=4, state=4, groups=2, rngs=rngs),
    ),
    "gated_delta_net": lambda: (
        transformers.Qwen3NextModel(
            transformers.Qwen3NextConfig(
                **SMALL,
                intermediate_size=24,
                num_attention_heads=2,
                num_key_value_heads=1,
                layer_types=["linear_attention"] * 2,
                mlp_only_layers=[0, 1],
                linear_num_key_heads=2,
                linear_num_value_heads=4,
                linear_key_head_dim=3,
                linear_value_head_dim=5,
            )
        ),
        lambda rngs: nn.GatedDeltaNetBlock(H, heads=4, key_heads=2, key_size=3, value_size=5, hidden=24, rngs=rngs),
    ),
    "xlstm": lambda: (
        transformers.xLSTMModel(
            transformers.xLSTMConfig(**SMALL, num_heads=2, chunk_size=4, autocast_kernel_dtype="float32")
        ),
        lambda rngs: nn.XlstmBlock(H, heads=2, rngs=rngs),
    ),
}
LAST_NORMS = {"mamba": "norm_f", "mamba2": "norm_f", "gated_delta_net": "norm", "xlstm": "out_norm"}


@pytest.mark.parametrize("name", MODELS)
def test_a_stack_of_blocks(name):
    model, make = MODELS[name]()
    model = randomised(model)
    layers, convert = model.blocks if name == "xlstm" else model.layers, getattr(huggingface_keys, name)
    scale = getattr(model, LAST_NORMS[name]).weight.detach().numpy()
    params = {
        "blocks": {place: convert(state_of(layer), model.config) for place, layer in enumerate(layers)},
        "last_norm": {"scale": 1 + scale if name == "gated_delta_net" else scale},
    }
    epsilon = 1e-5 if name.startswith("mamba") else 1e-6
    ours = drawn(lambda rngs: nn.Blocks([make(rngs) for _ in layers], epsilon=epsilon, rngs=rngs))
    want, want_gradient = gradient_of_theirs(lambda xs: model(inputs_embeds=xs, use_cache=False).last_hidden_state)
    got, gradient = gradient_of_ours(filled(ours, params))
    np.testing.assert_allclose(got, want, **TOLERANCE)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5, atol=1e-5 * np.abs(want_gradient).max())


def test_griffin_from_the_second_step_on():
    """At a sequence's first step published code leaves √(1 - a²) out: ours starts from their carry after it."""
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaDecoderLayer

    config = transformers.RecurrentGemmaConfig(
        **SMALL, num_attention_heads=2, intermediate_size=48, block_types=("recurrent",)
    )
    theirs = randomised(RecurrentGemmaDecoderLayer(config, 0))
    block = drawn(lambda rngs: nn.GriffinBlock(H, heads=2, hidden=24, rngs=rngs))
    block = filled(block, huggingface_keys.griffin(state_of(theirs), config))
    places = torch.arange(T)[None].expand(B, T)
    with torch.no_grad():
        want = theirs(torch.tensor(XS), places, None, use_cache=False).numpy()
        first = theirs(torch.tensor(XS[:, :1]), places[:, :1], None, use_cache=True).numpy()
    mixer = theirs.temporal_block
    carry = nn.BlockCarry(np.swapaxes(mixer.conv1d_state.numpy(), 1, 2), mixer.rg_lru.recurrent_states.numpy())
    np.testing.assert_allclose(first, want[:, :1], **TOLERANCE)
    _, got = jax.jit(block.unroll)(XS[:, 1:], carry)
    np.testing.assert_allclose(got, want[:, 1:], **TOLERANCE)
