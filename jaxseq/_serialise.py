"""Registers NamedTuples for `jax.export`, so that programs with such arguments or results can be stored and loaded."""

import sys

from jax import export

_STATIC = {"jaxseq.Cell", "jaxseq.Composite"}  # they hold no arrays: JAX keeps them out of a program's arguments
_registered = set()


def register(*packages: str, parts: tuple[type, ...] = ()) -> None:
    """Registers the public NamedTuples of `packages`, and the types `parts` that are found inside them.

    Each package calls it at the end of its `__init__.py`, so that no listed name is forgotten.
    """
    for package in packages:
        for value in (*vars(sys.modules[package]).values(), *parts):
            is_own = isinstance(value, type) and value.__module__.startswith("jaxseq.")
            if not (is_own and issubclass(value, tuple) and hasattr(value, "_fields")) or value in _registered:
                continue
            _registered.add(value)
            name = f"{package}.{value.__name__}"
            if name not in _STATIC:
                export.register_namedtuple_serialization(value, serialized_name=name)
