"""Nets and trees as JSON, and back by tables of names: nothing that is read is run or imported.

net       ["lstm", [8], {"peephole": "new"}]      the factory, positional arguments, keywords
function  {"function": "jax.nn.relu"}             one of the table; those of `_activations.py` are as nets
params    {"LstmParams": {"w_x": "0.w_x", ...}}   a NamedTuple of jaxseq; leaves are the names of arrays
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import cells, check, wrappers
from jaxseq._factory import call_of
from jaxseq.interop import _activations

_FUNCTIONS: dict[str, Callable] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in {
        jax.nn: "celu elu gelu hard_sigmoid hard_silu hard_tanh identity leaky_relu log_sigmoid mish relu relu6 selu "
        "sigmoid silu soft_sign softplus sparse_plus squareplus",
        jnp: "tanh sin cos",
        jax.lax: "tanh logistic",
    }.items()
    for name in names.split()
    if hasattr(module, name)
}
_PUBLIC = {name: getattr(package, name) for package in (cells, wrappers) for name in vars(package) if name[0] != "_"}
_FACTORIES = {
    name: made
    for name, made in (_PUBLIC | vars(_activations)).items()
    if isinstance(made, types.FunctionType) and name != "factory"
}
_TUPLES = {name: made for name, made in _PUBLIC.items() if isinstance(made, type) and hasattr(made, "_fields")}


def net_as_json(net: Any) -> Any:
    """Returns a net as JSON; initialisers are left out, which act in `init` alone."""
    call = call_of(net)
    if call is None or _FACTORIES.get(call[0].__name__) is not call[0]:
        raise ValueError(f"`net` must be made by factories of jaxseq alone; {check.short(net)} is not")
    factory, options = call
    args, kwargs = [], {}
    for name, parameter in inspect.signature(factory).parameters.items():
        value: Any = options[name]
        is_initializer = name.endswith("_init") or (name == "forget_bias" and callable(value))
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += [_value_as_json(name, each) for each in options[name]]
        elif value is not parameter.default and value != parameter.default and not is_initializer:
            kwargs[name] = _value_as_json(name, value)
    return [factory.__name__, args, kwargs]


def _value_as_json(name, value: Any) -> Any:
    if call_of(value) is not None:
        return {"net": net_as_json(value)}
    if type(value) is tuple:
        return [*value]
    if callable(value):
        found = next((path for path, function in _FUNCTIONS.items() if function is value), None)
        if found is None:
            raise ValueError(f"`{name}` must be a function of jax.nn or jnp to be kept; got {check.short(value)}")
        return {"function": found}
    return value


def net_from_json(data: Any) -> Any:
    """Returns the net; raises ValueError where `data` is none."""
    try:
        name, args, kwargs = data
        factory, args = _FACTORIES[name], [_value_from_json(value) for value in args]
        return factory(*args, **{str(key): _value_from_json(value) for key, value in kwargs.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"no net of jaxseq: {check.short(data)}; {check.short(error)}") from None


def _value_from_json(value):
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    ((kind, inner),) = value.items()
    return {"net": net_from_json, "function": _FUNCTIONS.__getitem__}[kind](inner)


def tree_as_json(tree: Any, place: str = "") -> tuple[Any, dict[str, Any]]:
    """Returns a tree as JSON, with names where its arrays stand, and the arrays by name."""
    parts, kind = None, type(tree).__name__
    if _TUPLES.get(kind) is type(tree):
        parts = tree._asdict()
    elif type(tree) in (tuple, list):
        parts = {str(index): part for index, part in enumerate(tree)}
    elif type(tree) is dict:
        parts = tree
        if any(not isinstance(name, str) or "." in name for name in parts):
            raise ValueError(f"`params` must have names without dots as keys; got {check.short([*parts])}")
    if parts is None:
        return (None, {}) if tree is None else (place, {place: tree})
    described, arrays = {}, {}
    for name, part in parts.items():
        described[name], own = tree_as_json(part, f"{place}.{name}" if place else name)
        arrays |= own
    return {kind: described}, arrays


def tree_from_json(data: Any, arrays: dict[str, Any]) -> Any:
    """Returns the tree; raises ValueError where `data` is none, or names an array that is not there."""
    if data is None:
        return None
    if isinstance(data, str) and data in arrays:
        return arrays[data]
    if isinstance(data, dict) and len(data) == 1:
        ((kind, parts),) = data.items()
        if isinstance(parts, dict) and kind in ("tuple", "list", "dict", *_TUPLES):
            made = {name: tree_from_json(part, arrays) for name, part in parts.items()}
            if kind in _TUPLES and {*made} == {*_TUPLES[kind]._fields}:
                return _TUPLES[kind](**made)
            if kind not in _TUPLES:
                return {"tuple": lambda: tuple(made.values()), "list": lambda: [*made.values()], "dict": lambda: made}[
                    kind
                ]()
    raise ValueError(f"no params, or without their array: {check.short(data)}")
