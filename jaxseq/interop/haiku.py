"""Haiku: the params of `hk.LSTM`, `hk.GRU` and `hk.VanillaRNN`, as dicts of arrays by module and name.

lstm/linear    w [D + H, 4H], b [4H]                 gates i g f o; adds 1 to the forget gate's bias
gru            w_i [D, 3H], w_h [H, 3H], b [3H]      gates z r n; the reset comes before, the update gate writes
vanilla_rnn    linear w [D, H], b [H];  linear_1 w [H, H], b [H] or none                          relu
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.interop import _layers
from jaxseq.interop._arrays import entry, join, listed, split, zeros
from jaxseq.interop._layers import Layer, Weights
from jaxseq.typing import Cell, Composite, Params

_LSTM, _GRU = ("i", "g", "f", "o"), ("z", "r", "n")
_NAMES = {"lstm": "lstm", "gru": "gru", "rnn": "vanilla_rnn"}


def from_params(params: Mapping[str, Any], names: str | Sequence[str]) -> tuple[Cell | Composite, Params]:
    """Returns the net of Haiku's recurrent cores, and its params. Several cores become a stack.

    Args:
      params: Haiku's params, `{module: {name: array}}`. They may include other modules.
      names: the name of the core's module, such as "lstm" or "encoder/gru", or the names of the cores of a
        `hk.DeepRNN`, in order.

    Raises:
      TypeError, ValueError: an array is missing, has a shape that does not fit the others, or holds NaN.
    """
    if not isinstance(params, Mapping) or not all(isinstance(part, Mapping) for part in params.values()):
        raise TypeError(f"`params` must be dicts of arrays by module, as Haiku's are; got {check.short(params)}")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"`names` must be a module's name or a list of names; got {check.short(names)}")
    flat = {f"{module}/{name}": array for module, part in params.items() for name, array in part.items()}
    return _layers.net_of([Layer(_read(flat, name)) for name in names])


def to_params(net: Cell | Composite, params: Params) -> dict[str, dict[str, jax.Array]]:
    """Returns Haiku's params of a net. The cores are called lstm, gru or vanilla_rnn, and further ones lstm_1, lstm_2.

    Args:
      net: `lstm`, `gru` without `reset_after`, `rnn` with relu, or a `stack` of these. Dropout is left out.
      params: its params.

    Raises:
      ValueError: Haiku has no equivalent of an option. The message names it.
    """
    made, counts = {}, {}
    for layer in _layers.layers_of(net, params, "Haiku"):
        if layer != Layer(layer.forward):
            raise ValueError("Haiku's cores have no equivalent of `bidirectional`, `backwards` and `residual`")
        kind = layer.forward.kind
        if kind not in _NAMES:
            raise ValueError(f"Haiku has no equivalent of jaxseq.{kind} that `to_params` can write")
        count = counts[kind] = counts.get(kind, -1) + 1
        name = f"{_NAMES[kind]}_{count}" if count else _NAMES[kind]
        for part, arrays in _write(layer.forward).items():
            made[name + part] = {key: jnp.asarray(array) for key, array in arrays.items()}
    return made


def _read(flat, name):
    """Returns the weights of a core."""
    if f"{name}/w_h" in flat:
        hidden = entry("params", flat, f"{name}/w_h", (None, None)).shape[0]
        x, h = (
            split(entry("params", flat, f"{name}/{w}", (size, 3 * hidden)), _GRU)
            for w, size in (("w_i", None), ("w_h", hidden))
        )
        b = split(entry("params", flat, f"{name}/b", (3 * hidden,)), _GRU)
        return Weights("gru", {"reset_after": False, "update_writes": True}, x, h, b)
    if f"{name}/linear/w" not in flat:
        raise ValueError(f"`params` have no recurrent core {name!r}, which `names` lists; there are {listed(flat)}")
    if f"{name}/linear_1/w" in flat:
        hidden = entry("params", flat, f"{name}/linear_1/w", (None, None)).shape[0]
        x = entry("params", flat, f"{name}/linear/w", (None, hidden))
        h = entry("params", flat, f"{name}/linear_1/w", (hidden, hidden))
        b = entry("params", flat, f"{name}/linear/b", (hidden,))
        if f"{name}/linear_1/b" in flat:
            b = b + entry("params", flat, f"{name}/linear_1/b", (hidden,))
        return Weights("rnn", {"activation": jax.nn.relu}, {"n": x}, {"n": h}, {"n": b})
    size, rows = entry("params", flat, f"{name}/linear/w", (None, None)).shape
    hidden = rows // 4
    if rows % 4 or size <= hidden:
        raise ValueError(f"`params[{name + '/linear/w'!r}]` must be [D + H, 4H]; got [{size}, {rows}]")
    x, h = (split(part, _LSTM) for part in np.split(entry("params", flat, f"{name}/linear/w"), [size - hidden]))
    b = split(entry("params", flat, f"{name}/linear/b", (rows,)), _LSTM)
    return Weights("lstm", {}, x, h, b | {"f": b["f"] + 1})


def _write(weights):
    """Returns the arrays of a core, by submodule and name."""
    if weights.kind == "gru":
        _layers.only(weights, "Haiku", "reset_after", "update_writes")
        if weights.options["reset_after"]:
            raise ValueError("Haiku has no equivalent of `reset_after=True` of jaxseq.gru")
        parts = weights.x, weights.h, weights.b
        if not weights.options["update_writes"]:  # 1 - σ(a) = σ(-a)
            parts = tuple(part | {"z": -part["z"]} for part in parts)
        return {"": dict(zip(("w_i", "w_h", "b"), (join(part, _GRU) for part in parts), strict=True))}
    weights = _layers.plain(weights, "Haiku")
    if weights.kind == "rnn":
        _layers.only(weights, "Haiku", "activation")
        if weights.options["activation"] is not jax.nn.relu:
            activation = _layers.name_of(weights.options["activation"])
            raise ValueError(f"Haiku has no equivalent of `activation={activation}` of jaxseq.rnn, except relu")
        second = {"w": weights.h["n"], "b": zeros(weights.h)["n"]}
        return {"/linear": {"w": weights.x["n"], "b": weights.b["n"]}, "/linear_1": second}
    _layers.only(weights, "Haiku")
    w = np.concatenate([join(weights.x, _LSTM), join(weights.h, _LSTM)])
    return {"/linear": {"w": w, "b": join(weights.b | {"f": weights.b["f"] - 1}, _LSTM)}}
