"""The base of the modules: it records the call that made one, shows its signature, and prints nets as their calls.

A saved model is rebuilt from its call, without the user's code.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx import reprlib
from jax.core import Tracer

from jaxseq.typing import Cell, Composite


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of a call by name, as one static, hashable value."""

    arguments: tuple[tuple[str, Any], ...]


class Part(NamedTuple):
    """Represents an argument that is a module, by its path of attributes and indices in the module that was made."""

    path: tuple[Any, ...]


class Flags(NamedTuple):
    """Represents an argument that is an array, by its numbers in nested tuples, which are hashable."""

    values: Any


class Unknown(NamedTuple):
    """Represents an argument that cannot be stored, by the name of its type."""

    kind: str


class Module(nnx.Module):
    """An `nnx.Module` that records the arguments of its `__init__`, for `call_of`. They are static."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Wraps the `__init__` of a class that defines one, and gives the class its signature."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            signature = inspect.signature(cls.__init__)
            cls.__init__ = _keeping(cls.__init__)
            _, *arguments = signature.parameters.values()
            cls.__signature__ = signature.replace(parameters=arguments)  # else that of Flax's metaclass, `(*args, ...)`

    def __nnx_repr__(self):
        for part in super().__nnx_repr__():
            if isinstance(part, reprlib.Attr) and isinstance(part.value, Cell | Composite):
                part = dataclasses.replace(part, value=repr(part.value), use_raw_value=True)
            yield part


def call_of(module: nnx.Module) -> dict[str, Any] | None:
    """Returns the arguments that made a module, except `rngs`, by name. None: they were not recorded.

    Lists become tuples and dtypes become names. A `param_dtype` of None becomes the default at that time. A module
    becomes a `Part`, an array becomes `Flags`, and an argument that cannot be stored becomes `Unknown`.
    """
    kept = getattr(module, "_call", None)
    return None if kept is None else dict(kept.arguments)


def part_of(module: nnx.Module, part: Part) -> Any:
    """Returns the object at a part's path in a module."""
    return functools.reduce(_inside, part.path, module)


def _keeping(init: Callable) -> Callable:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def keeping(self, *args, **kwargs):
        init(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()  # self
        self._call = Call(tuple((name, _kept(self, name, value)) for name, value in arguments if name != "rngs"))

    return keeping


def _kept(module, name, value) -> Any:
    if name == "param_dtype" and value is None:
        value = jnp.result_type(float)
    if name in ("dtype", "param_dtype"):
        return None if value is None else jnp.dtype(value).name
    if isinstance(value, nnx.Module):
        return next(
            (Part(path) for path, node in nnx.iter_graph(module) if node is value), Unknown(type(value).__name__)
        )
    if type(value) in (tuple, list):
        return tuple(_kept(module, "", each) for each in value)
    if hasattr(value, "_fields") and not isinstance(value, Cell | Composite):
        return type(value)(*(_kept(module, "", each) for each in value))
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer):
        return Flags(_tuples(np.asarray(value).tolist()))
    try:
        hash(value)
    except TypeError:
        return Unknown(type(value).__name__)
    return value


def _inside(node, step):
    return node[step] if isinstance(step, int) else getattr(node, step)


def _tuples(nested):
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested
