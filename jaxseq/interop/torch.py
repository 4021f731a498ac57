"""PyTorch: `nn.RNN`, `nn.LSTM`, `nn.GRU` and their cells, as modules or as state dicts of arrays.

    weight_ih_l0 [G, D]    weight_hh_l0 [G, H]    bias_ih_l0, bias_hh_l0 [G]    weight_hr_l0 [P, H], the projection

`_l1` stands for the next layer, `_reverse` for the other direction, and a cell's names have neither. The gates are in
the order i f g o and r z n. The two biases are added, but those of a GRU's candidate, which are `b` and `b_hn`.
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
    """Returns the net of a module and its params: a cell, `bidirectional`, or a `stack` of such.

    Dropout between layers becomes that of their outputs, drawn anew at each step, where `unroll` is given a key.
    `batch_first` is of the arrays alone: the net is time-major.

    Args:
      module: a `torch.nn.RNN`, `LSTM`, `GRU`, `RNNCell`, `LSTMCell` or `GRUCell`.

    Raises:
      TypeError: another module.
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
    """Returns the net whose weights stand in a state dict, and its params.

    Args:
      state_dict: arrays of PyTorch, NumPy or JAX by PyTorch's names; those of a safetensors file need no PyTorch.
      prefix: what stands before the names, such as "encoder.rnn."; what does not begin with it is passed over.
      kind: "rnn", "lstm" or "gru"; None: which it is, is told by the shapes.
      nonlinearity: of an RNN, "tanh" or "relu", which no array tells.
      dropout: the rate between layers, which no array tells.

    Raises:
      TypeError, ValueError: an array is missing, has another shape than those beside it, is not of floats, holds NaN,
        or has a name that is none of a recurrent module's.
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
                f"`state_dict` has {full!r}, no name of a recurrent module's weight. Give the `prefix` of its own"
            )
        places.add((match[2], match[3]))
    if not places:
        raise ValueError(f"`state_dict` has no weights under the `prefix` {prefix!r}; there are {listed(state_dict)}")
    arrays = {name: state_dict[full] for name, full in found.items()}
    if any(layer is None for layer, _ in places):
        if len(places) > 1:
            raise ValueError(f"`state_dict` must be of one module; there are {listed(state_dict)}")
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
    """Returns the arrays of NumPy that PyTorch's module of the same form holds.

    Load them by `module.load_state_dict({name: torch.from_numpy(value) for name, value in ….items()})`. The second bias
    is zero but for the `b_hn` of a GRU. Gates that are coupled, and an update gate that writes, become PyTorch's, with
    weights negated.

    Args:
      net: `rnn` (tanh, relu), `lstm` (projected too) or `gru` with the reset after, in one direction or two, or a
        `stack` of layers of one size and form. Dropout is left out.
      params: its params.
      prefix: what stands before the names.
      bias: False: for a module without, whose weights have none; biases that are not zero are an error.
      cell: the names are those of the cell (`nn.LSTMCell`), not of the module that runs it.

    Raises:
      ValueError: PyTorch has no equal of an option, which is named.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"`prefix` must be a str; got {check.short(prefix)}")
    check.switch("bias", bias)
    check.switch("cell", cell)
    layers = _layers.layers_of(net, params, "PyTorch")
    first = _torch_recurrent.form(layers[0])
    if cell and (len(layers) > 1 or layers[0].backward is not None or layers[0].forward.projection is not None):
        raise ValueError("`cell` is of one layer in one direction, without projection")
    arrays = {}
    for place, layer in enumerate(layers):
        if _torch_recurrent.form(layer) != first:
            raise ValueError("PyTorch has no equal of a `stack` whose layers differ in size or form")
        if layer.residual:
            raise ValueError("PyTorch's recurrent modules have no equal of `residual`")
        if layer.backwards:
            raise ValueError("PyTorch has no equal of `backwards`")
        if layer.merge != "concat":
            raise ValueError(f"PyTorch has no equal of `merge={layer.merge!r}` of jaxseq.bidirectional")
        for side, weights in zip(("", "_reverse"), (layer.forward, layer.backward), strict=True):
            if weights is not None:
                suffix = "" if cell else f"_l{place}{side}"
                arrays |= {
                    f"{prefix}{name}{suffix}": leaf for name, leaf in _torch_recurrent.write(weights, bias).items()
                }
    return arrays


def to_module(net: Cell | Composite, params: Params) -> Any:
    """Returns the `torch.nn.RNN`, `LSTM` or `GRU` of a net, time-major, with its weights.

    Args:
      net, params: as `to_state_dict` takes them.

    Raises:
      ValueError: PyTorch has no equal of an option, which is named.
    """
    import torch  # pyright: ignore[reportMissingImports]

    arrays = to_state_dict(net, params)
    layers = _layers.layers_of(net, params, "PyTorch")
    weights = layers[0].forward
    options: dict[str, Any] = {"num_layers": len(layers), "bidirectional": layers[0].backward is not None}
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
    """Returns the `nn.Transformer`, batch-major and without positions, of a Transformer of PyTorch.

    Dropout is left out. A decoder's memory has as many features as its inputs.

    Args:
      module: a `torch.nn.TransformerEncoder` or `TransformerDecoder`, or one layer of such. With `norm_first` there
        must be a `norm` after the last layer, without there must be none.
      causal: whether a step sees no later one; PyTorch says it by the mask of each call.
      max_length: as in `nn.Transformer`.

    Raises:
      TypeError, ValueError: another module, or an option that `nn.Transformer` has no equal of, which is named.
    """
    from jaxseq.interop import _torch_transformer

    return _torch_transformer.read(module, causal, max_length)


def to_transformer(layer: Any) -> Any:
    """Returns the `torch.nn.TransformerEncoder`, or `TransformerDecoder` of a layer with a memory, without dropout.

    Args:
      layer: an `nn.Transformer` without positions, of as many inputs as outputs and features of the memory, and a head
        of keys and values for each of queries. PyTorch is told by the mask of each call whether it is causal.

    Raises:
      TypeError, ValueError: PyTorch has no equal of an option, which is named.
    """
    from jaxseq.interop import _torch_transformer

    return _torch_transformer.write(layer)


def from_attention(module: Any) -> Any:
    """Returns Flax's `nnx.MultiHeadAttention`, batch-major, of PyTorch's; `jaxseq.nn` has none of its own.

    Dropout is left out. Flax's mask is True where a query sees a key, `[B, 1, T, S]`: of the lengths of keys
    `jaxseq.lengths_to_mask(lengths, S).T[:, None, None]`. A query that sees no key gives NaN in PyTorch.

    Args:
      module: a `torch.nn.MultiheadAttention`, with `kdim` as `vdim`.

    Raises:
      TypeError, ValueError: another module, or an option that Flax has no equal of, which is named.
    """
    from jaxseq.interop import _torch_attention

    return _torch_attention.read(module)


def to_attention(layer: Any) -> Any:
    """Returns the `torch.nn.MultiheadAttention`, batch-first, without dropout, of Flax's.

    Args:
      layer: an `nnx.MultiHeadAttention` of as many features out as in, and a head of keys for each of queries.

    Raises:
      TypeError, ValueError: PyTorch has no equal of an option, which is named.
    """
    from jaxseq.interop import _torch_attention

    return _torch_attention.write(layer)
