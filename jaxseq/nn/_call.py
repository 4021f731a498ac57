"""A module is known by the call that made it, as nets are: by it a saved model is made again, without its code."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer

from jaxseq.typing import Cell, Composite


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of a call by name: one static value, with a hash."""

    arguments: tuple[tuple[str, Any], ...]


class Part(NamedTuple):
    """Stands for an argument that is a module, which is found in the new one by a path of attributes and indices."""

    path: tuple[Any, ...]


class Flags(NamedTuple):
    """Stands for an argument that is an array, by its numbers in nested tuples, which have a hash."""

    values: Any


class Unknown(NamedTuple):
    """Stands for an argument that cannot be kept, by the name of its type."""

    kind: str


class Module(nnx.Module):
    """An `nnx.Module` that keeps the arguments of its `__init__`, as `call_of` tells them. They are static."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Wraps the `__init__` of a class that has its own."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _keeping(cls.__init__)


def call_of(module: nnx.Module) -> dict[str, Any] | None:
    """Returns the arguments that a module was made with, all but `rngs`, by name; None: they were not kept.

    Lists are tuples, dtypes are names, a `param_dtype` of None is the default that it stood for; what is a module, an
    array or not to be kept is a `Part`, `Flags` or `Unknown`.
    """
    kept = getattr(module, "_call", None)
    return None if kept is None else dict(kept.arguments)


def part_of(module: nnx.Module, part: Part) -> Any:
    """Returns what stands in a module at the place of a part."""
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
