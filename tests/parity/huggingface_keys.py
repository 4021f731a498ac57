"""The weights of a layer of Hugging Face's transformers as the params of a block of `nn`.

Each function takes the layer's state dict, of NumPy arrays, and its config; it returns nested dicts by the names of the
block's attributes. PyTorch keeps a product's matrix as [out, in], a convolution's as [features, 1, window], the latest
step last.
"""

import numpy as np


def mamba(state, config):
    """`MambaBlock` as the params of `nn.MambaBlock`; `x_proj` holds the rows of Δ's first product, of B and of C."""
    R, N = config.time_step_rank, config.state_size
    w_1, w_b, w_c = np.split(state["mixer.x_proj.weight"].T, [R, R + N], axis=1)
    return {
        "norm": {"scale": state["norm.weight"]},
        "enter": linear(state, "mixer.in_proj"),
        "out": linear(state, "mixer.out_proj"),
        "conv": convolution(state, "mixer.conv1d"),
        "cell": {
            "params": {
                "w_1": w_1,
                "w_2": state["mixer.dt_proj.weight"].T,
                "b_dt": state["mixer.dt_proj.bias"],
                "w_b": w_b,
                "w_c": w_c,
                "a_log": state["mixer.A_log"],
                "d": state["mixer.D"],
            }
        },
    }


def mamba2(state, config):
    """`Mamba2Block` as the params of `nn.Mamba2Block`, whose products stand in the same order."""
    del config
    own = {"b_dt": state["mixer.dt_bias"], "a_log": state["mixer.A_log"], "d": state["mixer.D"]}
    return {
        "norm": {"scale": state["norm.weight"]},
        "out_norm": {"scale": state["mixer.norm.weight"]},
        "enter": linear(state, "mixer.in_proj"),
        "out": linear(state, "mixer.out_proj"),
        "conv": convolution(state, "mixer.conv1d"),
        "cell": {"params": own},
    }


def gated_delta_net(state, config):
    """`Qwen3NextDecoderLayer` of linear attention as the params of `nn.GatedDeltaNetBlock`.

    Its products stand key head by key head, in each q, k, v, z, or b, a. Norms of residuals keep their scale less 1.
    """
    heads, K = config.linear_num_key_heads, config.linear_key_head_dim
    shared = config.linear_num_value_heads // heads
    V = shared * config.linear_value_head_dim

    def joined(name, sizes):
        rows = state[f"linear_attn.{name}.weight"]
        parts = np.split(rows.reshape(heads, -1, rows.shape[-1]), np.cumsum(sizes)[:-1], axis=1)
        return {"kernel": np.concatenate([part.reshape(-1, rows.shape[-1]) for part in parts]).T}

    own = {"a_log": state["linear_attn.A_log"], "b_a": state["linear_attn.dt_bias"]}
    return {
        "norm": {"scale": 1 + state["input_layernorm.weight"]},
        "mlp_norm": {"scale": 1 + state["post_attention_layernorm.weight"]},
        "out_norm": {"scale": state["linear_attn.norm.weight"]},
        "enter": joined("in_proj_qkvz", (K, K, V, V)),
        "gates": joined("in_proj_ba", (shared, shared)),
        "out": linear(state, "linear_attn.out_proj"),
        "conv": convolution(state, "linear_attn.conv1d"),
        "cell": {"params": own},
        "mlp": mlp(state, "mlp"),
    }


def griffin(state, config):
    """`RecurrentGemmaDecoderLayer` of a recurrent block as the params of `nn.GriffinBlock`; norms keep scale - 1."""
    del config
    lru = "temporal_block.rg_lru."
    own = {
        "w_r": state[lru + "recurrent_gate_weight"],
        "w_i": state[lru + "input_gate_weight"],
        "b_r": state[lru + "recurrent_gate_bias"].reshape(-1),
        "b_i": state[lru + "input_gate_bias"].reshape(-1),
        "lam": state[lru + "recurrent_param"],
    }
    return {
        "norm": {"scale": 1 + state["temporal_pre_norm.weight"]},
        "mlp_norm": {"scale": 1 + state["channel_pre_norm.weight"]},
        "gate": linear(state, "temporal_block.linear_y"),
        "enter": linear(state, "temporal_block.linear_x"),
        "out": linear(state, "temporal_block.linear_out"),
        "conv": convolution(state, "temporal_block.conv_1d"),
        "cell": {"params": own},
        "mlp": mlp(state, "mlp_block"),
    }


def xlstm(state, config):
    """`xLSTMBlock`, with its weights apart ("single"), as the params of `nn.XlstmBlock`."""
    del config

    def joined(*names):
        return {"kernel": np.concatenate([state[f"mlstm_layer.{name}.weight"] for name in names]).T}

    mlp_names = ("ffn.proj_up_gate", "ffn.proj_up", "ffn.proj_down")
    return {
        "norm": {"scale": state["norm_mlstm.weight"]},
        "mlp_norm": {"scale": state["norm_ffn.weight"]},
        "out_norm": {"scale": state["mlstm_layer.multihead_norm.weight"]},
        "enter": joined("q", "k", "v", "ogate_preact"),
        "gates": joined("igate_preact", "fgate_preact"),
        "out": linear(state, "mlstm_layer.out_proj"),
        "cell": {"params": {f"b_{gate}": state[f"mlstm_layer.{gate}gate_preact.bias"] for gate in "if"}},
        "mlp": dict(zip(("gate", "up", "down"), (linear(state, name) for name in mlp_names), strict=True)),
    }


def linear(state, name):
    """A product, with its bias if there is one."""
    found = {"kernel": state[f"{name}.weight"].T}
    return found | {"bias": state[f"{name}.bias"]} if f"{name}.bias" in state else found


def convolution(state, name):
    """A convolution, ours with the present first; a bias of zeros where theirs has none."""
    w = np.flip(state[f"{name}.weight"][:, 0], axis=1).T
    return {"params": {"w": w, "b": state.get(f"{name}.bias", np.zeros_like(w[0]))}}


def mlp(state, name):
    return {ours: linear(state, f"{name}.{ours}_proj") for ours in ("gate", "up", "down")}
