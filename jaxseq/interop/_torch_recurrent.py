"""Converts one direction of a PyTorch layer to `Weights` and back. Names lack the layer's number and direction."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.interop import _layers
from jaxseq.interop._arrays import added, array, each, entry, join, split, zeros
from jaxseq.interop._layers import GATES, Layer, Weights

NONLINEARITIES = {"tanh": jnp.tanh, "relu": jax.nn.relu}


def read(arrays, suffix, kind, nonlinearity):
    """Returns the weights of one direction of a layer."""
    rows, seen = entry("state_dict", arrays, f"weight_hh{suffix}", (None, None)).shape
    projected = f"weight_hr{suffix}" in arrays
    hidden = entry("state_dict", arrays, f"weight_hr{suffix}", (seen, None)).shape[1] if projected else seen
    told = f", and `kind` is {kind!r}" if kind else ""
    kind = kind or next((kind for kind, gates in GATES.items() if rows == len(gates) * hidden), "")
    gates = GATES.get(kind, ())
    if not gates or rows != len(gates) * hidden:
        raise ValueError(
            f"`state_dict['weight_hh{suffix}']` has {rows} rows for {hidden} features; an RNN has as many, "
            f"a GRU three times as many, an LSTM four times{told}"
        )
    if projected and kind != "lstm":
        raise ValueError(f"`weight_hr{suffix}` belongs to an LSTM; `kind` is {kind!r}")
    x, h = (
        each(split(entry("state_dict", arrays, f"weight_{name}{suffix}", (rows, size)), gates, 0), np.transpose)
        for name, size in (("ih", None), ("hh", seen))
    )
    if any(f"bias_{name}{suffix}" in arrays for name in ("ih", "hh")):
        b, b_h = (split(entry("state_dict", arrays, f"bias_{name}{suffix}", (rows,)), gates) for name in ("ih", "hh"))
    else:
        b = b_h = zeros(h)
    b_hn = None
    if kind == "gru":
        b_hn = b_h["n"]
        b_h = b_h | {"n": np.zeros_like(b_hn)}
    options = {"activation": NONLINEARITIES[nonlinearity]} if kind == "rnn" else {}
    projection = entry("state_dict", arrays, f"weight_hr{suffix}").T if projected else None
    if projected:
        options["projection"] = seen
    return Weights(kind, options, x, h, added(b, b_h), b_hn, projection=projection)


def write(weights, bias):
    """Returns the arrays of one direction of a layer, by their names without the layer's number and direction."""
    weights = _layers.plain(weights, "PyTorch")
    if weights.kind == "conv_lstm":
        raise ValueError("PyTorch has no equivalent of jaxseq.conv_lstm")
    _layers.only(weights, "PyTorch", "projection", "activation")
    if weights.kind == "rnn":
        nonlinearity_of(weights)
    gates = GATES[weights.kind]
    arrays = {
        "weight_ih": join(weights.x, gates).T,
        "weight_hh": join(weights.h, gates).T,
    }
    b, b_h = weights.b, zeros(weights.h)
    if weights.b_hn is not None:
        b_h["n"] = weights.b_hn
    biases = {"bias_ih": join(b, gates), "bias_hh": join(b_h, gates)}
    if bias:
        arrays |= biases
    elif any(np.any(leaf) for leaf in biases.values()):
        raise ValueError("`bias` is False, but the params have biases that are not zero")
    if weights.projection is not None:
        arrays["weight_hr"] = weights.projection.T
    return {name: np.ascontiguousarray(array(name, leaf)) for name, leaf in arrays.items()}


def nonlinearity_of(weights):
    activation = weights.options["activation"]
    for name, function in NONLINEARITIES.items():
        if activation is function:
            return name
    raise ValueError(f"PyTorch has no equivalent of `activation={_layers.name_of(activation)}` of jaxseq.rnn")


def dropout_of(layers: Sequence[Layer]) -> float:
    """Returns the `dropout` of a PyTorch module. Raises ValueError if it has no equivalent of the layers' dropout."""
    noises = [[side.noise for side in (layer.forward, layer.backward) if side is not None] for layer in layers]
    first = noises[0][0] if len(layers) > 1 else {}
    rate = first.get("outputs", 0.0)
    expected = {"outputs": rate, "per_step": True} if rate else {}
    for place, sides in enumerate(noises):
        wanted = expected if place < len(layers) - 1 else {}
        if any(noise != wanted for noise in sides):
            raise ValueError(
                "PyTorch has dropout of the outputs of every layer but the last only, of one rate, drawn for each "
                "step: `dropout(layer, outputs=rate, per_step=True)`. Dropout has no params: give the net without it"
            )
    return rate


def form(layer):
    """Returns the properties that all layers of a PyTorch module must share."""
    return [
        (side.kind, side.size, side.b[next(iter(side.b))].shape, side.options.get("activation"))
        for side in (layer.forward, layer.backward)
        if side is not None
    ]
