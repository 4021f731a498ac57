"""Flax's LSTMCell, OptimizedLSTMCell, GRUCell, SimpleCell and ConvLSTMCell.

    Linen, and NNX's LSTMCell    ii if ig io, hi hf hg ho;  ir iz in, hr hz hn;  i, h    one kernel per gate
    other cells of NNX           dense_i, dense_h                                        gates i f g o, r z n
    ConvLSTMCell                 ih, hh                                                  gates i g f o

Kernels are `[in, out]`. In the LSTM the bias belongs to the recurrent kernel, in the others to the input kernel. Only
in Linen, `hn` has a separate bias, `b_hn`. ConvLSTMCell has two biases, and adds 1 to that of the forget gate.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.interop import _layers
from jaxseq.interop._arrays import added, entry, join, split, zeros
from jaxseq.interop._layers import GATES, Weights

KINDS = {
    "LSTMCell": "lstm",
    "OptimizedLSTMCell": "lstm",
    "GRUCell": "gru",
    "SimpleCell": "rnn",
    "ConvLSTMCell": "conv_lstm",
}
_BIASED = {"rnn": "i", "gru": "i", "lstm": "h"}
_OF_CONVOLUTION = ("i", "g", "f", "o")


def plain_options(module: Any, where: str, weights: Weights) -> None:
    """Raises ValueError if an option has no equivalent."""
    start = module.carry_init
    if start is not None and start is not jax.nn.initializers.zeros:
        raise ValueError(f"jaxseq has no equivalent of `{where}.carry_init`: pass the carry to unroll")
    if getattr(module, "residual", False):
        raise ValueError(f"jaxseq has no equivalent of `{where}.residual`, which adds h before the activation")
    dtype = next(iter(weights.x.values())).dtype
    if module.dtype is not None and module.dtype != dtype:
        raise ValueError(
            f"`{where}.dtype`, the dtype of the computation, is {jnp.dtype(module.dtype).name}, but the params are "
            f"{dtype}. Cast the params: jaxseq computes in their dtype"
        )


def read(module: Any, where: str, of: str, flat: dict[str, Any]) -> Weights:
    """Returns the weights of any cell except ConvLSTMCell."""
    kind = KINDS[type(module).__name__]
    gates = GATES[kind]
    if "dense_h/kernel" in flat:
        hidden = entry(of, flat, "dense_h/kernel", (None, None)).shape[0]
        rows = len(gates) * hidden
        x, h = (
            split(entry(of, flat, f"dense_{side}/kernel", (size, rows)), gates)
            for side, size in (("i", None), ("h", hidden))
        )
        b, b_hn = split(entry(of, flat, f"dense_{_BIASED[kind]}/bias", (rows,)), gates), zeros(h)[gates[-1]]
    else:
        letters = ("",) if kind == "rnn" else gates
        hidden = entry(of, flat, f"h{letters[-1]}/kernel", (None, None)).shape[0]
        size = entry(of, flat, f"i{letters[0]}/kernel", (None, hidden)).shape[0]

        def by_gate(name, *shape):
            return {
                gate: entry(of, flat, name.format(letter), shape) for gate, letter in zip(gates, letters, strict=True)
            }

        x, h = by_gate("i{}/kernel", size, hidden), by_gate("h{}/kernel", hidden, hidden)
        b = by_gate(_BIASED[kind] + "{}/bias", hidden)
        b_hn = entry(of, flat, "hn/bias", (hidden,)) if kind == "gru" else None
    options: dict[str, Any]
    if kind == "rnn":
        options = {"activation": module.activation_fn}
    else:
        options = {"gate": module.gate_fn, "candidate": jnp.tanh if kind == "lstm" else module.activation_fn}
    if kind == "lstm" and module.activation_fn not in (jnp.tanh, jax.lax.tanh):
        raise ValueError(
            f"jaxseq has no equivalent of `{where}.activation_fn`, which also acts on the memory, except tanh"
        )
    return Weights(kind, options, x, h, b, b_hn if kind == "gru" else None)


def read_convolution(module: Any, where: str, of: str, flat: dict[str, Any], shape: Sequence[int] | None) -> Weights:
    """Returns the weights of a ConvLSTMCell."""
    if shape is None:
        raise ValueError(f"`shape` of the images must be given for `{where}`, a ConvLSTMCell")
    if module.strides is not None and any(stride != 1 for stride in np.ravel(module.strides)):
        raise ValueError(f"jaxseq has no equivalent of `{where}.strides`")
    if module.padding != "SAME":
        raise ValueError(f"jaxseq has no equivalent of `{where}.padding`, except 'SAME'")
    window, channels = tuple(module.kernel_size), module.features
    x, h = (
        split(entry(of, flat, f"{side}/kernel", (*window, size, 4 * channels)), _OF_CONVOLUTION)
        for side, size in (("ih", None), ("hh", channels))
    )
    b, b_h = zeros(x), zeros(x)
    if module.use_bias:
        b, b_h = (split(entry(of, flat, f"{side}/bias", (4 * channels,)), _OF_CONVOLUTION) for side in ("ih", "hh"))
    options = {"shape": tuple(shape), "channels": channels, "window": window}
    return Weights("conv_lstm", options, x, h, added(b, b_h | {"f": b_h["f"] + 1}))


def _options(weights):
    """Returns the options of a Flax cell, for both NNX and Linen."""
    dtype = next(iter(weights.x.values())).dtype
    if weights.kind == "rnn":
        functions = {"activation_fn": weights.options["activation"]}
    elif weights.kind == "conv_lstm":
        functions = {}
    else:
        functions = {"gate_fn": weights.options["gate"], "activation_fn": weights.options["candidate"]}
    return {**functions, "dtype": dtype, "param_dtype": dtype}


def linen_cell(linen: Any, weights: Weights) -> Any:
    """Returns the Linen cell."""
    options = _options(weights)
    if weights.kind == "conv_lstm":
        _layers.only(weights, "Flax", "shape", "channels", "window")
        window = next(iter(weights.x.values())).shape[:-2]
        return linen.ConvLSTMCell(weights.options["channels"], window, **options)
    _supported(weights, "Flax")
    make = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "rnn": linen.SimpleCell}[weights.kind]
    return make(weights.size, **options)


def _supported(weights, library):
    _layers.only(weights, library, "gate", "activation", *(["candidate"] if weights.kind == "gru" else []))


def as_linen(weights: Weights) -> dict[str, dict[str, jax.Array]]:
    """Returns the params of the Linen cell."""
    if weights.kind == "conv_lstm":
        b_h = zeros(weights.h)
        b_h["f"] = b_h["f"] - 1  # the cell adds 1
        parts = {"ih": (weights.x, weights.b), "hh": (weights.h, b_h)}
        return {
            name: {"kernel": jnp.asarray(join(w, _OF_CONVOLUTION)), "bias": jnp.asarray(join(b, _OF_CONVOLUTION))}
            for name, (w, b) in parts.items()
        }
    params: dict[str, dict[str, jax.Array]] = {}
    for gate in GATES[weights.kind]:
        letter = "" if weights.kind == "rnn" else gate
        params[f"i{letter}"] = {"kernel": jnp.asarray(weights.x[gate])}
        params[f"h{letter}"] = {"kernel": jnp.asarray(weights.h[gate])}
        params[f"{_BIASED[weights.kind]}{letter}"]["bias"] = jnp.asarray(weights.b[gate])
    if weights.b_hn is not None:
        params["hn"]["bias"] = jnp.asarray(weights.b_hn)
    return params


def nnx_cell(nnx: Any, weights: Weights) -> Any:
    """Returns the NNX cell, with its weights."""
    if weights.kind == "conv_lstm":
        raise ValueError("Flax NNX has no equivalent of jaxseq.conv_lstm")
    _supported(weights, "Flax NNX")
    if weights.b_hn is not None and np.any(weights.b_hn):
        raise ValueError("Flax NNX has no equivalent of `b_hn` of jaxseq.gru, which must be zero")
    make = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "rnn": nnx.SimpleCell}[weights.kind]
    start = jax.nn.initializers.zeros  # orthogonal matrices cannot be drawn in every dtype
    cell = make(
        weights.in_size,
        weights.size,
        kernel_init=start,
        recurrent_kernel_init=start,
        rngs=nnx.Rngs(0),
        **_options(weights),
    )
    gates = GATES[weights.kind]
    cell.dense_i.kernel[...] = jnp.asarray(join(weights.x, gates))
    cell.dense_h.kernel[...] = jnp.asarray(join(weights.h, gates))
    getattr(cell, f"dense_{_BIASED[weights.kind]}").bias[...] = jnp.asarray(join(weights.b, gates))
    return cell
