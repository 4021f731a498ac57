"""Hugging Face's `transformers`: Mamba, Mamba-2, RecurrentGemma, xLSTM and Qwen3-Next as blocks of `nn`, and back.

A state dict of any arrays and a config, a dict, do: `config.json` beside `model.safetensors` needs neither PyTorch nor
transformers. What of a model has an equal:

    mamba, mamba2      all
    xlstm              all but the bound of the logits
    qwen3_next         layers of linear attention with an MLP; neither full attention nor experts
    recurrent_gemma    recurrent layers, from a sequence's second step on: at the first one transformers leaves
                       √(1 - a²) out; neither attention nor the bound of the logits
"""

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseq import check
from jaxseq.interop import _safetensors_read

if TYPE_CHECKING:  # Flax is imported when it is first used
    from jaxseq import nn


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the state dict and the config of a model's folder: `from_state_dict(*read(path))`.

    Args:
      path: of the folder, with `config.json`, and `model.safetensors` or several such files with their
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
        if not files or not all(isinstance(name, str) and name == os.path.basename(name) for name in files):
            raise ValueError(f"{index} must have a `weight_map` of files beside it; got {check.short(places)}")
        names = sorted({*files})
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        arrays |= _safetensors_read.arrays(path / name)[0]
    return arrays, config


def from_model(model: Any) -> "nn.Blocks":
    """Returns the blocks of a model of transformers, with a head or without; see `from_state_dict`.

    Args:
      model: such as a `MambaModel` or an `xLSTMForCausalLM`.

    Raises:
      TypeError, ValueError: another model, or a part or an option that has no equal, which is named.
    """
    if not (callable(getattr(model, "state_dict", None)) and hasattr(getattr(model, "config", None), "to_dict")):
        raise TypeError(f"`model` must be a model of transformers; got {type(model).__name__}")
    return from_state_dict(model.state_dict(), model.config)


def from_state_dict(state_dict: Mapping[str, Any], config: Any) -> "nn.Blocks":
    """Returns the blocks of a model and the norm after them: what embeddings `[B, T, H]` become before the head.

    RecurrentGemma multiplies its embeddings by √H before that.

    Args:
      state_dict: arrays of PyTorch, NumPy or JAX by the names of transformers, of a model with a head or without.
      config: a dict, as `config.json` holds it, or a config of transformers.

    Raises:
      TypeError, ValueError: a part or an option has no equal, which is named; an array is missing, has another shape,
        is not of floats or holds NaN; or a layer has others.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_state_dict(state_dict, config)


def from_layer(state_dict: Mapping[str, Any], config: Any, layer: int) -> "nn.Layer":
    """Returns the block of one layer, which may stand in a model whose other layers have no equal.

    Args:
      state_dict, config: as `from_state_dict` takes them.
      layer: which, from 0 on.

    Raises:
      TypeError, ValueError: as `from_state_dict` does; or there is no such layer.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_layer(state_dict, config, layer)


def from_causal_lm(state_dict: Mapping[str, Any], config: Any) -> "nn.LanguageModel":
    """Returns the language model of a `MambaForCausalLM`, `Mamba2ForCausalLM` or `Qwen3NextForCausalLM`.

    Args:
      state_dict, config: as `from_state_dict` takes them.

    Raises:
      TypeError, ValueError: as `from_state_dict` does; RecurrentGemma and xLSTM bound their logits, of which
        `nn.LanguageModel` has no equal.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.from_causal_lm(state_dict, config)


def to_state_dict(layer: "nn.Blocks | nn.LanguageModel") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the state dict, of NumPy arrays, and the config of a model of transformers with the same function.

    `AutoModel.from_config(AutoConfig.for_model(**config))` makes it, of a language model `AutoModelForCausalLM`. From
    here and back is exact, but a scale below 1/2 may round where transformers keeps it less 1.

    Args:
      layer: an `nn.Blocks` of `MambaBlock`, `Mamba2Block`, `XlstmBlock`, `GriffinBlock` or `GatedDeltaNetBlock`, all
        alike, with norm="rms" and one epsilon; or an `nn.LanguageModel` of one of Mamba, Mamba-2 or gated DeltaNet,
        without n-grams. Dropout is left out.

    Raises:
      TypeError, ValueError: transformers has no equal of an option, which is named.
    """
    from jaxseq.interop._huggingface import _modules

    return _modules.to_state_dict(layer)


def _object(path):
    """The JSON object in a file."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON, or damaged: {check.short(error)}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object; got {check.short(found)}")
    return found
