"""Keras's recurrent cells: kernel `[D, G]`, recurrent kernel `[H, G]`, bias `[G]`, or `[2, G]` with `reset_after`.

The gates of LSTM and ConvLSTM are in the order of jaxseq, i f g o. Those of a GRU are z r n. An LSTM applies its
activation to both the candidate and the memory.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.interop import _layers
from jaxseq.interop._arrays import array, join, split, zeros
from jaxseq.interop._layers import Weights

_KINDS = {
    **{
        f"{name}{end}": kind
        for name, kind in (("SimpleRNN", "rnn"), ("LSTM", "lstm"), ("GRU", "gru"))
        for end in ("", "Cell")
    },
    **{f"ConvLSTM{axes}D": "conv_lstm" for axes in (1, 2, 3)},
}
_GATES = {"rnn": ("n",), "lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n"), "conv_lstm": ("i", "f", "g", "o")}
_ACTIVATIONS = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "linear": jax.nn.identity,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "hard_silu": jax.nn.hard_silu,
    "hard_tanh": jax.nn.hard_tanh,
    "celu": jax.nn.celu,
    "mish": jax.nn.mish,
    "log_sigmoid": jax.nn.log_sigmoid,
    "exponential": jnp.exp,
}


def read(
    kind: str, config: dict[str, Any], arrays: Sequence[Any], where: str, shape: Sequence[int] | None = None
) -> Weights:
    """Returns the weights of a layer or cell, given its class, its config and its arrays in Keras's order."""
    ours = _KINDS.get(kind)
    if ours is None:
        raise ValueError(f"jaxseq has no equivalent of layer {where!r}, a {kind}; it can import {', '.join(_KINDS)}")
    with_bias = config.get("use_bias", True)
    if len(arrays) != (3 if with_bias else 2):
        raise ValueError(f"layer {where!r}, a {kind}, must have {3 if with_bias else 2} arrays; it has {len(arrays)}")
    if with_bias and hasattr(arrays[2], "shape"):  # old configs have no `reset_after`
        config = {"reset_after": len(arrays[2].shape) == 2} | config
    options = _options(ours, config, where)
    names = [f"{where}.{name}" for name in ("kernel", "recurrent_kernel", "bias")]
    kernels = [array(name, value) for name, value in zip(names, arrays[:2], strict=False)]
    gates = _GATES[ours]
    H = kernels[1].shape[-2] if kernels[1].ndim > 1 else 0
    window = kernels[1].shape[:-2]
    if ours == "conv_lstm":
        options |= _convolution(config, kernels[1], shape, where)
    rows = len(gates) * H
    x = split(array(names[0], kernels[0], (*window, None, rows)), gates)
    h = split(array(names[1], kernels[1], (*window, H, rows)), gates)
    b, b_hn = zeros(h), None
    after = ours == "gru" and options["reset_after"]
    if with_bias:
        bias = array(names[2], arrays[2], (2, rows) if after else (rows,))
        b = split(bias[0] if after else bias, gates)
        if after:
            second = split(bias[1], gates)
            b = {gate: b[gate] + second[gate] for gate in ("r", "z")} | {"n": b["n"]}
            b_hn = second["n"]
    if after and b_hn is None:
        b_hn = zeros(h)["n"]
    noise = {
        name: rate
        for name, rate in {"inputs": config.get("dropout"), "recurrent": config.get("recurrent_dropout")}.items()
        if rate
    }
    return Weights(ours, options, x, h, b, b_hn, noise=noise)


def plain(weights: Weights) -> Weights:
    """Returns the weights in a form that Keras supports. Raises ValueError if there is none."""
    weights = _layers.plain(weights, "Keras")
    convolution = ("shape", "channels", "window", "strides", "dilation", "padding")
    _layers.only(weights, "Keras", "activation", "gate", "reset_after", *convolution, *_candidate(weights))
    for option in ("activation", "gate", *_candidate(weights)):
        if option in weights.options:
            _name(weights.options[option], option)
    return weights


def write(weights: Weights) -> list[np.ndarray]:
    """Returns the arrays in Keras's order."""
    gates = _GATES[weights.kind]
    b = join(weights.b, gates)
    if weights.b_hn is not None:
        b = np.stack([b, join(zeros(weights.h) | {"n": weights.b_hn}, gates)])
    return [join(weights.x, gates), join(weights.h, gates), b]


def make(keras: Any, weights: Weights, end: str = "") -> Any:
    """Returns the layer without weights, or the cell if `end` is "Cell"."""
    options = weights.options
    names = {"gate": "recurrent_activation", "candidate": "activation", "activation": "activation"}
    given = {names[name]: _name(value, name) for name, value in options.items() if name in names}
    given |= {"reset_after": options["reset_after"]} if weights.kind == "gru" else {}
    given |= {} if end else {"return_sequences": True}
    given["dtype"] = weights.x[_GATES[weights.kind][0]].dtype.name
    if weights.kind != "conv_lstm":
        name = next(name for name, kind in _KINDS.items() if kind == weights.kind)
        return getattr(keras.layers, f"{name}{end}")(weights.size, **given)
    axes = len(options["shape"])
    convolution = {"strides": "strides", "dilation": "dilation_rate", "padding": "padding"}
    given |= {theirs: options[ours] for ours, theirs in convolution.items()}
    window = weights.x["i"].shape[:axes]
    return getattr(keras.layers, f"ConvLSTM{axes}D")(options["channels"], window, **given)


def input_shape(weights: Weights) -> tuple[int, ...]:
    """Returns the shape of one step of the inputs."""
    return (*weights.options.get("shape", ()), weights.in_size)


def _options(kind, config, where):
    defaults = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    functions = {name: _function(config.get(name, default), name, where) for name, default in defaults.items()}
    if kind == "rnn":
        return {"activation": functions["activation"]}
    options = {"gate": functions["recurrent_activation"]}
    if kind == "gru":
        return {**options, "candidate": functions["activation"], "reset_after": bool(config.get("reset_after", True))}
    if functions["activation"] is not jnp.tanh:
        raise ValueError(
            f"jaxseq has no equivalent of `activation` of layer {where!r}, which also acts on the memory, except tanh"
        )
    return options


def _function(value, name, where):
    """Returns the JAX function for one of Keras's, given its name, its entry in a config, or a function."""
    if isinstance(value, dict):  # of a config
        value = value.get("config")
        value = value.get("name") if isinstance(value, dict) else value
    if callable(value) and getattr(value, "__module__", "").startswith("keras."):
        value = value.__name__
    if callable(value):
        return value
    if value is None:
        return jax.nn.identity
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise ValueError(f"jaxseq has no equivalent of `{name}={check.short(value)}` of layer {where!r}")
    return _ACTIVATIONS[value]


def _convolution(config, recurrent, shape, where):
    if config.get("data_format", "channels_last") != "channels_last":
        raise ValueError(f"jaxseq has no equivalent of `data_format={config['data_format']!r}` of layer {where!r}")
    axes = recurrent.ndim - 2
    shape = shape or (config.get("build_config", {}).get("input_shape") or ())[2 : 2 + axes]
    if len(shape) != axes or any(side is None for side in shape):
        raise ValueError(f"`shape` of the images must be given for layer {where!r}; it was built for {list(shape)}")
    return {
        "shape": tuple(shape),
        "channels": recurrent.shape[-2],
        "window": recurrent.shape[:-2],
        "strides": tuple(config.get("strides", (1,) * axes)),
        "dilation": tuple(config.get("dilation_rate", (1,) * axes)),
        "padding": config.get("padding", "valid"),
    }


def _candidate(weights):
    return ("candidate",) if weights.kind == "gru" else ()


def _name(function, option):
    found = next((name for name, ours in _ACTIVATIONS.items() if ours is function), None)
    if found is None:
        raise ValueError(f"Keras has no equivalent of `{option}={_layers.name_of(function)}` of jaxseq")
    return found
