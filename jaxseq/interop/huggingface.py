"""Hugging Face's `transformers`: Mamba, Mamba-2, RecurrentGemma, xLSTM and Qwen3-Next as blocks of `nn`, and back.

The input is a state dict of arrays and a config as a dict. To read `config.json` and `model.safetensors`, neither
PyTorch nor transformers is needed. These parts of the models have an equivalent:

    mamba, mamba2      all
    xlstm              all, except the bound of the logits
    qwen3_next         layers of linear attention with an MLP; neither full attention nor experts
    recurrent_gemma    recurrent layers, equal from a sequence's second step on: at the first step transformers leaves
                       out √(1 - a²); neither attention nor the bound of the logits
"""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseq import check
from jaxseq.interop import _safetensors_read

if TYPE_CHECKING:  # Flax is imported on first use
    from jaxseq import nn


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the state dict and the config in a model's folder. Use it as `from_state_dict(*read(path))`.

    Args:
      path: the folder, with `config.json`, and with `model.safetensors` or several such files and their
        `model.safetensors.index.json`. Pickles are not read.

    Raises:
      ValueError: a file is damaged.
      OSError: a file is missing, or cannot be read.
    """
    path = check.path("path", path)
    config, index = _object(path / "config.json"), path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        places = _object(index).get("weight_map")
        files = [*places.values()] if isinstance(places, dict) else []
        is_plain = lambda name: isinstance(name, str) and os.path.basename(name) == name not in ("", ".", "..")
        if not files or not all(is_plain(name) and "\0" not in name for name in files):
            raise ValueError(f"{index} must have a `weight_map` of files in its folder; got {check.short(places)}")
        names = sorted({*files})
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        arrays |= _safetensors_read.arrays(path / name)[0]
    return arrays, config


def from_model(model: Any) -> "nn.Blocks":
    """Returns the blocks of a model of transformers, with or without a head. See `from_state_dict`.

    Args:
      model: a model such as `MambaModel` or `xLSTMForCausalLM`.

    Raises:
      TypeError, ValueError: it is another model, or a part or an option has no equivalent. The message names it.
    """
    if not (callable(getattr(model, "state_dict", None)) and hasattr(getattr(model, "config", None), "to_dict")):
        raise TypeError(f"`model` must be a model of transformers; got {type(model).__name__}")
    return from_state_dict(model.state_dict(), model.config)


def from_state_dict(state_dict: Mapping[str, Any], config: Any) -> "nn.Blocks":
    """Returns the blocks of a model and the norm after them, which map embeddings `[B, T, H]` to the head's inputs.

    RecurrentGemma multiplies its embeddings by √H before its blocks.

    Args:
      state_dict: arrays of PyTorch, NumPy or JAX by the names of transformers, of a model with or without a head.
      config: a dict, as `config.json` holds it, or a config of transformers.

    Raises:
      TypeError, ValueError: a part or an option has no equivalent, and the message names it; an array is missing, has
        another shape, is not of floats, or holds NaN; or a layer has arrays that are not known.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_state_dict(state_dict, config)


def from_layer(state_dict: Mapping[str, Any], config: Any, layer: int) -> "nn.Layer":
    """Returns the block of one layer. The other layers of the model need no equivalent.

    Args:
      state_dict, config: as in `from_state_dict`.
      layer: the number of the layer, counted from 0.

    Raises:
      TypeError, ValueError: as in `from_state_dict`; or there is no such layer.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_layer(state_dict, config, layer)


def from_causal_lm(state_dict: Mapping[str, Any], config: Any) -> "nn.LanguageModel":
    """Returns the language model of a `MambaForCausalLM`, `Mamba2ForCausalLM` or `Qwen3NextForCausalLM`.

    Args:
      state_dict, config: as in `from_state_dict`.

    Raises:
      TypeError, ValueError: as in `from_state_dict`; or the model is RecurrentGemma or xLSTM, whose logits are
        bounded. `nn.LanguageModel` has no equivalent of that.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_causal_lm(state_dict, config)


def to_state_dict(layer: "nn.Blocks | nn.LanguageModel") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the state dict, of NumPy arrays, and the config of a model of transformers with the same function.

    `AutoModel.from_config(AutoConfig.for_model(**config))` makes the model; use `AutoModelForCausalLM` for a language
    model. A round trip is exact, except that a scale below 1/2 may round if transformers stores it minus 1.

    Args:
      layer: an `nn.Blocks` of `MambaBlock`, `Mamba2Block`, `XlstmBlock`, `GriffinBlock` or `GatedDeltaNetBlock`, all
        of one kind and equal options, with norm="rms" and one epsilon; or an `nn.LanguageModel` of one of Mamba,
        Mamba-2 or gated DeltaNet, without n-grams. Dropout is left out.

    Raises:
      TypeError, ValueError: transformers has no equivalent of an option. The message names it.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.to_state_dict(layer)


def _object(path):
    """Returns the JSON object in a file."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON, or is damaged: {check.short(error)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object; got {check.short(found)}")
    return found
