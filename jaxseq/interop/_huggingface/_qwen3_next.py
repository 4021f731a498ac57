"""Qwen3-Next: layers of linear attention (gated DeltaNet) with an MLP. Full attention and experts have no equivalent.

Rows of products are grouped by key head; a group holds q, k, v, z, or b, a. Residual norms store their scale minus 1.
"""

import numpy as np

from jaxseq import check, nn
from jaxseq.interop._huggingface._keys import convolution, less_one, product, same
from jaxseq.interop._huggingface._model import Model, Option, common, made, mlp, optional, window


def _arguments(config):
    return {
        "heads": config["linear_num_value_heads"],
        "key_heads": config["linear_num_key_heads"],
        "key_size": config["linear_key_head_dim"],
        "value_size": config["linear_value_head_dim"],
        "window": config["linear_conv_kernel_dim"],
        "hidden": config["intermediate_size"],
    }


def _config(block, layers):
    cell = made(block)
    return {
        "linear_num_value_heads": cell["heads"],
        "linear_num_key_heads": cell["key_heads"],
        "linear_key_head_dim": cell["key_size"],
        "linear_value_head_dim": cell["size"] // cell["heads"],
        "linear_conv_kernel_dim": window(block),
        "intermediate_size": block.mlp.up.out_features,
        "layer_types": ["linear_attention"] * layers,
        "num_experts": 0,
    }


def _keys(config):
    arguments = _arguments(config)
    heads, K = arguments["key_heads"], arguments["key_size"]
    shared = arguments["heads"] // heads
    V = shared * arguments["value_size"]
    return [
        less_one("norm.scale", "input_layernorm.weight"),
        less_one("mlp_norm.scale", "post_attention_layernorm.weight"),
        same("out_norm.scale", "linear_attn.norm.weight"),
        product("enter.kernel", "linear_attn.in_proj_qkvz.weight", order=_by_head(heads, (K, K, V, V))),
        product("gates.kernel", "linear_attn.in_proj_ba.weight", order=_by_head(heads, (shared, shared))),
        product("out.kernel", "linear_attn.out_proj.weight"),
        *convolution("linear_attn.conv1d", False),
        same("cell.params.a_log", "linear_attn.A_log"),
        same("cell.params.b_a", "linear_attn.dt_bias"),
        *(product(f"{ours}.kernel", f"{theirs}.weight") for ours, theirs in mlp("mlp").items()),
    ]


def _by_head(heads, sizes):
    """Returns the places of the rows of our concatenated products in theirs, which are grouped by head."""
    rows = np.arange(heads * sum(sizes)).reshape(heads, sum(sizes))
    return np.concatenate([part.ravel() for part in np.split(rows, np.cumsum(sizes)[:-1], axis=1)])


def _refuse(config, layer):
    kinds, every = config["layer_types"], config["full_attention_interval"]
    if kinds is None:
        kind = "linear_attention" if (layer + 1) % every else "full_attention"
    else:
        kind = kinds[layer] if layer < len(kinds) else None
    if kind != "linear_attention":
        raise ValueError(
            f"jaxseq.nn has no equivalent of {check.short(kind)} in `config['layer_types']`, which layer {layer} is; "
            "`from_layer` reads one layer"
        )
    has_mlp = layer in (config["mlp_only_layers"] or ()) or (layer + 1) % config["decoder_sparse_step"]
    if config["num_experts"] and not has_mlp:
        raise ValueError(
            f"jaxseq.nn has no equivalent of `config['num_experts']={config['num_experts']}`, which layer {layer} has "
            "instead of an MLP"
        )


QWEN3_NEXT = Model(
    nn.GatedDeltaNetBlock,
    prefix="model.",
    layers="layers",
    embeddings="embed_tokens",
    last_norm=less_one("last_norm.scale", "norm.weight"),
    epsilon="rms_norm_eps",
    options={
        **common(151936, 2048, 48, False),
        "rms_norm_eps": Option(1e-6, check.positive_finite),
        "intermediate_size": Option(5632, check.positive_int),
        "linear_num_value_heads": Option(32, check.positive_int),
        "linear_num_key_heads": Option(16, check.positive_int),
        "linear_key_head_dim": Option(128, check.positive_int),
        "linear_value_head_dim": Option(128, check.positive_int),
        "linear_conv_kernel_dim": Option(4, check.positive_int),
        "layer_types": Option(None, optional(check.sequence)),
        "full_attention_interval": Option(4, check.positive_int),
        "num_experts": Option(512, check.natural),
        "decoder_sparse_step": Option(1, check.positive_int),
        "mlp_only_layers": Option(None, optional(check.sequence)),
    },
    only={"hidden_act": "silu"},
    arguments=_arguments,
    config=_config,
    keys=_keys,
    refuse=_refuse,
)
