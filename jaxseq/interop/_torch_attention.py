"""Converts PyTorch's multi-head attention to `nnx.MultiHeadAttention` and back. Transformers use the same arrays.

in_proj_weight [3 E, E]    queries, keys and values, joined by rows; separate if kdim and vdim are other sizes
kernel                     [in, heads, features of a head] in Flax, of the last product [heads, features, out]
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq.interop._arrays import array, tensor

PARTS = ("query", "key", "value")


def read(module: Any) -> nnx.MultiHeadAttention:
    """Returns the layer. See `torch.from_attention`."""
    kind = type(module).__name__
    if not type(module).__module__.startswith("torch.") or kind != "MultiheadAttention":
        raise TypeError(f"`module` must be a torch.nn.MultiheadAttention; got {kind}")
    if module.kdim != module.vdim:
        raise ValueError(f"nnx.MultiHeadAttention has no equivalent of `kdim` {module.kdim} with `vdim` {module.vdim}")
    if (module.in_proj_bias is None) != (module.out_proj.bias is None):
        raise ValueError("nnx.MultiHeadAttention has no equivalent of `module`: only some of its products have a bias")
    E, heads = module.embed_dim, module.num_heads
    found = products("module", module)
    layer = nnx.eval_shape(
        lambda: nnx.MultiHeadAttention(
            heads,
            in_features=E,
            in_kv_features=module.kdim,
            use_bias=module.out_proj.bias is not None,
            decode=False,
            param_dtype=jnp.result_type(found["out"][0]),
            rngs=nnx.Rngs(0),
        )
    )
    for name, (weight, bias) in found.items():
        ours = getattr(layer, name)
        ours.kernel.set_value(jnp.asarray(weight.T.reshape(ours.kernel.shape)))
        if bias is not None:
            ours.bias.set_value(jnp.asarray(bias.reshape(ours.bias.shape)))
    return layer


def write(layer: nnx.MultiHeadAttention) -> Any:
    """Returns the module. See `torch.to_attention`."""
    import torch  # pyright: ignore[reportMissingImports]

    if not isinstance(layer, nnx.MultiHeadAttention):
        raise TypeError(f"`layer` must be an nnx.MultiHeadAttention; got {type(layer).__name__}")
    E, heads, kdim = layer.in_features, layer.num_heads, layer.in_kv_features
    for name, differs in {
        f"qkv_features={layer.qkv_features}": layer.qkv_features != E,
        f"out_features={layer.out_features}": layer.out_features != E,
        "num_kv_heads": getattr(layer, "num_kv_heads", heads) != heads,
        "normalize_qk": layer.normalize_qk,
        "attention_fn": layer.attention_fn is not nnx.dot_product_attention,
    }.items():
        if differs:
            raise ValueError(f"PyTorch has no equivalent of `{name}` of this nnx.MultiHeadAttention")
    weights, biases = {}, {}
    for name, rows in {"query": E, "key": kdim, "value": kdim, "out": E}.items():
        part = getattr(layer, name)
        weights[name] = array(f"layer.{name}.kernel", part.kernel).reshape(rows, E).T
        if layer.use_bias:
            biases[name] = array(f"layer.{name}.bias", part.bias).reshape(E)
    state = {"out_proj.weight": weights["out"]}
    if kdim == E:
        state["in_proj_weight"] = np.concatenate([weights[name] for name in PARTS])
    else:
        state |= {f"{name[0]}_proj_weight": weights[name] for name in PARTS}
    if layer.use_bias:
        state |= {"out_proj.bias": biases["out"], "in_proj_bias": np.concatenate([biases[name] for name in PARTS])}
    tensors = {name: tensor(value) for name, value in state.items()}
    options = {"bias": bool(layer.use_bias), "kdim": kdim, "vdim": kdim, "batch_first": True}
    module = torch.nn.MultiheadAttention(E, heads, **options, dtype=tensors["out_proj.weight"].dtype)
    module.load_state_dict(tensors)
    return module


def products(where: str, theirs: Any) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Returns weights `[out, in]` and biases (None if absent) of queries, keys, values and the last product.

    Args:
      where: the module's place, for errors.
      theirs: a `torch.nn.MultiheadAttention`.
    """
    for option, has in {"add_bias_kv": theirs.bias_k is not None, "add_zero_attn": theirs.add_zero_attn}.items():
        if has:
            raise ValueError(f"jaxseq and Flax have no equivalent of `{option}` of `{where}`")
    E = theirs.embed_dim
    if theirs.in_proj_weight is None:
        sizes = {"q": E, "k": theirs.kdim, "v": theirs.vdim}
        weights = [
            array(f"{where}.{name}_proj_weight", getattr(theirs, f"{name}_proj_weight"), (E, size))
            for name, size in sizes.items()
        ]
    else:
        weights = np.split(array(f"{where}.in_proj_weight", theirs.in_proj_weight, (3 * E, E)), 3)
    biases: list[np.ndarray | None] = [None] * 3
    if theirs.in_proj_bias is not None:
        biases = [*np.split(array(f"{where}.in_proj_bias", theirs.in_proj_bias, (3 * E,)), 3)]
    last = theirs.out_proj
    out = array(f"{where}.out_proj.weight", last.weight, (E, E))
    bias = None if last.bias is None else array(f"{where}.out_proj.bias", last.bias, (E,))
    return {**dict(zip(PARTS, zip(weights, biases, strict=True), strict=True)), "out": (out, bias)}
