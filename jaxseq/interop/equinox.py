"""Equinox: `eqx.nn.LSTMCell` and `eqx.nn.GRUCell`. Their arrays are those of PyTorch, but with one bias.

weight_ih [G, D]    weight_hh [G, H]    bias [G]    bias_n [H] in a GRU         gates i f g o and r z n
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.interop import _layers
from jaxseq.interop._arrays import array, each, join, split, zeros
from jaxseq.interop._layers import GATES, Layer, Weights
from jaxseq.typing import Cell, Composite, Params

_KINDS = {"LSTMCell": "lstm", "GRUCell": "gru"}


def from_module(module: Any) -> tuple[Cell | Composite, Params]:
    """Returns the net of an Equinox cell and its params. A list of cells becomes a stack.

    Args:
      module: an `eqx.nn.LSTMCell` or `GRUCell`, or a list of these.

    Raises:
      TypeError, ValueError: it is another module, or an array has a shape that does not fit the others, or holds NaN.
    """
    cells = list(module) if isinstance(module, Sequence) else [module]
    if not cells:
        raise ValueError("`module` must be a cell or a list of cells; got an empty list")
    return _layers.net_of([Layer(_read(cell)) for cell in cells])


def to_module(net: Cell | Composite, params: Params) -> Any:
    """Returns the Equinox cell of a net, or the list of cells of a stack.

    Args:
      net: `lstm`, `gru` with `reset_after`, or a `stack` of these. Dropout is left out.
      params: its params.

    Raises:
      ValueError: Equinox has no equivalent of an option. The message names it.
    """
    made = []
    for layer in _layers.layers_of(net, params, "Equinox"):
        if layer != Layer(layer.forward):
            raise ValueError("Equinox's cells have no equivalent of `bidirectional`, `backwards` and `residual`")
        made.append(_write(_layers.plain(layer.forward, "Equinox")))
    return made[0] if len(made) == 1 else made


def _read(cell):
    kind = _KINDS.get(type(cell).__name__)
    if kind is None or not type(cell).__module__.startswith("equinox."):
        name = f"{type(cell).__module__}.{type(cell).__name__}"
        raise TypeError(f"`module` must be an eqx.nn.LSTMCell or GRUCell, or a list of these; got {name}")
    gates, rows = GATES[kind], len(GATES[kind]) * cell.hidden_size
    x, h = (
        each(split(array(f"module.{name}", getattr(cell, name), (rows, size)), gates, 0), np.transpose)
        for name, size in (("weight_ih", cell.input_size), ("weight_hh", cell.hidden_size))
    )
    b = zeros(h) if cell.bias is None else split(array("module.bias", cell.bias, (rows,)), gates)
    b_hn = None
    if kind == "gru":
        b_hn = zeros(h)["n"] if cell.bias_n is None else array("module.bias_n", cell.bias_n, (cell.hidden_size,))
    return Weights(kind, {}, x, h, b, b_hn)


def _write(weights):
    import equinox  # pyright: ignore[reportMissingImports]

    makers = {"lstm": equinox.nn.LSTMCell, "gru": equinox.nn.GRUCell}
    if weights.kind not in makers:
        raise ValueError(f"Equinox has no equivalent of jaxseq.{weights.kind}")
    _layers.only(weights, "Equinox")
    gates = GATES[weights.kind]
    arrays = {
        "weight_ih": join(weights.x, gates).T,
        "weight_hh": join(weights.h, gates).T,
        "bias": join(weights.b, gates),
        **({} if weights.b_hn is None else {"bias_n": weights.b_hn}),
    }
    cell = makers[weights.kind](weights.in_size, weights.size, dtype=arrays["bias"].dtype, key=jax.random.key(0))
    leaves = [jnp.asarray(leaf) for leaf in arrays.values()]
    return equinox.tree_at(lambda cell: [getattr(cell, name) for name in arrays], cell, leaves)
