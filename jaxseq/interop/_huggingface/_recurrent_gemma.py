"""RecurrentGemma: its recurrent layers, whose norms store their scale minus 1. Attention layers have no equivalent.

At a sequence's first step transformers leaves out √(1 - a²).
"""

from jaxseq import check, nn
from jaxseq.interop._huggingface._keys import convolution, less_one, product, same
from jaxseq.interop._huggingface._model import Model, Option, common, made, mlp, optional, window


def _arguments(config):
    return {
        "inner": config["lru_width"] or config["hidden_size"],
        "heads": config["num_attention_heads"],
        "window": config["conv1d_width"],
        "hidden": config["intermediate_size"] // 2,
    }


def _config(block, layers):
    cell = made(block)
    return {
        "lru_width": cell["size"],
        "num_attention_heads": cell["heads"],
        "conv1d_width": window(block),
        "intermediate_size": 2 * block.mlp.up.out_features,
        "block_types": ["recurrent"],
    }


def _keys(config):
    arguments, lru = _arguments(config), "temporal_block.rg_lru"
    by_head = arguments["heads"], arguments["inner"] // arguments["heads"]
    products = {"gate": "linear_y", "enter": "linear_x", "out": "linear_out"}
    products = {ours: f"temporal_block.{theirs}" for ours, theirs in products.items()} | mlp("mlp_block")
    return [
        less_one("norm.scale", "temporal_pre_norm.weight"),
        less_one("mlp_norm.scale", "channel_pre_norm.weight"),
        *(product(f"{ours}.kernel", f"{theirs}.weight") for ours, theirs in products.items()),
        *(same(f"{ours}.bias", f"{theirs}.bias") for ours, theirs in products.items()),
        *convolution("temporal_block.conv_1d", True),
        same("cell.params.w_r", f"{lru}.recurrent_gate_weight"),
        same("cell.params.w_i", f"{lru}.input_gate_weight"),
        same("cell.params.b_r", f"{lru}.recurrent_gate_bias", by_head),
        same("cell.params.b_i", f"{lru}.input_gate_bias", by_head),
        same("cell.params.lam", f"{lru}.recurrent_param"),
    ]


def _refuse(config, layer):
    kinds = config["block_types"]
    kind = kinds[layer % len(kinds)]
    if kind != "recurrent":
        raise ValueError(
            f"jaxseq.nn has no equivalent of {check.short(kind)} in `config['block_types']`, which layer {layer} is; "
            "`from_layer` reads one layer"
        )


def _kinds(name, value):
    if not check.sequence(name, value, "names"):
        raise ValueError(f"`{name}` must name at least one kind of layer; it is empty")


RECURRENT_GEMMA = Model(
    nn.GriffinBlock,
    prefix="model.",
    layers="layers",
    embeddings="embed_tokens",
    last_norm=less_one("last_norm.scale", "final_norm.weight"),
    epsilon="rms_norm_eps",
    options={
        **common(256000, 2560, 26, True),
        "rms_norm_eps": Option(1e-6, check.positive_finite),
        "intermediate_size": Option(7680, check.positive_int),
        "num_attention_heads": Option(10, check.positive_int),
        "lru_width": Option(None, optional(check.positive_int)),
        "conv1d_width": Option(4, check.positive_int),
        "block_types": Option(("recurrent", "recurrent", "attention"), _kinds),
        "logits_soft_cap": Option(30.0, check.positive),
    },
    only={"hidden_activation": "gelu_pytorch_tanh"},
    arguments=_arguments,
    config=_config,
    keys=_keys,
    refuse=_refuse,
    cap="logits_soft_cap",
)
