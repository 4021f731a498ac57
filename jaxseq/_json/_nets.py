"""Nets, kernels and other values as JSON: results of factories by their calls, functions by their names."""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import _activations, cells, check, kernels, wrappers
from jaxseq._factory import call_of
from jaxseq.typing import Cell, Composite

_FUNCTIONS: dict[str, Callable] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module, names in {
        jax.nn: "celu elu gelu hard_sigmoid hard_silu hard_tanh identity leaky_relu log_sigmoid mish relu relu6 selu "
        "sigmoid silu soft_sign softplus sparse_plus squareplus",
        jnp: "tanh sin cos",
        jax.lax: "tanh logistic",
        kernels: "scan bptt native associative cudnn",
        _activations: "exact_gelu",
    }.items()
    for name in names.split()
    if hasattr(module, name)
}
_FACTORIES = {
    name: made
    for package in (cells, wrappers, _activations)
    for name, made in vars(package).items()
    if name[0] != "_" and isinstance(made, types.FunctionType) and name not in ("factory", "exact_gelu")
} | {made.__name__: made for made in (kernels.remat, kernels.truncated, kernels.chunkwise, kernels.newton)}


def net_as_json(net: Any) -> Any:
    """Returns a net as JSON. Initialisers are left out, because only `init` uses them."""
    call = call_of(net)
    if call is None or _FACTORIES.get(call[0].__name__) is not call[0]:
        raise ValueError(
            f"`net` must be made only by factories of jaxseq; {check.short(net)} is not. train.save stores any params"
        )
    factory, options = call
    args, kwargs = [], {}
    for name, parameter in inspect.signature(factory).parameters.items():
        value: Any = options[name]
        is_initializer = name.endswith("_init") or (name == "forget_bias" and callable(value))
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += [value_as_json(name, each) for each in options[name]]
        elif value is not parameter.default and value != parameter.default and not is_initializer:
            kwargs[name] = value_as_json(name, value)
    return [factory.__name__, args, kwargs]


def value_as_json(name: str, value: Any) -> Any:
    """Returns the value of an option as JSON. Raises ValueError, naming the option, if the value has no known name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in (tuple, list):
        return [value_as_json(name, each) for each in value]
    if call_of(value) is not None or isinstance(value, Cell | Composite):
        return {"net": net_as_json(value)}
    found = next((path for path, function in _FUNCTIONS.items() if function is value), None)
    if found is None:
        kind = "a function of jax.nn or jnp" if callable(value) else "an object of jaxseq"
        raise ValueError(f"`{name}` must be {kind} to be stored; got {check.short(value)}")
    return {"function": found}


def net_from_json(data: Any) -> Any:
    """Returns the net. Raises ValueError if `data` is not a net."""
    try:
        name, args, kwargs = data
        factory, args = _FACTORIES[name], [value_from_json(value, KINDS) for value in args]
        return factory(*args, **{str(key): value_from_json(value, KINDS) for key, value in kwargs.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a net of jaxseq: {check.short(data)}; {check.short(error)}") from None


def value_from_json(value: Any, kinds: Mapping[str, Callable]) -> Any:
    """Returns the value. A dict `{kind: ...}` is converted by `kinds[kind]`, which raises if it cannot."""
    if isinstance(value, list):
        return tuple(value_from_json(each, kinds) for each in value)
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    return kinds[kind](inner)


KINDS: dict[str, Callable] = {"net": net_from_json, "function": _FUNCTIONS.__getitem__}
