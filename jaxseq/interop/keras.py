"""Keras: SimpleRNN, LSTM, GRU, ConvLSTM1D to 3D, RNN around cells, StackedRNNCells, Bidirectional.

Layers and files are read in the same way, from the result of `get_config` and arrays in the order of `get_weights`.
Files are read as JSON and HDF5, without Keras. Other contents of a file are ignored, and nothing in it is run.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxseq import check, wrappers
from jaxseq.interop import _keras_cells, _keras_files, _layers
from jaxseq.typing import Cell, Composite, Params

_MERGES = {"concat": "concat", "sum": "sum", "mul": "mul", "ave": "mean"}
_KINDS = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


def from_layer(layer: Any, *, shape: Sequence[int] | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the net of a Keras layer that has been built, and its params.

    `return_sequences`, `return_state`, `stateful` and `unroll` are ignored: the net returns all steps and its carry.
    Keras's dropouts become dropout of the inputs and recurrent dropout. They act when `unroll` is given a key.

    Args:
      layer: SimpleRNN, LSTM, GRU, ConvLSTM1D, 2D or 3D, RNN around such cells or StackedRNNCells, or Bidirectional.
      shape: the shape of the images that a ConvLSTM reads. None: the shape that it was built for.

    Raises:
      TypeError, ValueError: jaxseq has no equivalent of a layer or an option, and the message names it; or the layer
        has no weights, or has NaN in them.
    """
    return _of_layer(layer, shape)[:2]


def from_model(model: Any, layer: str | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the net of a model's recurrent layers, which must follow each other, and its params.

    Args:
      model: a Keras model that has been built.
      layer: the name of one layer. None: all recurrent layers. The only other layers may then be Masking, Dropout and
        inputs.

    Raises:
      TypeError, ValueError: as in `from_layer`; or `layer` is None and the model has layers of other kinds.
    """
    if not hasattr(model, "layers"):
        raise TypeError(f"`model` must be a model of Keras; got {type(model).__module__}.{type(model).__name__}")
    layers = {each.name: each for each in model.layers}
    chosen = _keras_files.chosen({name: type(each).__name__ for name, each in layers.items()}, layer)
    return _layers.stacked([_of_layer(layers[name], None) for name in chosen])[:2]


def from_weights(
    weights: Sequence[Any],
    *,
    kind: str,
    bidirectional: bool = False,
    merge: str = "concat",
    use_bias: bool = True,
    reset_after: bool = True,
    activation: str | Callable | None = "tanh",
    recurrent_activation: str | Callable | None = "sigmoid",
) -> tuple[Cell | Composite, Params]:
    """Returns the net of arrays in the order of `get_weights` or `.weights`, and its params. Keras is not needed.

    Args:
      weights: kernel, recurrent kernel and bias of each cell, layer by layer, forward before backward.
      kind: "rnn", "lstm" or "gru", the kind of all layers.
      bidirectional: whether layers are Bidirectional.
      merge: how Bidirectional layers merge their outputs: "concat", "sum", "mean" or "mul".
      use_bias: whether there are biases.
      reset_after: this option of a GRU. If there are biases, their shape overrides it.
      activation, recurrent_activation: Keras's names, or functions. None is linear, as in Keras.

    Raises:
      TypeError, ValueError: the arrays are not complete layers of that kind, or hold NaN.
    """
    check.one_of("kind", kind, tuple(_KINDS))
    check.one_of("merge", merge, tuple(_MERGES.values()))
    for name, value in {"bidirectional": bidirectional, "use_bias": use_bias, "reset_after": reset_after}.items():
        check.switch(name, value)
    if not isinstance(weights, Sequence):
        raise TypeError(f"`weights` must be a list of arrays; got {check.short(weights)}")
    each = (3 if use_bias else 2) * (2 if bidirectional else 1)
    if not weights or len(weights) % each:
        raise ValueError(f"`weights` must be {each} arrays per layer; got {len(weights)}")
    if kind == "gru" and use_bias and hasattr(weights[2], "shape"):
        reset_after = len(weights[2].shape) == 2
    config = {"activation": activation, "recurrent_activation": recurrent_activation, "use_bias": use_bias}
    config |= {"reset_after": reset_after}
    parts = []
    for place in range(0, len(weights), each):
        arrays = weights[place : place + each]
        halves = np.array_split(np.arange(each), 2 if bidirectional else 1)
        sides = [
            _layers.cell_of(_keras_cells.read(_KINDS[kind], config, [arrays[i] for i in half], f"weights[{place}:]"))
            for half in halves
        ]
        parts.append(_layers.both(sides[0], sides[1], merge) if bidirectional else sides[0])
    return _layers.stacked(parts)[:2]


def load(path: Any, layer: str | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the net of the recurrent layers in a `.keras` or `.h5` file of a whole model, and its params.

    A `.keras` file has checksums. An `.h5` file has none, and HDF5's reader may hang on one that is damaged inside.

    Args:
      path: the path of the file.
      layer: as in `from_model`.

    Raises:
      ValueError: the file is of another format or damaged, or jaxseq has no equivalent of a layer or an option.
      OSError: it cannot be read.
    """
    path = check.path("path", path)
    parts = []
    for kind, config, arrays, name in _keras_files.layers(path, layer):
        try:
            parts.append(_one(kind, config, arrays, name, None))
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: layer {name!r}: {check.short(error)}") from None
    return _layers.stacked(parts)[:2]


def to_weights(net: Cell | Composite, params: Params) -> list[np.ndarray]:
    """Returns the arrays for `set_weights` of the layer or model that `to_layer` makes, layer by layer.

    Args:
      net, params: as in `to_layer`.

    Raises:
      ValueError: Keras has no equivalent of an option. The message names it.
    """
    return _arrays_of(_described(net, params))


def to_layer(net: Cell | Composite, params: Params) -> Any:
    """Returns the Keras layer of a net with its weights. It is batch-major and returns all steps.

    A stack of cells becomes an RNN of StackedRNNCells. A stack of other layers becomes a Sequential.

    Args:
      net: `rnn`, `lstm`, `gru` or `conv_lstm`, in one direction or two, or a `stack` of these. Dropout is left out.
      params: its params.

    Raises:
      ValueError: Keras has no equivalent of an option. The message names it.
    """
    import keras  # pyright: ignore[reportMissingImports]

    described = _described(net, params)
    layer = _made(keras, described)
    layer.build((None, None, *_shape(described)))
    layer.set_weights(_arrays_of(described))
    return layer


def _of_layer(layer, shape):
    """Returns a Keras layer as a part."""
    if not hasattr(layer, "get_config") or not hasattr(layer, "weights"):
        raise TypeError(f"`layer` must be a layer of Keras; got {type(layer).__module__}.{type(layer).__name__}")
    build = getattr(layer, "get_build_config", dict)() or {}
    return _one(
        type(layer).__name__, {**_with_functions(layer), "build_config": build}, layer.weights, layer.name, shape
    )


def _one(kind, config, arrays, where, shape):
    """Returns a layer as a part. Raises if it has more arrays than it needs."""
    arrays = list(arrays)
    part = _read(kind, config, arrays, where, shape)
    if arrays:
        raise ValueError(f"layer {where!r} has {len(arrays)} arrays more than a {kind} with these options")
    return part


def _read(kind, config, arrays, where, shape):
    """Returns a layer as a part. Removes its arrays from the front of `arrays`."""
    if kind == "Bidirectional":
        ahead, back = config["layer"], config.get("backward_layer") or config["layer"]
        merge = config["merge_mode"]
        if merge not in _MERGES:
            raise ValueError(f"jaxseq has no equivalent of `merge_mode={merge!r}` of layer {where!r}")
        if merge == "concat" and ahead["class_name"].startswith("ConvLSTM"):
            raise ValueError(f"jaxseq has no equivalent of `merge_mode='concat'` for images, of layer {where!r}")
        fixed = {"build_config": config.get("build_config", {}), "go_backwards": False}
        sides = [_read(side["class_name"], side["config"] | fixed, arrays, where, shape) for side in (ahead, back)]
        return _layers.both(*sides, _MERGES[merge])
    if config.get("go_backwards"):
        raise ValueError(f"jaxseq has no equivalent of `go_backwards` of layer {where!r}: pass reverse=True")
    if kind == "RNN":
        cell = config["cell"]
        return _read(cell["class_name"], cell["config"], arrays, where, shape)
    if kind == "StackedRNNCells":
        cells = config["cells"]
        return _layers.stacked([_read(cell["class_name"], cell["config"], arrays, where, shape) for cell in cells])
    count = 3 if config.get("use_bias", True) else 2
    own, arrays[:count] = arrays[:count], []
    return _layers.cell_of(_keras_cells.read(kind, config, own, where, shape))


def _with_functions(layer):
    """Returns the config of a layer, with the functions themselves in place of their serialised forms."""
    config = dict(layer.get_config())
    for name in ("activation", "recurrent_activation"):
        if name in config:
            config[name] = getattr(layer, name)
    inner = {"layer": "forward_layer", "backward_layer": "backward_layer", "cell": "cell"}
    for name, attribute in inner.items():
        if name in config or (name == "backward_layer" and "layer" in config):
            part = getattr(layer, attribute)
            config[name] = {"class_name": type(part).__name__, "config": _with_functions(part)}
    if "cells" in config:
        config["cells"] = [{"class_name": type(part).__name__, "config": _with_functions(part)} for part in layer.cells]
    return config


def _described(net, params):
    """Describes a net as `(kind, ...)`: a cell with its weights, a stack, or two directions."""
    factory, options = _layers.call(net, "Keras")
    if factory is wrappers.dropout:
        return _described(options["cell"], params)
    if factory is wrappers.stack:
        return "stack", [_described(*part) for part in _layers.children(factory, options, params)]
    if factory is wrappers.bidirectional:
        both = [_described(*part) for part in _layers.children(factory, options, params)]
        if any(not _is_layer(side) for side in both):
            raise ValueError("Keras has no equivalent of `bidirectional`, except around cells and stacks of cells")
        merge = next(name for name, ours in _MERGES.items() if ours == options["merge"])
        if merge == "concat" and both[0][0] == "conv_lstm":
            raise ValueError("Keras has no equivalent of `merge='concat'` of jaxseq.conv_lstm, of images")
        return "bidirectional", both, merge
    if factory is wrappers.residual:
        raise ValueError("Keras has no equivalent of `residual`")
    weights = _keras_cells.plain(_layers.weights_of(net, params, "Keras"))
    return weights.kind, weights


def _is_layer(described):
    """Returns whether it is a cell, or a stack of cells that are not convolutional."""
    kind, inner = described[:2]
    if kind == "stack":
        return all(part[0] in _KINDS for part in inner)
    return kind != "bidirectional"


def _arrays_of(described):
    kind, inner = described[:2]
    if kind in ("stack", "bidirectional"):
        return [array for part in inner for array in _arrays_of(part)]
    return _keras_cells.write(inner)


def _shape(described):
    """Returns the shape of one step of the inputs."""
    kind, inner = described[:2]
    return _shape(inner[0]) if kind in ("stack", "bidirectional") else _keras_cells.input_shape(inner)


def _made(keras, described):
    """Returns the layer, without weights."""
    kind, inner, *merge = described
    if kind == "bidirectional":
        ahead, back = (_made(keras, side) for side in inner)
        back.go_backwards = True
        return keras.layers.Bidirectional(ahead, merge_mode=merge[0], backward_layer=back, dtype=ahead.dtype)
    if kind != "stack":
        return _keras_cells.make(keras, inner)
    if not _is_layer(described):
        return keras.Sequential([_made(keras, part) for part in inner])
    cells = [_keras_cells.make(keras, weights, "Cell") for _, weights in inner]
    dtype = cells[0].dtype
    return keras.layers.RNN(keras.layers.StackedRNNCells(cells, dtype=dtype), return_sequences=True, dtype=dtype)
