"""NamedTuples registered for `jax.export`: programs whose arguments or results hold them can be stored and read."""

import sys

from jax import export

_STATIC = {"jaxseq.Cell", "jaxseq.Composite"}  # no arrays: JAX keeps them out of a program's arguments
_registered = set()


def register(*packages: str, parts: tuple[type, ...] = ()) -> None:
    """Registers the NamedTuples that packages list, by their public names, and `parts`, which are found inside them.

    Called at the end of a package's `__init__.py`, so that what is listed there cannot be forgotten.
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
