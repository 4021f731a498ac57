"""xLSTM 7B, with separate ("single") or joined ("fused") weights.

Its `eps` is added to a denominator before a norm, which cancels its effect. jaxseq has none.
"""

import math

from jaxseq import check, nn
from jaxseq.interop._huggingface._keys import product, same
from jaxseq.interop._huggingface._model import Model, Option, common, made, optional


def _arguments(config):
    for name, other in (("num_blocks", "num_hidden_layers"), ("embedding_dim", "hidden_size")):
        if config[name] not in (None, config[other]):
            raise ValueError(f"`config[{name!r}]` must be `config[{other!r}]`; got {config[name]} and {config[other]}")
    H, heads, multiple = config["hidden_size"], config["num_heads"], config["ffn_round_up_to_multiple_of"]
    keys = int(H * config["qk_dim_factor"])
    if keys % heads:
        raise ValueError(f"`config['num_heads']` must divide hidden_size · qk_dim_factor; got {heads} and {keys}")
    return {
        "heads": heads,
        "inner": int(H * config["v_dim_factor"]),
        "key_size": keys // heads,
        "hidden": int((H * config["ffn_proj_factor"] + multiple - 1) // multiple * multiple),
        "cap": config["gate_soft_cap"],
    }


def _config(block, layers):
    cell, H = made(block), block.size
    if cell["cap"] is None:
        raise ValueError("transformers has no equivalent of `cap=None` of nn.XlstmBlock")
    return {
        "num_heads": cell["heads"],
        "gate_soft_cap": float(cell["cap"]),
        "v_dim_factor": _factor(cell["size"], H),
        "qk_dim_factor": _factor(cell["heads"] * cell["key_size"], H),
        "ffn_proj_factor": _factor(block.mlp.up.out_features, H),
        "ffn_round_up_to_multiple_of": 1,
    }


def _factor(size, features):
    """Returns a float such that `int(features * factor)` is `size`."""
    factor = size / features
    return factor if int(features * factor) == size else math.nextafter(factor, math.inf)


def _keys(config):
    arguments = _arguments(config)
    heads, W = arguments["heads"], arguments["inner"]
    keys = heads * arguments["key_size"]
    if config["weight_mode"] == "fused":
        enter, gates, up = (["qkv_opreact"], ()), (["ifgate_preact"], ()), (["proj_up_gate_z"], ())
    else:
        enter = ["q", "k", "v", "ogate_preact"], (keys, keys, W, W)
        gates = ["igate_preact", "fgate_preact"], (heads, heads)
        up = ["proj_up_gate", "proj_up"], (arguments["hidden"], arguments["hidden"])

    def joined(ours, theirs, part, leaf):
        names, rows = theirs
        return product(ours, [f"{part}.{name}.{leaf}" for name in names], rows)

    return [
        same("norm.scale", "norm_mlstm.weight"),
        same("mlp_norm.scale", "norm_ffn.weight"),
        same("out_norm.scale", "mlstm_layer.multihead_norm.weight"),
        joined("enter.kernel", enter, "mlstm_layer", "weight"),
        joined("gates.kernel", gates, "mlstm_layer", "weight"),
        joined(["cell.params.b_i", "cell.params.b_f"], gates, "mlstm_layer", "bias"),
        product("out.kernel", "mlstm_layer.out_proj.weight"),
        joined(["mlp.gate.kernel", "mlp.up.kernel"], up, "ffn", "weight"),
        product("mlp.down.kernel", "ffn.proj_down.weight"),
    ]


XLSTM = Model(
    nn.XlstmBlock,
    prefix="backbone.",
    layers="blocks",
    embeddings="embeddings",
    last_norm=same("last_norm.scale", "out_norm.weight"),
    epsilon="norm_eps",
    options={
        **common(50304, 4096, 32, False),
        "embedding_dim": Option(None, optional(check.positive_int)),
        "num_blocks": Option(None, optional(check.positive_int)),
        "norm_eps": Option(1e-6, check.positive_finite),
        "num_heads": Option(8, check.positive_int),
        "qk_dim_factor": Option(0.5, check.positive_finite),
        "v_dim_factor": Option(1.0, check.positive_finite),
        "ffn_proj_factor": Option(2.667, check.positive_finite),
        "ffn_round_up_to_multiple_of": Option(64, check.positive_int),
        "gate_soft_cap": Option(15.0, optional(check.positive_finite)),
        "weight_mode": Option("single", lambda name, value: check.one_of(name, value, ("single", "fused"))),
        "output_logit_soft_cap": Option(30.0, optional(check.positive)),
    },
    only={"use_bias": False, "eps": 1e-6},
    arguments=_arguments,
    config=_config,
    keys=_keys,
    cap="output_logit_soft_cap",
)
