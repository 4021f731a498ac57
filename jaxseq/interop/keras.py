"""Keras: SimpleRNN, LSTM, GRU, ConvLSTM1D to 3D, RNN around cells, StackedRNNCells, Bidirectional.

Layers and files are read alike: by what `get_config` says, and arrays in the order of `get_weights`. Files are read as
JSON and HDF5, without Keras; what a file holds beside is not looked at, and nothing of it is run.
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
    """Returns the net of a layer of Keras that was built, and its params.

    `return_sequences`, `return_state`, `stateful` and `unroll` are of the call alone: the net returns all steps and its
    carry. Dropout becomes that of the inputs and the recurrent one, where `unroll` is given a key.

    Args:
      layer: SimpleRNN, LSTM, GRU, ConvLSTM1D, 2D or 3D, RNN around such cells or StackedRNNCells, or Bidirectional.
      shape: of the images that a ConvLSTM reads; None: that which it was built for.

    Raises:
      TypeError, ValueError: a layer or an option that jaxseq has no equal of, which is named; a layer without weights,
        or with NaN.
    """
    return _of_layer(layer, shape)[:2]


def from_model(model: Any, layer: str | None = None) -> tuple[Cell | Composite, Params]:
    """Returns the net of the recurrent layers of a model, which follow each other, and its params.

    Args:
      model: of Keras, built.
      layer: the name of one; None: all. Then Masking, Dropout and inputs alone may stand beside them.

    Raises:
      TypeError, ValueError: as `from_layer`; layers of other kinds and no name.
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
    """Returns the net of arrays in the order of `get_weights` or `.weights`, and its params; they need no Keras.

    Args:
      weights: kernel, recurrent kernel and bias of each cell: layer by layer, forward before backward.
      kind: "rnn", "lstm" or "gru", of all layers.
      bidirectional: whether layers are Bidirectional.
      merge: then "concat", "sum", "mean" or "mul".
      use_bias: whether there are biases.
      reset_after: of a GRU; with biases their shape says it.
      activation, recurrent_activation: Keras's names, or functions; None: linear, as there.

    Raises:
      TypeError, ValueError: the arrays are not whole layers of that kind, or hold NaN.
    """
    check.one_of("kind", kind, tuple(_KINDS))
    check.one_of("merge", merge, tuple(_MERGES.values()))
    for name, value in {"bidirectional": bidirectional, "use_bias": use_bias, "reset_after": reset_after}.items():
        check.switch(name, value)
    if not isinstance(weights, Sequence):
        raise TypeError(f"`weights` must be a list of arrays; got {check.short(weights)}")
    each = (3 if use_bias else 2) * (2 if bidirectional else 1)
    if not weights or len(weights) % each:
        raise ValueError(f"`weights` must be {each} arrays a layer; got {len(weights)}")
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

    A `.keras` file has checksums; an `.h5` has none, and HDF5's reader may not return from one that was damaged inside.

    Args:
      path: of the file.
      layer: as `from_model` takes it.

    Raises:
      ValueError: it is no such file, or a damaged one; a layer or an option that jaxseq has no equal of.
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
    """Returns the arrays for `set_weights` of the layer that `to_layer` makes, or the layers of its model in turn.

    Args:
      net, params: as `to_layer` takes them.

    Raises:
      ValueError: Keras has no equal of an option, which is named.
    """
    return _arrays_of(_described(net, params))


def to_layer(net: Cell | Composite, params: Params) -> Any:
    """Returns the layer of Keras with the weights, batch-major, all steps returned.

    A stack of cells is an RNN of StackedRNNCells, a stack of other layers a Sequential.

    Args:
      net: `rnn`, `lstm`, `gru` or `conv_lstm`, in one direction or two, or a `stack` of these. Dropout is left out.
      params: its params.

    Raises:
      ValueError: Keras has no equal of an option, which is named.
    """
    import keras  # pyright: ignore[reportMissingImports]

    described = _described(net, params)
    layer = _made(keras, described)
    layer.build((None, None, *_shape(described)))
    layer.set_weights(_arrays_of(described))
    return layer


def _of_layer(layer, shape):
    """The part that a layer of Keras is."""
    if not hasattr(layer, "get_config") or not hasattr(layer, "weights"):
        raise TypeError(f"`layer` must be a layer of Keras; got {type(layer).__module__}.{type(layer).__name__}")
    build = getattr(layer, "get_build_config", dict)() or {}
    return _one(
        type(layer).__name__, {**_with_functions(layer), "build_config": build}, layer.weights, layer.name, shape
    )


def _one(kind, config, arrays, where, shape):
    """The part that a layer is, all of whose arrays are used."""
    arrays = list(arrays)
    part = _read(kind, config, arrays, where, shape)
    if arrays:
        raise ValueError(f"layer {where!r} has {len(arrays)} arrays more than a {kind} of these options")
    return part


def _read(kind, config, arrays, where, shape):
    """The part that a layer is; its arrays are taken off the front."""
    if kind == "Bidirectional":
        ahead, back = config["layer"], config.get("backward_layer") or config["layer"]
        merge = config["merge_mode"]
        if merge not in _MERGES:
            raise ValueError(f"jaxseq has no equal of `merge_mode={merge!r}` of layer {where!r}")
        if merge == "concat" and ahead["class_name"].startswith("ConvLSTM"):
            raise ValueError(f"jaxseq has no equal of `merge_mode='concat'` of images of layer {where!r}")
        fixed = {"build_config": config.get("build_config", {}), "go_backwards": False}
        sides = [_read(side["class_name"], side["config"] | fixed, arrays, where, shape) for side in (ahead, back)]
        return _layers.both(*sides, _MERGES[merge])
    if config.get("go_backwards"):
        raise ValueError(f"jaxseq has no equal of `go_backwards` of layer {where!r}: call unroll(..., reverse=True)")
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
    """The config of a layer, with its functions themselves in place of what stands for them."""
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
    """A net as `(kind, ...)`: cells with their weights, stacks, and two directions."""
    factory, options = _layers.call(net, "Keras")
    if factory is wrappers.dropout:
        return _described(options["cell"], params)
    if factory is wrappers.stack:
        return "stack", [_described(*part) for part in _layers.children(factory, options, params)]
    if factory is wrappers.bidirectional:
        both = [_described(*part) for part in _layers.children(factory, options, params)]
        if any(not _is_layer(side) for side in both):
            raise ValueError("Keras has no equal of `bidirectional` around such nets, but of cells and stacks of cells")
        merge = next(name for name, ours in _MERGES.items() if ours == options["merge"])
        if merge == "concat" and both[0][0] == "conv_lstm":
            raise ValueError("Keras has no equal of `merge='concat'` of jaxseq.conv_lstm, image behind image")
        return "bidirectional", both, merge
    if factory is wrappers.residual:
        raise ValueError("Keras has no equal of `residual`")
    weights = _keras_cells.plain(_layers.weights_of(net, params, "Keras"))
    return weights.kind, weights


def _is_layer(described):
    """Whether it is a cell, or a stack of cells but convolutional ones."""
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
    """Of one step of the inputs."""
    kind, inner = described[:2]
    return _shape(inner[0]) if kind in ("stack", "bidirectional") else _keras_cells.input_shape(inner)


def _made(keras, described):
    """The layer, without weights."""
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
