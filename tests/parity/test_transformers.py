"""Hugging Face's transformers by `interop.huggingface`, its plain PyTorch code: values and gradients, and back.

It computes states in float32 whatever it is given, so that is the dtype here.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from transformers.initialization import no_init_weights

from jaxseq import interop, nn
from tests.nn.drawn import drawn
from tests.untyped import untyped

B, T, H = 2, 70, 16  # more steps than a chunk has
RANDOM = np.random.default_rng(0)
XS = RANDOM.normal(size=(B, T, H)).astype(np.float32)
TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def randomised(module, seed=0):
    """The module with all params drawn, norms and biases too; embeddings of 1, which norms neither stretch nor hide."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, param in module.named_parameters():
            param.copy_(torch.tensor(generator.normal(0, 1 if "embed" in name else 0.3, param.shape)))
    return module.float().eval()


def gradient_of_theirs(run):
    xs = torch.tensor(XS, requires_grad=True)
    ys = run(xs)
    torch.sum(torch.sin(ys)).backward()
    assert xs.grad is not None
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
SMALL: dict[str, Any] = {"hidden_size": H, "num_hidden_layers": 2, "vocab_size": 7}
MODELS = {
    "mamba": ("Mamba", {"state_size": 4, "time_step_rank": 3, "use_conv_bias": False}),
    "mamba2": ("Mamba2", {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4}),
    "qwen3_next": (
        "Qwen3Next",
        {
            "intermediate_size": 24,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "layer_types": ["linear_attention"] * 2,
            "mlp_only_layers": [0, 1],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 3,
            "linear_value_head_dim": 5,
        },
    ),
    "xlstm": ("xLSTM", {"num_heads": 2, "chunk_size": 4, "autocast_kernel_dtype": "float32"}),
    "xlstm fused": (
        "xLSTM",
        {"num_heads": 2, "chunk_size": 4, "autocast_kernel_dtype": "float32", "weight_mode": "fused"}
        | {"gate_soft_cap": 2.0, "qk_dim_factor": 0.25, "v_dim_factor": 2.0, "ffn_round_up_to_multiple_of": 5},
    ),
}


def their_model(name, kind="Model"):
    prefix, options = MODELS[name]
    config = getattr(transformers, f"{prefix}Config")(**SMALL, **options)
    with no_init_weights():  # which fails for xLSTM's joined weights
        model = getattr(transformers, f"{prefix}{kind}")(config)
    model.tie_weights()
    return randomised(model)


def loaded(arrays, config, kind):
    """A model of transformers made of what `to_state_dict` returns."""
    config = transformers.AutoConfig.for_model(**{"vocab_size": 7, **config})
    model = getattr(transformers, kind).from_config(config).float().eval()
    found = model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()}, strict=False)
    assert found.unexpected_keys == []
    assert all("embed" in name for name in found.missing_keys)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_blocks_agree(name):
    model = their_model(name)
    ours = interop.huggingface.from_model(model)
    want, want_gradient = gradient_of_theirs(lambda xs: model(inputs_embeds=xs, use_cache=False).last_hidden_state)
    got, gradient = gradient_of_ours(ours)
    np.testing.assert_allclose(got, want, **TOLERANCE)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5, atol=1e-5 * np.abs(want_gradient).max())
    again = loaded(*interop.huggingface.to_state_dict(ours), "AutoModel")
    with torch.no_grad():
        back = again(inputs_embeds=torch.tensor(XS), use_cache=False).last_hidden_state.numpy()
    np.testing.assert_allclose(back, want, **TOLERANCE)


@pytest.mark.parametrize("name", ["mamba", "mamba2", "qwen3_next"])
def test_language_models_agree(name, tmp_path):
    """As transformers writes them to a folder, and read without it."""
    model = their_model(name, "ForCausalLM")
    ids = RANDOM.integers(0, 7, (B, T))
    with torch.no_grad():
        want = model(torch.tensor(ids), use_cache=False).logits.numpy()
    model.save_pretrained(tmp_path)
    ours = interop.huggingface.from_causal_lm(*interop.huggingface.read(tmp_path))
    graph, params = nnx.split(ours)
    got = jax.jit(lambda params, ids: nnx.merge(graph, params)(ids))(params, ids)
    np.testing.assert_allclose(got, want, **TOLERANCE)
    again = loaded(*interop.huggingface.to_state_dict(ours), "AutoModelForCausalLM")
    with torch.no_grad():
        np.testing.assert_allclose(again(torch.tensor(ids), use_cache=False).logits.numpy(), want, **TOLERANCE)


GEMMA: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 48, "lru_width": 16, "num_hidden_layers": 3}


def test_griffin_from_the_second_step_on():
    """At a sequence's first step published code leaves √(1 - a²) out: ours starts from their carry after it.

    The third layer is attention, which is none of ours.
    """
    config = transformers.RecurrentGemmaConfig(**SMALL | GEMMA)
    model = randomised(transformers.RecurrentGemmaModel(config))
    with pytest.raises(ValueError, match="'attention' in `config\\['block_types'\\]`, which layer 2"):
        interop.huggingface.from_model(model)
    theirs, block = untyped(model.layers[1]), interop.huggingface.from_layer(model.state_dict(), config, 1)
    places = torch.arange(T)[None].expand(B, T)
    with torch.no_grad():
        want = theirs(torch.tensor(XS), places, None, use_cache=False).numpy()
        first = theirs(torch.tensor(XS[:, :1]), places[:, :1], None, use_cache=True).numpy()
    mixer = theirs.temporal_block
    carry = nn.BlockCarry(np.swapaxes(mixer.conv1d_state.numpy(), 1, 2), mixer.rg_lru.recurrent_states.numpy())
    np.testing.assert_allclose(first, want[:, :1], **TOLERANCE)
    _, got = jax.jit(block.unroll)(XS[:, 1:], carry)
    np.testing.assert_allclose(got, want[:, 1:], **TOLERANCE)


def test_griffin_is_written():
    """Of one layer and back, as the function is theirs but for the first step."""
    layer = drawn(lambda rngs: nn.Blocks([nn.GriffinBlock(H, heads=2, hidden=5, rngs=rngs)], rngs=rngs))
    model = loaded(*interop.huggingface.to_state_dict(layer), "AutoModel")
    again = interop.huggingface.from_model(model)
    for was, now in zip(*(jax.tree.leaves(nnx.state(each)) for each in (layer, again)), strict=True):
        np.testing.assert_allclose(now, was, rtol=0, atol=1e-7)


CONFIGS = {
    "mamba": transformers.MambaConfig,
    "mamba2": transformers.Mamba2Config,
    "recurrent_gemma": transformers.RecurrentGemmaConfig,
    "xlstm": transformers.xLSTMConfig,
    "qwen3_next": transformers.Qwen3NextConfig,
}
WITHOUT_EFFECT = {  # on a function of floats: how params are drawn, ids, caches, precision, kernels, and losses
    *("initializer_range", "w_init_variance_scale", "rescale_prenorm_residual", "pad_token_id", "bos_token_id"),
    *("eos_token_id", "use_cache", "residual_in_fp32", "norm_reduction_force_float32", "return_last_states"),
    *("time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor"),
    *("autocast_kernel_dtype", "inference_state_dtype", "max_inference_chunksize", "chunk_size", "chunkwise_kernel"),
    *("sequence_kernel", "step_kernel", "mode", "use_mambapy", "use_associative_scan", "output_router_logits"),
    *("router_aux_loss_coef", "add_out_norm"),  # which no code of transformers reads
}
OF_OTHERS = {  # Mamba's rank, and options of attention and experts
    "mamba2": {"time_step_rank"},
    "recurrent_gemma": {"attention_window_size", "rope_parameters", "attention_dropout", "num_key_value_heads"}
    | {"attention_bias"},
    "qwen3_next": {"num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rope_parameters"}
    | {"attention_bias", "attention_dropout", "head_dim", "moe_intermediate_size", "num_experts_per_tok"}
    | {"shared_expert_intermediate_size", "norm_topk_prob"},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_option_of_transformers_is_known(kind):
    """And has its default; one that a new version adds is missing here."""
    from jaxseq.interop._huggingface._modules import MODELS as KNOWN

    model = KNOWN[kind]
    common = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    own = {field.name: field for field in dataclasses.fields(CONFIGS[kind])}
    ours = {name: option.default for name, option in model.options.items()} | model.only
    others = {"full_attention_interval"}  # which its constructor takes beside its fields
    assert {*own} - common - {*ours} - WITHOUT_EFFECT - OF_OTHERS.get(kind, set()) == set()
    assert {*ours} - {*own} <= others
    for name in {*ours} - others:
        assert own[name].default == ours[name], name
