"""PyTorch: `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells, as modules or as state dicts of arrays.

    weight_ih_l0 [G, D]    weight_hh_l0 [G, H]    bias_ih_l0, bias_hh_l0 [G]    weight_hr_l0 [P, H], the projection

The names of the next layer end in `_l1`, and those of the backward direction in `_reverse`. A cell's names have neither
suffix. The gates are in the order i f g o and r z n. The two biases are added, except those of a GRU's candidate, which
are `b` and `b_hn`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseq import check
from jaxseq.interop import _layers, _torch_recurrent
from jaxseq.interop._arrays import listed, tensor
from jaxseq.interop._layers import GATES, Layer
from jaxseq.typing import Cell, Composite, Params

_NAME = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?:_l(\d+)(_reverse)?)?")


def from_module(module: Any) -> tuple[Cell | Composite, Params]:
    """Returns the net of a PyTorch module and its params: a cell, `bidirectional`, or a `stack` of these.

    Dropout between layers becomes dropout of their outputs. It is drawn for each step when `unroll` is given a key.
    `batch_first` is ignored: the net is always time-major.

    Args:
      module: a `torch.nn.RNN`, `LSTM`, `GRU`, `RNNCell`, `LSTMCell` or `GRUCell`.

    Raises:
      TypeError: it is another module.
      ValueError: its weights hold NaN.
    """
    import torch  # pyright: ignore[reportMissingImports]

    kinds = {torch.nn.RNNBase: "", torch.nn.RNNCellBase: "Cell"}
    if not isinstance(module, tuple(kinds)):
        raise TypeError(
            "`module` must be a torch.nn.RNN, LSTM, GRU or one of their cells; "
            f"got {type(module).__module__}.{type(module).__name__}"
        )
    kind = next(kind for kind in GATES if type(module).__name__.lower().startswith(kind))
    dropout = float(getattr(module, "dropout", 0.0))
    return from_state_dict(
        module.state_dict(), kind=kind, nonlinearity=getattr(module, "nonlinearity", "tanh"), dropout=dropout
    )


def from_state_dict(
    state_dict: Mapping[str, Any],
    *,
    prefix: str = "",
    kind: str | None = None,
    nonlinearity: str = "tanh",
    dropout: float = 0.0,
) -> tuple[Cell | Composite, Params]:
    """Returns the net whose weights are in a state dict, and its params.

    Args:
      state_dict: arrays of PyTorch, NumPy or JAX by PyTorch's names. Reading them from a safetensors file needs no
        PyTorch.
      prefix: the prefix of the names, such as "encoder.rnn.". Arrays without it are ignored.
      kind: "rnn", "lstm" or "gru". None finds it from the shapes.
      nonlinearity: "tanh" or "relu", for an RNN. The arrays do not tell it.
      dropout: the rate between layers. The arrays do not tell it.

    Raises:
      TypeError, ValueError: an array is missing, has a shape that does not fit the others, is not of floats, holds NaN,
        or has a name that a recurrent module does not have.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"`state_dict` must be a dict of arrays by name; got {check.short(state_dict)}")
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` must be a str; got {check.short(prefix)}")
    check.one_of("kind", kind, (None, "rnn", "lstm", "gru"))
    check.one_of("nonlinearity", nonlinearity, tuple(_torch_recurrent.NONLINEARITIES))
    dropout = check.rate("dropout", dropout)
    found = {name[len(prefix) :].lstrip("."): name for name in state_dict if str(name).startswith(prefix)}
    places: set[tuple[str | None, str | None]] = set()
    for name, full in found.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"`state_dict` has {full!r}, not a weight of a recurrent module. Give the `prefix` of the module"
            )
        places.add((match[2], match[3]))
    if not places:
        raise ValueError(f"`state_dict` has no weights under the `prefix` {prefix!r}; there are {listed(state_dict)}")
    arrays = {name: state_dict[full] for name, full in found.items()}
    if any(layer is None for layer, _ in places):
        if len(places) > 1:
            raise ValueError(f"`state_dict` must hold one module; there are {listed(state_dict)}")
        return _layers.net_of([Layer(_torch_recurrent.read(arrays, "", kind, nonlinearity))])
    count = 1 + max(int(layer or 0) for layer, _ in places)
    two = any(side for _, side in places)
    layers = []
    for place in range(count):
        noise = {"outputs": dropout, "per_step": True} if dropout and place < count - 1 else {}
        forward, backward = (
            _torch_recurrent.read(arrays, f"_l{place}{side}", kind, nonlinearity)._replace(noise=noise) if has else None
            for side, has in (("", True), ("_reverse", two))
        )
        assert forward is not None
        layers.append(Layer(forward, backward))
        kind = forward.kind
    return _layers.net_of(layers)


def to_state_dict(
    net: Cell | Composite, params: Params, *, prefix: str = "", bias: bool = True, cell: bool = False
) -> dict[str, np.ndarray]:
    """Returns the state dict, of NumPy arrays, of the equivalent PyTorch module.

    Load it by `module.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})`. The second
    bias is zero, except for the `b_hn` of a GRU. `coupled` and `update_writes` are converted by negating weights.

    Args:
      net: `rnn` (tanh or relu), `lstm` (with or without a projection) or `gru` with `reset_after`, in one direction or
        two, or a `stack` of layers of equal sizes and options. Dropout is left out.
      params: its params.
      prefix: the prefix of the names.
      bias: False for a PyTorch module without biases. Biases in `params` must then be zero.
      cell: True for the names of a cell (`nn.LSTMCell`), False for those of the module that runs it.

    Raises:
      ValueError: PyTorch has no equivalent of an option. The message names it.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` must be a str; got {check.short(prefix)}")
    check.switch("bias", bias)
    check.switch("cell", cell)
    layers = _layers.layers_of(net, params, "PyTorch")
    first = _torch_recurrent.form(layers[0])
    if cell and (len(layers) > 1 or layers[0].backward is not None or layers[0].forward.projection is not None):
        raise ValueError("`cell` must be False unless the net has one layer, one direction and no projection")
    arrays = {}
    for place, layer in enumerate(layers):
        if _torch_recurrent.form(layer) != first:
            raise ValueError("PyTorch has no equivalent of a `stack` whose layers differ in size or options")
        if layer.residual:
            raise ValueError("PyTorch's recurrent modules have no equivalent of `residual`")
        if layer.backwards:
            raise ValueError("PyTorch has no equivalent of `backwards`")
        if layer.merge != "concat":
            raise ValueError(f"PyTorch has no equivalent of `merge={layer.merge!r}` of jaxseq.bidirectional")
        for side, weights in zip(("", "_reverse"), (layer.forward, layer.backward), strict=True):
            if weights is not None:
                suffix = "" if cell else f"_l{place}{side}"
                arrays |= {
                    f"{prefix}{name}{suffix}": leaf for name, leaf in _torch_recurrent.write(weights, bias).items()
                }
    return arrays


def to_module(net: Cell | Composite, params: Params) -> Any:
    """Returns the time-major `torch.nn.RNN`, `LSTM` or `GRU` of a net, with its weights.

    Dropout of the outputs of every layer but the last, drawn for each step, becomes PyTorch's `dropout`.

    Args:
      net, params: as in `to_state_dict`.

    Raises:
      ValueError: PyTorch has no equivalent of an option or of another dropout. The message names it.
    """
    import torch  # pyright: ignore[reportMissingImports]

    arrays = to_state_dict(net, params)
    layers = _layers.layers_of(net, params, "PyTorch")
    weights = layers[0].forward
    options: dict[str, Any] = {"num_layers": len(layers), "bidirectional": layers[0].backward is not None}
    options["dropout"] = _torch_recurrent.dropout_of(layers)
    if weights.kind == "rnn":
        options["nonlinearity"] = _torch_recurrent.nonlinearity_of(weights)
    if weights.projection is not None:
        options["proj_size"] = weights.size
    hidden = arrays["weight_hh_l0"].shape[0] // len(GATES[weights.kind])
    tensors = {name: tensor(value) for name, value in arrays.items()}
    make = getattr(torch.nn, weights.kind.upper())
    module = make(weights.in_size, hidden, dtype=tensors["weight_hh_l0"].dtype, **options)
    module.load_state_dict(tensors)
    return module


def from_transformer(module: Any, *, causal: bool, max_length: int | None = None) -> Any:
    """Returns the batch-major `nn.Transformer` of a PyTorch Transformer, without positions.

    Dropout is left out. A decoder's memory must have as many features as its inputs.

    Args:
      module: a `torch.nn.TransformerEncoder` or `TransformerDecoder`, or one layer of these. With `norm_first` there
        must be a `norm` after the last layer. Without it there must be none.
      causal: whether a step sees only itself and earlier steps. PyTorch takes this as the mask of each call.
      max_length: as in `nn.Transformer`.

    Raises:
      TypeError, ValueError: it is another module, or `nn.Transformer` has no equivalent of an option. The message names
        it.
    """
    from jaxseq.interop import _torch_transformer

    return _torch_transformer.read(module, causal, max_length)


def to_transformer(layer: Any) -> Any:
    """Returns the `torch.nn.TransformerEncoder` of a layer, or the `TransformerDecoder` if the layer has a memory.

    The module has no dropout. If the layer is causal, pass the causal mask in each call of the module.

    Args:
      layer: an `nn.Transformer` without positions. Inputs, outputs and memory must have equally many features, and
        each head of queries its own head of keys and values.

    Raises:
      TypeError, ValueError: PyTorch has no equivalent of an option. The message names it.
    """
    from jaxseq.interop import _torch_transformer

    return _torch_transformer.write(layer)


def from_attention(module: Any) -> Any:
    """Returns the batch-major Flax `nnx.MultiHeadAttention` of a PyTorch module. `jaxseq.nn` has no such layer.

    Dropout is left out. Flax's mask `[B, 1, T, S]` is True where a query sees a key. For lengths of keys it is
    `jaxseq.lengths_to_mask(lengths, S).T[:, None, None]`. A query that sees no key gives NaN in PyTorch.

    Args:
      module: a `torch.nn.MultiheadAttention` whose `kdim` equals `vdim`.

    Raises:
      TypeError, ValueError: it is another module, or Flax has no equivalent of an option. The message names it.
    """
    from jaxseq.interop import _torch_attention

    return _torch_attention.read(module)


def to_attention(layer: Any) -> Any:
    """Returns the batch-first `torch.nn.MultiheadAttention` of a Flax module, without dropout.

    Args:
      layer: an `nnx.MultiHeadAttention` with as many output features as inputs, and a head of keys for each head of
        queries.

    Raises:
      TypeError, ValueError: PyTorch has no equivalent of an option. The message names it.
    """
    from jaxseq.interop import _torch_attention

    return _torch_attention.write(layer)
