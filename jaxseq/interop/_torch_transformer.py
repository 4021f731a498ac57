"""Converts PyTorch's Transformer encoder and decoder to `nn.Transformer` and back.

in_proj_weight [3 H, H]   queries, keys and values, joined by rows        out_proj, linear1, linear2 [out, in]
norm_first                norm="pre" of jaxseq, with a norm after the last block: `norm` of the encoder
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import check, nn
from jaxseq._activations import exact_gelu
from jaxseq.interop._arrays import array, tensor
from jaxseq.interop._torch_attention import products

_KINDS = ("TransformerEncoder", "TransformerEncoderLayer", "TransformerDecoder", "TransformerDecoderLayer")


def read(module: Any, causal: bool, max_length: int | None) -> nn.Transformer:
    """Returns the layer. See `torch.from_transformer`."""
    check.switch("causal", causal)
    kind = type(module).__name__
    if not type(module).__module__.startswith("torch.") or kind not in _KINDS:
        raise TypeError(f"`module` must be one of torch.nn.{', '.join(_KINDS)}; got {kind}")
    layers = list(getattr(module, "layers", [module]))
    first, last = layers[0], getattr(module, "norm", None)
    if first.norm_first != (last is not None):
        raise ValueError(
            f"nn.Transformer has no equivalent of `norm_first={first.norm_first}` {'with' if last else 'without'} a "
            "`norm` after the last layer"
        )
    H = first.self_attn.embed_dim
    made = nn.Transformer(
        H,
        H,
        layers=len(layers),
        heads=first.self_attn.num_heads,
        causal=causal,
        hidden=first.linear1.out_features,
        norm="pre" if first.norm_first else "post",
        positions=None,
        max_length=max_length,
        memory_features=H if "Decoder" in kind else None,
        activation=_activation(first.activation),
        param_dtype=jnp.asarray(array("linear1.weight", first.linear1.weight)).dtype,
        rngs=nnx.Rngs(0),
    )
    for place, (theirs, ours) in enumerate(zip(layers, made.blocks, strict=True)):
        where = f"layers.{place}"
        _read_attention(f"{where}.self_attn", theirs.self_attn, ours.attention)
        if ours.cross is not None:
            _read_attention(f"{where}.multihead_attn", theirs.multihead_attn, ours.cross)
        _read_linear(f"{where}.linear1", theirs.linear1.weight, theirs.linear1.bias, ours.wide)
        _read_linear(f"{where}.linear2", theirs.linear2.weight, theirs.linear2.bias, ours.narrow)
        for number, norm in enumerate(ours.norms, 1):
            _read_norm(f"{where}.norm{number}", getattr(theirs, f"norm{number}"), norm)
    if last is not None:
        _read_norm("norm", last, made.last_norm)
    return made


def write(layer: nn.Transformer) -> Any:
    """Returns the module. See `torch.to_transformer`."""
    import torch  # pyright: ignore[reportMissingImports]

    if not isinstance(layer, nn.Transformer):
        raise TypeError(f"`layer` must be an nn.Transformer; got {type(layer).__name__}")
    block = layer.blocks[0]
    H, heads = layer.size, block.attention.heads
    for name, differs in {
        f"positions={layer.positions!r}": layer.positions is not None,
        "in_features": layer.enter is not None,
        "kv_heads": block.attention.kv_heads != heads,
        "memory_features": layer.memory_features not in (None, H),
    }.items():
        if differs:
            raise ValueError(f"PyTorch has no equivalent of `{name}` of this nn.Transformer")
    activations = {jax.nn.relu: "relu", exact_gelu: "gelu", jax.nn.gelu: _near_gelu(torch)}
    if block.activation not in activations:
        raise ValueError(f"PyTorch has no equivalent of `activation={check.short(block.activation)}` of nn.Transformer")
    tensors = {name: tensor(value) for name, value in _written(layer)}
    options = {
        "dim_feedforward": block.wide.out_features,
        "dropout": 0.0,
        "activation": activations[block.activation],
        "layer_norm_eps": block.norms[0].epsilon,
        "batch_first": True,
        "norm_first": block.is_pre,
        "dtype": next(iter(tensors.values())).dtype,
    }
    norm = None if layer.last_norm is None else torch.nn.LayerNorm(H, layer.last_norm.epsilon, dtype=options["dtype"])
    if layer.memory_features is None:
        one = torch.nn.TransformerEncoderLayer(H, heads, **options)
        module = torch.nn.TransformerEncoder(one, len(layer.blocks), norm, enable_nested_tensor=False)
    else:
        one = torch.nn.TransformerDecoderLayer(H, heads, **options)
        module = torch.nn.TransformerDecoder(one, len(layer.blocks), norm)
    module.load_state_dict(tensors)
    return module


def _activation(function):
    form = getattr(function, "approximate", "none")  # if it is a module
    if isinstance(function, functools.partial):
        function, form = function.func, function.keywords.get("approximate", form)
    name = getattr(function, "__name__", type(function).__name__).lower()
    if name == "gelu":
        return jax.nn.gelu if form == "tanh" else exact_gelu
    if name == "relu":
        return jax.nn.relu
    raise ValueError(f"nn.Transformer has no equivalent of `activation` {name}, only of relu and gelu")


def _near_gelu(torch):
    """Returns tanh-approximated GELU as a function. PyTorch's copies of a decoder layer replace a module by relu."""
    return functools.partial(torch.nn.functional.gelu, approximate="tanh")


def _read_linear(name, weight, bias, ours):
    ours.kernel[...] = jnp.asarray(array(f"{name}.weight", weight, ours.kernel.shape[::-1]).T)
    ours.bias[...] = 0 * ours.bias[...] if bias is None else jnp.asarray(array(f"{name}.bias", bias, ours.bias.shape))


def _read_attention(name, theirs, ours):
    if theirs.in_proj_weight is None:
        raise ValueError(f"nn.Transformer has no equivalent of `kdim` or `vdim` of `{name}`")
    for part, (weight, bias) in products(name, theirs).items():
        _read_linear(f"{name}.{part}", weight, bias, getattr(ours, part))


def _read_norm(name, theirs, ours):
    ours.scale[...] = jnp.asarray(array(f"{name}.weight", theirs.weight, ours.scale.shape))
    bias = theirs.bias
    ours.bias[...] = 0 * ours.bias[...] if bias is None else jnp.asarray(array(f"{name}.bias", bias, ours.bias.shape))
    ours.epsilon = theirs.eps


def _written(layer):
    """Yields the entries of the state dict."""
    for place, block in enumerate(layer.blocks):
        where = f"layers.{place}"
        attentions = {"self_attn": block.attention} | ({} if block.cross is None else {"multihead_attn": block.cross})
        for name, attention in attentions.items():
            parts = attention.query, attention.key, attention.value
            for leaf, axis in (("weight", "kernel"), ("bias", "bias")):
                joined = np.concatenate([np.asarray(getattr(part, axis)[...]).T for part in parts])
                yield f"{where}.{name}.in_proj_{leaf}", joined
            yield from _linear_of(f"{where}.{name}.out_proj", attention.out)
        yield from _linear_of(f"{where}.linear1", block.wide)
        yield from _linear_of(f"{where}.linear2", block.narrow)
        for number, norm in enumerate(block.norms, 1):
            yield from _norm_of(f"{where}.norm{number}", norm)
    if layer.last_norm is not None:
        yield from _norm_of("norm", layer.last_norm)


def _linear_of(name, ours):
    yield f"{name}.weight", np.asarray(ours.kernel[...]).T
    yield f"{name}.bias", np.asarray(ours.bias[...])


def _norm_of(name, ours):
    yield f"{name}.weight", np.asarray(ours.scale[...])
    yield f"{name}.bias", np.asarray(ours.bias[...])
