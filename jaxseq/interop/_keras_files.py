"""Reads the recurrent layers of a `.keras` file, a zip of JSON and HDF5, and of the older `.h5`, HDF5 with JSON in it.

.keras   config.json; model.weights.h5: layers/<any name>/vars, whose attribute `name` is the layer's, and below
cell/vars/0 …, cell/cells/<class>/vars/0 …, forward_layer, backward_layer
.h5      model_config; model_weights/<name>, whose attribute `weight_names` has the order
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseq import check
from jaxseq._activations import hard_sigmoid
from jaxseq.interop._arrays import listed

_BESIDE = ("InputLayer", "Masking", "Dropout", "SpatialDropout1D", "GaussianNoise", "Activation")
_RECURRENT = re.compile("SimpleRNN|LSTM|GRU|ConvLSTM[123]D|RNN|Bidirectional")


def chosen(kinds: Mapping[str, str], layer: str | None) -> list[str]:
    """Returns the names of a model's recurrent layers, or only `layer`. `kinds` maps layer names to classes."""
    if layer is not None:
        if layer not in kinds:
            raise ValueError(f"`layer` {layer!r} is not in the model, which has {listed(kinds)}")
        return [layer]
    others = [name for name, kind in kinds.items() if not _RECURRENT.fullmatch(kind) and kind not in _BESIDE[:4]]
    names = [name for name, kind in kinds.items() if _RECURRENT.fullmatch(kind)]
    if others or not names:
        raise ValueError(f"the model has layers that are not recurrent; choose one by `layer`: {listed(kinds)}")
    return names


def layers(path: Path, layer: str | None) -> Iterator[tuple[str, dict[str, Any], list[np.ndarray], str]]:
    """Yields the class, the config, the arrays in Keras's order and the name of each recurrent layer.

    Raises:
      ValueError: the file is of another format, or damaged.
    """
    import h5py  # pyright: ignore[reportMissingImports]

    data = path.read_bytes()
    try:
        if data[:2] == b"PK":
            with zipfile.ZipFile(io.BytesIO(data)) as parts:
                version = json.loads(parts.read("metadata.json"))["keras_version"]
                model, weights = _config(parts.read("config.json"), version), parts.read("model.weights.h5")
        else:
            weights = data
            with h5py.File(io.BytesIO(data)) as file:
                if "model_config" not in file.attrs:
                    raise ValueError("it has no `model_config`; weights without it do not tell their layers")
                model = _config(_text(file.attrs["model_config"]), _text(file.attrs.get("keras_version", "1")))
        with h5py.File(io.BytesIO(weights)) as file:
            configs = {each["config"]["name"]: each for each in model["config"]["layers"]}
            kinds = {name: each["class_name"] for name, each in configs.items()}
            found = []
            for name in chosen(kinds, layer):
                config = {**configs[name]["config"], "build_config": configs[name].get("build_config") or {}}
                read = _new if data[:2] == b"PK" else _old
                found.append((kinds[name], config, read(file, name, kinds[name], config), name))
    except Exception as error:  # h5py and zipfile raise many kinds of errors for damaged files
        raise ValueError(f"{path} is not a model's .keras or .h5 file, or is damaged: {check.short(error)}") from None
    yield from found


def _config(text, version):
    """Returns a model's config. Keras 1 and 2 had another hard sigmoid than Keras 3."""

    def hook(found):
        old = version.split(".")[0] in ("1", "2")
        names = [name for name in ("activation", "recurrent_activation") if found.get(name) == "hard_sigmoid"]
        return found | dict.fromkeys(names, hard_sigmoid(0.2, 0.5)) if old else found

    return json.loads(text, object_hook=hook)


def _old(file, name, kind, config):
    group = file["model_weights"][name]
    return [_array(group[_text(path)]) for path in group.attrs["weight_names"]]


def _new(file, name, kind, config):
    for group in file["layers"].values():
        if _text(group["vars"].attrs["name"]) == name:
            return _arrays(group, kind, config)
    raise ValueError(f"it has no weights of the layer {name!r}")


def _arrays(group, kind, config):
    """Returns the arrays of a layer or a cell, in the order of `get_weights`."""
    if kind == "Bidirectional":
        inner = config["layer"]
        back = config.get("backward_layer") or inner
        sides = (("forward_layer", inner), ("backward_layer", back))
        return [x for name, side in sides for x in _arrays(group[name], side["class_name"], side["config"])]
    if kind == "RNN":
        return _arrays(group["cell"], config["cell"]["class_name"], config["cell"]["config"])
    if kind == "StackedRNNCells":
        taken: dict[str, int] = {}
        found = []
        for cell in config["cells"]:
            name = _snake(cell["class_name"])
            count = taken[name] = taken.get(name, -1) + 1
            own = group["cells"][f"{name}_{count}" if count else name]
            found += _arrays(own, cell["class_name"], cell["config"])
        return found
    own = group.get("cell", group)
    return [_array(own["vars"][str(place)]) for place in range(len(own["vars"]))]


def _array(dataset):
    if dataset.dtype.kind not in "fV" or dataset.size > 2**31:  # bfloat16 is V
        raise ValueError(f"{dataset.name} is not an array of floats: {dataset.dtype} {dataset.shape}")
    return np.asarray(dataset[()])


def _snake(name):
    """Returns a class name as Keras writes it in files: lstm_cell for LSTMCell."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
