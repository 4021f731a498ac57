"""Mamba and Mamba-2."""

import math

from jaxseq import check, nn
from jaxseq.interop._huggingface._keys import convolution, product, same
from jaxseq.interop._huggingface._model import Model, Option, common, made, window


def _rank(name, value):
    return value if value == "auto" else check.positive_int(name, value)


def _mamba_arguments(config):
    rank = config["time_step_rank"]
    return {
        "inner": config["expand"] * config["hidden_size"],
        "state": config["state_size"],
        "rank": None if rank == "auto" else rank,
        "window": config["conv_kernel"],
    }


def _mamba_config(block, layers):
    cell = made(block)
    return {"state_size": cell["state"], "time_step_rank": cell["rank"], **_common_config(block)}


def _mamba_keys(config):
    return [
        *_common_keys(config),
        product([f"cell.params.{name}" for name in ("w_1", "w_b", "w_c")], "mixer.x_proj.weight"),
        product("cell.params.w_2", "mixer.dt_proj.weight"),
        same("cell.params.b_dt", "mixer.dt_proj.bias"),
    ]


def _mamba2_arguments(config):
    W, heads, size = config["expand"] * config["hidden_size"], config["num_heads"], config["head_dim"]
    if heads * size != W:
        raise ValueError(f"`config` must have num_heads · head_dim = expand · hidden_size; got {heads} · {size}, {W}")
    sizes = {"state": config["state_size"], "groups": config["n_groups"], "window": config["conv_kernel"]}
    return {"inner": W, "heads": heads, **sizes}


def _mamba2_config(block, layers):
    cell = made(block)
    heads = {"num_heads": cell["heads"], "head_dim": cell["size"] // cell["heads"]}
    return {**heads, "state_size": cell["state"], "n_groups": cell["groups"], **_common_config(block)}


def _mamba2_keys(config):
    return [
        *_common_keys(config),
        same("out_norm.scale", "mixer.norm.weight"),
        same("cell.params.b_dt", "mixer.dt_bias"),
    ]


def _common_config(block):
    expand, rest = divmod(block.out.in_features, block.size)
    if rest:
        raise ValueError(
            f"transformers has no equivalent of `inner={block.out.in_features}`: no multiple of {block.size} `features`"
        )
    return {"expand": expand, "conv_kernel": window(block), "use_conv_bias": True}


def _common_keys(config):
    return [
        same("norm.scale", "norm.weight"),
        product("enter.kernel", "mixer.in_proj.weight"),
        product("out.kernel", "mixer.out_proj.weight"),
        *convolution("mixer.conv1d", config["use_conv_bias"]),
        same("cell.params.a_log", "mixer.A_log"),
        same("cell.params.d", "mixer.D"),
    ]


def _common_options(state):
    return {
        "layer_norm_epsilon": Option(1e-5, check.positive_finite),
        "expand": Option(2, check.positive_int),
        "state_size": Option(state, check.positive_int),
        "conv_kernel": Option(4, check.positive_int),
        "use_conv_bias": Option(True, check.switch),
    }


_ONLY = {"use_bias": False, "hidden_act": "silu"}

MAMBA = Model(
    nn.MambaBlock,
    prefix="backbone.",
    layers="layers",
    embeddings="embeddings",
    last_norm=same("last_norm.scale", "norm_f.weight"),
    epsilon="layer_norm_epsilon",
    options={**common(50280, 768, 32, True), **_common_options(16), "time_step_rank": Option("auto", _rank)},
    only=_ONLY,
    arguments=_mamba_arguments,
    config=_mamba_config,
    keys=_mamba_keys,
)
MAMBA2 = Model(
    nn.Mamba2Block,
    prefix="backbone.",
    layers="layers",
    embeddings="embeddings",
    last_norm=same("last_norm.scale", "norm_f.weight"),
    epsilon="layer_norm_epsilon",
    options={
        **common(32768, 4096, 64, False),
        **_common_options(128),
        "num_heads": Option(128, check.positive_int),
        "head_dim": Option(64, check.positive_int),
        "n_groups": Option(8, check.positive_int),
    },
    only={**_ONLY, "time_step_limit": (0.0, math.inf)},
    arguments=_mamba2_arguments,
    config=_mamba2_config,
    keys=_mamba2_keys,
)
