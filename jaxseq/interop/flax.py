"""Flax NNX and Linen: RNN, Bidirectional and Sequential around the cells of `_flax_cells.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.interop import _flax_cells, _layers
from jaxseq.interop._layers import Layer
from jaxseq.typing import Cell, Composite, Params

_MERGES = {"sum": jnp.add, "mul": jnp.multiply, "mean": lambda ys, zs: (ys + zs) / 2}


def from_module(
    module: Any, variables: Mapping[str, Any] | None = None, *, shape: Sequence[int] | None = None
) -> tuple[Cell | Composite, Params]:
    """Returns the net of a Flax module and its params.

    `time_major`, `return_carry` and `unroll` are ignored: the net is always time-major and returns its carry.

    Args:
      module: a cell, an RNN around one, a Bidirectional around two RNNs, or a Sequential of these, of NNX or Linen.
      variables: for Linen, the variables `{"params": ...}` as `init` returns them, or only the params. None for NNX.
      shape: (height, width) of the images that a ConvLSTMCell reads. The module does not store it.

    Raises:
      TypeError, ValueError: jaxseq has no equivalent of a module or an option, and the message names it; or an array
        is missing, has a shape that does not fit the others, or holds NaN.
    """
    if isinstance(variables, Mapping):
        variables = variables.get("params", variables)
    elif variables is not None:
        raise TypeError(f"`variables` must be a dict, as Linen's `init` returns; got {check.short(variables)}")
    return _layers.net_of(_walk(module, "module", variables, shape))


def to_linen(net: Cell | Composite, params: Params) -> tuple[Any, dict[str, Any]]:
    """Returns the time-major Linen module of a net, and its variables.

    Args:
      net: `rnn`, `lstm`, `gru` with `reset_after`, or `conv_lstm`, in one direction or two, or a `stack` of these.
        Dropout is left out.
      params: its params.

    Raises:
      ValueError: Flax has no equivalent of an option. The message names it.
    """
    from flax import linen

    made = []
    for layer in _layers.layers_of(net, params, "Flax"):
        sides = []
        for weights in _sides(layer):
            weights = _layers.plain(weights, "Flax")
            rnn = linen.RNN(_flax_cells.linen_cell(linen, weights), **_call_of(layer))
            sides.append((rnn, {"cell": _flax_cells.as_linen(weights)}))
        if layer.backward is not None:
            rnns, own = zip(*sides, strict=True)
            module = linen.Bidirectional(*rnns, **_merge_of(layer), time_major=True)
            made.append((module, {"forward_rnn": own[0], "backward_rnn": own[1]}))
        else:
            made += sides
    if len(made) == 1:
        return made[0][0], {"params": made[0][1]}
    modules, own = zip(*made, strict=True)
    return linen.Sequential(modules), {"params": {f"layers_{place}": part for place, part in enumerate(own)}}


def to_nnx(net: Cell | Composite, params: Params) -> Any:
    """Returns the time-major NNX module of a net, with its weights. An LSTM becomes an OptimizedLSTMCell.

    Args:
      net, params: as in `to_linen`, except `conv_lstm`, and a GRU whose `b_hn` is not zero.

    Raises:
      ValueError: Flax has no equivalent of an option. The message names it.
    """
    from flax import nnx

    made = []
    for layer in _layers.layers_of(net, params, "Flax NNX"):
        cells = [_flax_cells.nnx_cell(nnx, _layers.plain(side, "Flax NNX")) for side in _sides(layer)]
        rnns = [nnx.RNN(cell, **_call_of(layer)) for cell in cells]
        if layer.backward is not None:
            rnns = [nnx.Bidirectional(*rnns, **_merge_of(layer), time_major=True)]
        made += rnns
    return made[0] if len(made) == 1 else nnx.Sequential(*made)


def _walk(module, where, params, shape):
    """Returns the layers of a module. `where` is its place, for errors."""
    kind = type(module).__name__
    if not type(module).__module__.startswith("flax."):
        raise TypeError(f"`{where}` must be a module of Flax; got {type(module).__module__}.{kind}")

    def inside(part, name, key):
        own = None if params is None else _part(params, key, where)
        return _walk(part, f"{where}.{name}", own, shape)

    if kind == "Sequential":
        parts = enumerate(module.layers)
        return [layer for i, part in parts for layer in inside(part, f"layers[{i}]", f"layers_{i}")]
    if kind == "Bidirectional":
        sides = [inside(getattr(module, name), name, name) for name in ("forward_rnn", "backward_rnn")]
        merge = _merge(module.merge_fn, where)
        if merge == "concat" and sides[0][0].forward.kind == "conv_lstm":
            raise ValueError(f"jaxseq has no equivalent of `{where}.merge_fn`, which concatenates channels of images")
        return [Layer(sides[0][0].forward, sides[1][0].forward, merge)]
    if kind == "RNN":
        layers = inside(module.cell, "cell", "cell")
        if not module.reverse or where.endswith("_rnn"):  # Bidirectional sets the direction itself
            return layers
        if not module.keep_order:
            raise ValueError(f"jaxseq has no equivalent of `{where}.reverse` without `keep_order`")
        return [layer._replace(backwards=True) for layer in layers]
    if kind not in _flax_cells.KINDS:
        raise TypeError(f"jaxseq has no equivalent of `{where}`, a {kind}; it imports {', '.join(_flax_cells.KINDS)}")
    of = "module" if params is None else "variables"
    if params is None:
        if not hasattr(module, "rngs"):
            raise TypeError("`variables` must be given for a module of Linen")
        from flax import nnx

        params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    flat = {jax.tree_util.keystr(path, simple=True, separator="/").replace("_/", "/"): leaf for path, leaf in leaves}
    if kind == "ConvLSTMCell":
        weights = _flax_cells.read_convolution(module, where, of, flat, shape)
    else:
        weights = _flax_cells.read(module, where, of, flat)
    _flax_cells.plain_options(module, where, weights)
    return [Layer(weights)]


def _part(params, key, where):
    if key not in params:
        raise ValueError(f"`variables` of `{where}` must have {key!r}; they have {', '.join(map(repr, params))}")
    return params[key]


def _merge(function, where):
    """Returns the name of the merge that a function of two outputs computes, found by trying it."""
    ys, zs = np.random.default_rng(0).normal(size=(2, 3, 4))
    merged = np.asarray(function(ys, zs))
    for name, ours in {"concat": lambda *both: jnp.concatenate(both, axis=-1), **_MERGES}.items():
        expected = np.asarray(ours(ys, zs))
        if merged.shape == expected.shape and np.allclose(merged, expected, rtol=1e-6):
            return name
    raise ValueError(f"jaxseq has no equivalent of `{where}.merge_fn`; it supports concat, {', '.join(_MERGES)}")


def _sides(layer):
    if layer.residual:
        raise ValueError("Flax has no equivalent of `residual`")
    if layer.backward is not None and layer.merge == "concat" and layer.forward.kind == "conv_lstm":
        raise ValueError("Flax has no equivalent of `merge='concat'` of jaxseq.conv_lstm, which concatenates images")
    return [side for side in (layer.forward, layer.backward) if side is not None]


def _call_of(layer) -> dict[str, Any]:
    return {"time_major": True, **({"reverse": True, "keep_order": True} if layer.backwards else {})}


def _merge_of(layer) -> dict[str, Any]:
    return {} if layer.merge == "concat" else {"merge_fn": _MERGES[layer.merge]}
