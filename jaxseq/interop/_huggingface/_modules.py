"""Modules of `nn` from a state dict and a config, and back."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxseq import check, nn
from jaxseq.interop._arrays import listed
from jaxseq.interop._huggingface import _keys
from jaxseq.interop._huggingface._keys import Key, product, same, zero
from jaxseq.interop._huggingface._mambas import MAMBA, MAMBA2
from jaxseq.interop._huggingface._model import Config, Model, checked
from jaxseq.interop._huggingface._qwen3_next import QWEN3_NEXT
from jaxseq.interop._huggingface._recurrent_gemma import RECURRENT_GEMMA
from jaxseq.interop._huggingface._xlstm import XLSTM

MODELS = {
    "mamba": MAMBA,
    "mamba2": MAMBA2,
    "recurrent_gemma": RECURRENT_GEMMA,
    "xlstm": XLSTM,
    "qwen3_next": QWEN3_NEXT,
}


def from_state_dict(state_dict: Mapping[str, Any], config: Any) -> nn.Blocks:
    """Returns the blocks; see `huggingface.from_state_dict`."""
    model, options, prefix = _opened(state_dict, config)
    keys = _of_blocks(model, options, prefix, state_dict)
    return _keys.read(functools.partial(_blocks, model, options), keys, state_dict)


def from_layer(state_dict: Mapping[str, Any], config: Any, layer: int) -> nn.Layer:
    """Returns a block; see `huggingface.from_layer`."""
    model, options, prefix = _opened(state_dict, config)
    layer = check.natural("layer", layer)
    if layer >= options["num_hidden_layers"]:
        raise ValueError(f"`layer` must be one of {options['num_hidden_layers']}, counted from 0; got {layer}")
    model.refuse(options, layer)
    keys = _of_layer(model, options, prefix, layer, "")
    _only_known(state_dict, f"{prefix}{model.layers}.{layer}.", keys)
    return _keys.read(functools.partial(_block, model, options), keys, state_dict)


def from_causal_lm(state_dict: Mapping[str, Any], config: Any) -> nn.LanguageModel:
    """Returns the language model; see `huggingface.from_causal_lm`."""
    model, options, prefix = _opened(state_dict, config)
    if model.cap is not None and options[model.cap] is not None:
        raise ValueError(
            f"nn.LanguageModel has no equivalent of `config[{model.cap!r}]`; `from_state_dict` reads the blocks"
        )
    if f"{prefix}embedding.weight" in state_dict:  # early Mamba models use this name
        state_dict = {**state_dict, f"{prefix}embeddings.weight": state_dict[f"{prefix}embedding.weight"]}
    keys = _of_blocks(model, options, prefix, state_dict)
    return _keys.read(
        functools.partial(_language_model, model, options), _whole(model, options, prefix, keys), state_dict
    )


def to_state_dict(layer: nn.Blocks | nn.LanguageModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns arrays and config; see `huggingface.to_state_dict`."""
    is_language = isinstance(layer, nn.LanguageModel)
    blocks = layer.recurrent if is_language else layer
    if not isinstance(blocks, nn.Blocks):
        raise TypeError(f"`layer` must be an nn.Blocks, or an nn.LanguageModel of one; got {type(blocks).__name__}")
    kind, model = _model_of(blocks)
    config: Config = {"model_type": kind, "hidden_size": blocks.size, "num_hidden_layers": len(blocks.blocks)}
    own = [model.config(block, len(blocks.blocks)) for block in blocks.blocks]
    if any(each != own[0] for each in own):
        raise ValueError("transformers has no equivalent of `blocks` that are not all alike")
    config |= own[0] | {model.epsilon: _epsilon(blocks)}
    if is_language:
        if layer.ngrams is not None:
            raise ValueError("transformers has no equivalent of `ngrams`")
        if model.cap is not None:
            raise ValueError(f"transformers' {kind} bounds its logits by `{model.cap}`; nn.LanguageModel does not")
        config |= {"vocab_size": layer.embedding.num_embeddings, "tie_word_embeddings": bool(layer.tied)}
    _, options = checked(config, MODELS)
    prefix = model.prefix if is_language else ""
    keys, make = _of_layers(model, options, prefix), _blocks
    if is_language:
        keys, make = _whole(model, options, prefix, keys), _language_model
    arrays = _keys.write(layer, functools.partial(make, model, options), keys)
    if is_language and layer.tied:
        arrays["lm_head.weight"] = arrays[f"{prefix}{model.embeddings}.weight"]
    return arrays, config


def _opened(state_dict, config) -> tuple[Model, Config, str]:
    """Returns the model, its options, and the prefix of its arrays' names."""
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise TypeError(f"`state_dict` must be a dict of arrays by name; got {check.short(state_dict)}")
    model, options = checked(config, MODELS)
    return model, options, model.prefix if any(name.startswith(model.prefix) for name in state_dict) else ""


def _of_blocks(model, options, prefix, state_dict) -> list[Key]:
    """Returns the keys of the blocks and of the norm after them. Raises if the state dict has other layers."""
    count, before = options["num_hidden_layers"], f"{prefix}{model.layers}."
    there = {name[len(before) :].split(".")[0] for name in state_dict if name.startswith(before)}
    if len(there) != count or there != {*map(str, range(count))}:
        raise ValueError(
            f"`state_dict` must have {count} layers {before}0 to {before}{count - 1}, as `config` says; it has "
            f"{listed(sorted(there))}"
        )
    for layer in range(count):
        model.refuse(options, layer)
    keys = _of_layers(model, options, prefix)
    _only_known(state_dict, before, keys)
    return keys


def _of_layers(model, options, prefix) -> list[Key]:
    layers = range(options["num_hidden_layers"])
    keys = [key for layer in layers for key in _of_layer(model, options, prefix, layer, f"blocks.{layer}.")]
    return [*keys, model.last_norm.below("", prefix)]


def _of_layer(model, options, prefix, layer, ours) -> list[Key]:
    return [key.below(ours, f"{prefix}{model.layers}.{layer}.") for key in model.keys(options)]


def _whole(model, options, prefix, keys) -> list[Key]:
    """Returns the keys of a language model."""
    embedding = same("embedding.embedding", f"{prefix}{model.embeddings}.weight")
    head = [] if options["tie_word_embeddings"] else [product("head.kernel", "lm_head.weight"), zero("head.bias")]
    return [*(key.below("recurrent.", "") for key in keys), embedding, *head]


def _block(model, options, dtype):
    own = {"epsilon": options[model.epsilon], "param_dtype": dtype, "rngs": nnx.Rngs(0)}
    return model.block(options["hidden_size"], **model.arguments(options), **own)


def _blocks(model, options, dtype):
    blocks = [_block(model, options, dtype) for _ in range(options["num_hidden_layers"])]
    return nn.Blocks(blocks, epsilon=options[model.epsilon], param_dtype=dtype, rngs=nnx.Rngs(0))


def _language_model(model, options, dtype):
    blocks: Any = _blocks(model, options, dtype)
    sizes, tied = (options["vocab_size"], options["hidden_size"]), options["tie_word_embeddings"]
    return nn.LanguageModel(blocks, *sizes, tied=tied, param_dtype=dtype, rngs=nnx.Rngs(0))


def _only_known(state_dict, before, keys):
    known = {name for key in keys for name in key.theirs}
    others = sorted(name for name in state_dict if name.startswith(before) and name not in known)
    if others:
        raise ValueError(f"`state_dict` has {listed(others)}, which no layer of this `config` has")


def _model_of(blocks):
    kinds = {type(block) for block in blocks.blocks}
    found = [(name, model) for name, model in MODELS.items() if kinds == {model.block}]
    if not found:
        raise ValueError(f"transformers has no equivalent of blocks of {listed(sorted(k.__name__ for k in kinds))}")
    if blocks.enter is not None:
        raise ValueError("transformers has no equivalent of `in_features` of nn.Blocks")
    if not isinstance(blocks.last_norm, nnx.RMSNorm):
        raise ValueError('transformers has no equivalent of nn.Blocks, except with `norm="rms"`')
    return found[0]


def _epsilon(blocks):
    norms: list[Any] = [module for _, module in nnx.iter_modules(blocks) if hasattr(module, "epsilon")]
    found = sorted({norm.epsilon for norm in norms})
    if len(found) > 1:
        raise ValueError(f"transformers has no equivalent of several `epsilon`; the norms have {found}")
    return found[0]
