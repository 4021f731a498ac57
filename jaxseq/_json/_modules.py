"""Modules of `jaxseq.nn` as JSON, by the calls that made them. Heads and n-grams are options, stored by fields."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import nnx

from jaxseq import check
from jaxseq import nn as layers
from jaxseq._json._nets import KINDS, value_as_json, value_from_json
from jaxseq.nn._call import Flags, Module, Part, Unknown, call_of, part_of
from jaxseq.structured import crf

_MODULES = {
    name: made
    for name, made in vars(layers).items()
    if name[0] != "_" and isinstance(made, type) and issubclass(made, Module)
}
_OPTIONS: dict[str, Any] = {
    kind.__name__: kind for kind in (layers.Point, layers.Quantiles, layers.Gaussian, layers.NGrams, crf.Allowed)
}


def module_as_json(module: nnx.Module) -> Any:
    """Returns a module as JSON. Raises ValueError, naming the part, if a part cannot be stored."""
    kind = type(module)
    if _MODULES.get(kind.__name__) is not kind:
        raise ValueError(
            f"`model` must be made only of modules of jaxseq.nn; {kind.__module__}.{kind.__name__} is another one. "
            "Use train.save and train.load for it"
        )
    arguments = call_of(module) or {}
    return [kind.__name__, {name: _argument(module, name, value) for name, value in arguments.items()}]


def _argument(module, name, value) -> Any:
    if isinstance(value, Unknown):
        raise ValueError(f"`{name}` of {type(module).__name__} cannot be stored; it is {value.kind}")
    if isinstance(value, Part):
        return {"module": module_as_json(part_of(module, value))}
    if isinstance(value, Flags):
        return {"array": value_as_json(name, value.values)}
    kind = type(value)
    if _OPTIONS.get(kind.__name__) is kind:
        names = kind._fields if hasattr(kind, "_fields") else [field.name for field in dataclasses.fields(kind)]
        return {"option": [kind.__name__, {each: _argument(module, each, getattr(value, each)) for each in names}]}
    if kind is tuple:
        return [_argument(module, name, each) for each in value]
    return value_as_json(name, value)


def module_from_json(data: Any, rngs: nnx.Rngs) -> Any:
    """Returns the module, with params drawn by `rngs`. Raises ValueError if `data` is not a module."""
    kinds: dict[str, Callable] = {
        **KINDS,
        "module": lambda inner: made(_MODULES, inner, rngs=rngs),
        "option": lambda inner: made(_OPTIONS, inner),
        "array": np.array,
    }

    def made(table, data, **more):
        name, arguments = data
        return table[name](**{key: value_from_json(value, kinds) for key, value in arguments.items()}, **more)

    try:
        return kinds["module"](data)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a module of jaxseq.nn, {check.short(error)}: {check.short(data)}") from None
