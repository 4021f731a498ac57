"""A valid call of each public function of `interop` that needs no other library than Flax and safetensors."""

import json

import jax
import jax.numpy as jnp
import safetensors.numpy
from flax import linen, nnx

import jaxseq
from jaxseq import interop, nn

NET = jaxseq.stack(jaxseq.gru(3), jaxseq.gru(3))
PARAMS = jax.tree.map(lambda leaf: leaf + 0.5, NET.init(jax.random.key(0), 2))
PLAIN = tuple(layer._replace(b_hn=0 * layer.b_hn) for layer in PARAMS)
CORE = jaxseq.gru(3, reset_after=False)
MODULE = linen.RNN(linen.GRUCell(3))
MAMBA = nn.Blocks([nn.MambaBlock(4, state=2, rngs=nnx.Rngs(0))], epsilon=1e-5, rngs=nnx.Rngs(0))


def calls(folder):
    """The arguments by name; see `calls.all_calls`."""
    path = folder / "net.safetensors"
    interop.safetensors.save(path, NET, PARAMS)
    arrays = interop.torch.to_state_dict(NET, PARAMS)
    kernels = interop.keras.to_weights(jaxseq.gru(3), PARAMS[0])
    core = PARAMS[0]._replace(b_hn=None)
    variables = MODULE.init(jax.random.key(0), jnp.ones((2, 4, 2)))
    weights, config = interop.huggingface.to_state_dict(MAMBA)
    of_model = {"state_dict": weights, "config": config}
    whole = weights | {"embeddings.weight": weights["norm_f.weight"][None].repeat(5, 0)}
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(weights, folder / "model" / "model.safetensors")
    return {
        "interop.huggingface.read": {"path": folder / "model"},
        "interop.huggingface.from_state_dict": of_model,
        "interop.huggingface.from_layer": {**of_model, "layer": 0},
        "interop.huggingface.from_causal_lm": {"state_dict": whole, "config": {**config, "vocab_size": 5}},
        "interop.huggingface.to_state_dict": {"layer": MAMBA},
        "interop.torch.from_state_dict": {"state_dict": arrays, "prefix": "", "kind": "gru", "nonlinearity": "tanh"}
        | {"dropout": 0.5},
        "interop.torch.to_state_dict": {"net": NET, "params": PARAMS, "prefix": "rnn.", "bias": True, "cell": False},
        "interop.keras.from_weights": {"weights": kernels, "kind": "gru", "bidirectional": False, "merge": "concat"}
        | {"use_bias": True, "reset_after": True, "activation": "tanh", "recurrent_activation": "sigmoid"},
        "interop.keras.to_weights": {"net": NET, "params": PARAMS},
        "interop.flax.from_module": {"module": MODULE, "variables": variables, "shape": None},
        "interop.flax.to_linen": {"net": NET, "params": PARAMS},
        "interop.haiku.from_params": {"params": interop.haiku.to_params(CORE, core), "names": "gru"},
        "interop.haiku.to_params": {"net": CORE, "params": core},
        "interop.flax.to_nnx": {"net": NET, "params": PLAIN},
        "interop.safetensors.save": {"path": folder / "other.safetensors", "net": NET, "params": PARAMS},
        "interop.safetensors.load": {"path": path},
    }
