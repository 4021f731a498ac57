"""ONNX's RNN, LSTM and GRU: W `[sides, G, D]`, R `[sides, G, H]`, B `[sides, 2 G]`, P `[sides, 3 H]`.

A side is a direction. The gates of an LSTM are in the order i o f g, and its peepholes i o f; the peephole of o sees
the new memory. The gates of a GRU are z r n. With `input_forget` the forget gate is 1 - i. A coupled LSTM of jaxseq
computes i from f instead, so the weights are negated. `clip` bounds the inputs of the activations of gates and
candidate, not the memory.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import _activations
from jaxseq._factory import call_of
from jaxseq.cells._activation import Activation
from jaxseq.interop import _layers
from jaxseq.interop._arrays import added, array, each, join, split, zeros
from jaxseq.interop._layers import Weights

KINDS = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
_GATES = {"rnn": ("n",), "lstm": ("i", "o", "f", "g"), "gru": ("z", "r", "n")}
_PEEPHOLES = ("i", "o", "f")
_ACTIVATIONS: dict[str, Activation] = {
    "Tanh": jnp.tanh,
    "Sigmoid": jax.nn.sigmoid,
    "Relu": jax.nn.relu,
    "Softsign": jax.nn.soft_sign,
    "Softplus": jax.nn.softplus,
}
_PARAMETRISED = {  # with ONNX's defaults
    "HardSigmoid": (_activations.hard_sigmoid, (0.2, 0.5)),
    "LeakyRelu": (_activations.leaky_relu, (0.01,)),
    "ThresholdedRelu": (_activations.thresholded_relu, (1.0,)),
    "ScaledTanh": (_activations.scaled_tanh, (1.0, 1.0)),
    "Affine": (_activations.affine, (1.0, 0.0)),
    "Elu": (_activations.elu, (1.0,)),
}
_SAME = {jax.nn.hard_sigmoid: ("HardSigmoid", (1 / 6, 0.5)), jax.nn.identity: ("Affine", (1.0, 0.0))}
_SAME |= {jax.nn.leaky_relu: ("LeakyRelu", (0.01,)), jax.nn.elu: ("Elu", (1.0,)), jax.lax.tanh: ("Tanh", ())}
_SAME |= {jax.lax.logistic: ("Sigmoid", ())}


def read(kind: str, attributes: dict[str, Any], arrays: dict[str, np.ndarray], where: str) -> list[Weights]:
    """Returns the weights of each direction of a node.

    Args:
      kind: "RNN", "LSTM" or "GRU".
      attributes: the attributes of the node.
      arrays: W and R, and B and P if the node has them.
      where: the node's name, for errors.
    """
    ours, gates = KINDS[kind], _GATES[KINDS[kind]]
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    R = array(f"{where}.R", arrays["R"], (count, None, None))
    H = R.shape[-1]
    rows = len(gates) * H
    if R.shape[1] != rows or attributes.get("hidden_size", H) != H:
        raise ValueError(
            f"`{where}.R` must be of the shape [{count}, {rows}, {H}] for {kind} with `hidden_size` "
            f"{attributes.get('hidden_size', H)}; got {list(R.shape)}"
        )
    W = array(f"{where}.W", arrays["W"], (count, rows, None))
    B = array(f"{where}.B", arrays["B"], (count, 2 * rows)) if "B" in arrays else np.zeros([count, 2 * rows], R.dtype)
    P = array(f"{where}.P", arrays["P"], (count, 3 * H)) if "P" in arrays else None
    functions = _functions(kind, attributes, count, where)
    sides = []
    for side in range(count):
        x, h = (each(split(leaf[side], gates, 0), np.transpose) for leaf in (W, R))
        b, b_h = (split(half, gates) for half in np.split(B[side], 2))
        options, b_hn = functions[side], None
        if ours == "gru":
            options["reset_after"] = bool(attributes.get("linear_before_reset", 0))
            if options["reset_after"]:
                b_hn, b_h = b_h["n"], b_h | {"n": np.zeros_like(b_h["n"])}
        peepholes = {}
        if P is not None:
            peepholes, options["peephole"] = split(P[side], _PEEPHOLES), "new"
        weights = Weights(ours, options, x, h, added(b, b_h), b_hn, peepholes)
        sides.append(_coupled(weights, where) if attributes.get("input_forget", 0) else weights)
    return sides


def write(weights: Weights) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Returns the operator, its attributes, and W, R, B and P of one direction.

    Raises:
      ValueError: ONNX has no equivalent of an option. The message names it.
    """
    weights = _layers.plain(weights, "ONNX")
    if weights.kind == "conv_lstm":
        raise ValueError("ONNX has no equivalent of jaxseq.conv_lstm")
    _layers.only(weights, "ONNX", "activation", "gate", "candidate", "reset_after", "peephole", "carry")
    options, gates = weights.options, _GATES[weights.kind]
    if options.get("peephole") == "old":
        raise ValueError("ONNX has no equivalent of `peephole='old'` of jaxseq.lstm")
    functions = [(name, options[name]) for name in ("activation", "gate", "candidate") if name in options]
    named = [_named(function, option) for option, function in functions]
    named += [("Tanh", ())] if weights.kind == "lstm" else []
    attributes: dict[str, Any] = {"hidden_size": weights.size, "activations": [name for name, _ in named]}
    alphas, betas = ([values[place] for _, values in named if len(values) > place] for place in (0, 1))
    attributes |= {"activation_alpha": alphas} if alphas else {}
    attributes |= {"activation_beta": betas} if betas else {}
    b_h = zeros(weights.h)
    if weights.kind == "gru":
        attributes["linear_before_reset"] = int(options["reset_after"])
        b_h = b_h if weights.b_hn is None else b_h | {"n": weights.b_hn}
    arrays = {
        "W": join(weights.x, gates).T[None],
        "R": join(weights.h, gates).T[None],
        "B": np.concatenate([join(weights.b, gates), join(b_h, gates)])[None],
    }
    if weights.peepholes:
        arrays["P"] = join(weights.peepholes, _PEEPHOLES)[None]
    operator = next(name for name, kind in KINDS.items() if kind == weights.kind)
    return operator, attributes, {name: np.ascontiguousarray(leaf) for name, leaf in arrays.items()}


def _functions(kind, attributes, count, where):
    """Returns the activations of each direction, as options of the cell."""
    names = {"RNN": ("activation",), "LSTM": ("gate", "candidate", "memory"), "GRU": ("gate", "candidate")}[kind]
    default = {"activation": "Tanh", "gate": "Sigmoid", "candidate": "Tanh", "memory": "Tanh"}
    given = attributes.get("activations") or [default[name] for name in names] * count
    if len(given) != count * len(names):
        raise ValueError(f"`{where}.activations` must be {count * len(names)} names; got {given}")
    parameters = [list(attributes.get(f"activation_{name}") or ()) for name in ("alpha", "beta")]
    made = [_function(name, parameters, where) for name in given]
    bound = attributes.get("clip")
    sides = []
    for side in range(count):
        own = dict(zip(names, made[side * len(names) : (side + 1) * len(names)], strict=True))
        if own.pop("memory", jnp.tanh) is not jnp.tanh:
            raise ValueError(f"jaxseq has no equivalent of `{where}.activations` {given}: the memory's must be Tanh")
        own = {name: _activations.clipped(function, bound) for name, function in own.items()} if bound else own
        sides.append(own)
    return sides


def _function(name, parameters, where):
    by_lower = {known.lower(): known for known in (*_ACTIVATIONS, *_PARAMETRISED)}
    known = by_lower.get(name.lower())
    if known is None:
        raise ValueError(f"jaxseq has no equivalent of `{where}.activations` {name!r}")
    if known in _ACTIVATIONS:
        return _ACTIVATIONS[known]
    make, defaults = _PARAMETRISED[known]
    values = [given.pop(0) if given else value for given, value in zip(parameters, defaults, strict=False)]
    for function, (same, own) in _SAME.items():
        if same == known and np.allclose(own, values, rtol=1e-6):
            return function
    return make(*(float(np.format_float_positional(np.float32(value), unique=True)) for value in values))


def _named(function, option):
    """Returns ONNX's name of an activation, and its parameters."""
    for name, known in _ACTIVATIONS.items():
        if function is known:
            return name, ()
    if function in _SAME:
        return _SAME[function]
    call = call_of(function)
    for name, (make, _) in _PARAMETRISED.items():
        if call is not None and call[0] is make:
            return name, tuple(call[1].values())
    raise ValueError(f"ONNX has no equivalent of `{option}={_layers.name_of(function)}` of jaxseq")


def _coupled(weights, where):
    """Returns weights whose forget gate is 1 - i, made from the negated weights of i."""
    if weights.options["gate"] not in (jax.nn.sigmoid, jax.nn.hard_sigmoid):
        raise ValueError(f"jaxseq has no equivalent of `{where}.input_forget` with this `activations` or `clip`")

    def moved(gates):
        return {"f": -gates["i"], **{gate: leaf for gate, leaf in gates.items() if gate not in "if"}} if gates else {}

    parts: Sequence[Any] = [moved(gates) for gates in (weights.x, weights.h, weights.b, weights.peepholes)]
    x, h, b, peepholes = parts
    return weights._replace(options=weights.options | {"coupled": True}, x=x, h=h, b=b, peepholes=peepholes)
