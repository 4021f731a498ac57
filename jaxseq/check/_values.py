"""Numbers, functions and options."""

import inspect
import math
import numbers
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.core import Tracer

from jaxseq.typing import Shape

_MOST = 2**31 - 1  # the largest int32; JAX counts and indexes in int32


def positive_int(name: str, value: Any) -> int:
    """Returns `value`, a size or a count, as an int of at least 1 that fits in JAX's int32."""
    return _int_from(1, "a positive int", name, value, _MOST)


def natural(name: str, value: Any) -> int:
    """Returns `value`, a size or a count, as an int of at least 0 that fits in JAX's int32."""
    return _int_from(0, "an int, 0 or more", name, value, _MOST)


def seed(name: str, value: Any) -> int:
    """Returns `value` as an int of at least 0, of any size."""
    return _int_from(0, "an int, 0 or more", name, value)


def sequence(name: str, value: Any, of: str = "ints") -> tuple:
    """Returns `value` as a tuple; `of` says in errors what is to be in it."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise TypeError(f"`{name}` must be a sequence of {of}; got {short(value)}")
    return tuple(value)


def shape(name: str, value: Any) -> Shape:
    """Returns `value` as a tuple of ints of at least 0."""
    return tuple(natural(name, size) for size in sequence(name, value))


def one_of(name: str, value: Any, options: tuple) -> None:
    """Raises unless `value` is one of `options`."""
    if isinstance(value, np.ndarray | jax.Array) or value not in options:
        raise ValueError(f"`{name}` must be {' or '.join(map(repr, options))}; got {short(value)}")


def rate(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1)."""
    return _number_in(lambda value: 0 <= value < 1, "a rate in [0, 1)", name, value)


def probability(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1]."""
    return _number_in(lambda value: 0 <= value <= 1, "a probability in [0, 1]", name, value)


def positive(name: str, value: Any) -> float:
    """Returns `value` as a float above 0, including infinity."""
    return _number_in(lambda value: value > 0, "a positive number", name, value)


def positive_finite(name: str, value: Any) -> float:
    """Returns `value` as a finite float above 0."""
    return _number_in(lambda value: 0 < value < math.inf, "a positive, finite number", name, value)


def at_least_zero(name: str, value: Any) -> float:
    """Returns `value` as a finite float of at least 0."""
    return _number_in(lambda value: 0 <= value < math.inf, "a number of at least 0", name, value)


def finite(name: str, value: Any) -> float:
    """Returns `value` as a finite float."""
    return _number_in(math.isfinite, "a finite number", name, value)


def number(name: str, value: Any, where: str, holds: Callable[[float], bool]) -> Any:
    """Returns a number, or an array of one number, after checking it by `holds`. Traced arrays are not checked."""
    if isinstance(value, jax.Array | np.ndarray):
        if value.ndim:
            raise ValueError(f"`{name}` must be one number {where}; got {value.dtype} {value.shape}")
        if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
            raise TypeError(f"`{name}` must be one number {where}; got {value.dtype} {value.shape}")
        if isinstance(value, Tracer):
            return value
        value = value.item()
    return _number_in(holds, f"a number {where}", name, value)


def bias(name: str, value: Any) -> Any:
    """Returns an initial bias: a float, an initialiser or None."""
    if value is None or callable(value):
        initializers(**{} if value is None else {name: value})
        return value
    if not _is_number(value):
        raise TypeError(
            f"`{name}` must be a number, an initialiser (initializers.chrono(100)) or None; got {short(value)}"
        )
    return finite(name, value)


def initializers(**named: Any) -> tuple:
    """Returns the initialisers in their order. Raises unless each can draw an array."""
    for name, value in named.items():
        if not callable(value):
            raise TypeError(
                f"`{name}` must be an initialiser (key, shape, dtype) -> array, such as initializers.orthogonal(); "
                f"got {short(value)}"
            )
        if not takes(value, 3):
            raise TypeError(
                f"`{name}` must take (key, shape, dtype); {takes_what(value)}. "
                "A factory is called first: initializers.orthogonal()."
            )
        _hashable(name, value)
    return tuple(named.values())


def function(name: str, value: Any) -> None:
    """Raises unless `value` is callable."""
    if not callable(value):
        raise TypeError(f"`{name}` must be an elementwise function such as jnp.tanh; got {short(value)}")
    _hashable(name, value)


def functions_taking(**named: tuple[Any, int]) -> None:
    """Raises unless each function is None or takes the given number of arguments by position."""
    for name, (value, count) in named.items():
        if value is not None:
            function_taking(name, value, count)


def function_taking(name: str, value: Any, count: int) -> None:
    """Raises unless `value` is a function that takes `count` arguments by position."""
    if not (callable(value) and takes(value, count)):
        got = takes_what(value) if callable(value) else f"got {short(value)}"
        raise TypeError(f"`{name}` must be a function of {count} arguments by position; {got}")


def direction(reverse: Any) -> None:
    """Raises unless `reverse` is a bool that is known when the program is traced."""
    if not isinstance(reverse, bool | np.bool_):
        raise TypeError(f"`reverse` must be a Python bool; got {type(reverse).__name__}. Under jit, make it static.")


def switch(name: str, value: Any) -> None:
    """Raises unless `value` is a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False; got {short(value)}")


def parallel(value: Any) -> None:
    """Raises unless `value` is a bool, or a sharding that splits time over the devices of a mesh.

    Raises:
      TypeError, ValueError: it is neither, or does not split time over exactly one axis of its mesh.
    """
    if isinstance(value, jax.sharding.NamedSharding):
        split_axis("parallel", value)
    elif not isinstance(value, bool | np.bool_):
        raise TypeError(f"`parallel` must be True, False or a jax.sharding.NamedSharding; got {short(value)}")


def split_axis(name: str, value: Any) -> str:
    """Returns the axis of a mesh over which a sharding splits the first axis of an array.

    Raises:
      TypeError, ValueError: it is not a `NamedSharding`, or does not split that axis over exactly one axis of its mesh.
    """
    if not isinstance(value, jax.sharding.NamedSharding):
        raise TypeError(f"`{name}` must be a jax.sharding.NamedSharding; got {short(value)}")
    first = next(iter(value.spec), None)
    if not isinstance(first, str):
        raise ValueError(
            f"`{name}` must split the first axis over one axis of its mesh, as P('time') does; got {short(value)}"
        )
    return first


def sharding(value: Any) -> None:
    """Raises unless `value` is a sharding, or None."""
    if value is not None and not isinstance(value, jax.sharding.Sharding):
        raise TypeError(f"`sharding` must be a jax.sharding.Sharding; got {short(value)}")


def short(value: Any) -> str:
    """Returns the text of a value in an error: its repr, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def path(name: str, value: Any) -> Path:
    """Returns `value` as a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"`{name}` must be a path, a str or a pathlib.Path; got {short(value)}")
    return Path(value)


def random_key(key: Any) -> None:
    """Raises unless `key` is a random key or None."""
    if key is not None and not _is_key(key):
        raise TypeError(f"`key` must be a jax.random.key or None; got {_kind_of_key(key)}")


def given_key(key: Any) -> None:
    """Raises unless `key` is a random key."""
    if not _is_key(key):
        raise TypeError(f"`key` must be a jax.random.key, to draw by; got {_kind_of_key(key)}")


def kernel(kernel: Any) -> None:
    """Raises unless `kernel` is None or takes the arguments of a kernel."""
    if kernel is None:
        return
    if not callable(kernel):
        raise TypeError(f"`kernel` must be a function such as jaxseq.kernels.scan, or None; got {short(kernel)}")
    if not takes(kernel, 4, ("reverse",)):
        raise TypeError(
            f"`kernel` must take (cell, params, carry, xs, *, reverse); {takes_what(kernel)}. "
            "A factory is called first: kernels.remat(64)."
        )


def takes(function: Callable, count: int, names: Sequence[str] = ()) -> bool:
    """Returns whether `function` takes `count` arguments by position and `names` by name.

    It is True if the signature is not known.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count), **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def takes_what(function: Callable) -> str:
    """Describes briefly what arguments a function takes."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=signature.empty))
    return f"{kind(function)} takes {text if len(text) <= 100 else text[:97] + '...'}"


def kind(x: Any) -> str:
    """Returns the name of a function or class, or of the type of `x`."""
    return getattr(x, "__name__", type(x).__name__)


def _int_from(least, words, name, value, most=None):
    try:
        number = operator.index(value)
    except TypeError:
        number = None
        if _is_symbolic(value):
            return value
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {words}; got {short(value)}")
    if number < least:
        raise ValueError(f"`{name}` must be {words}; got {short(number)}")
    if most is not None and number > most:
        raise ValueError(f"`{name}` must be {words}, of at most {most}; got {short(number)}")
    return number


def _number_in(fits, words, name, value):
    if not _is_number(value):
        raise TypeError(f"`{name}` must be {words}; got {short(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not fits(number):
        raise ValueError(f"`{name}` must be {words}; got {short(value)}")
    return number


def _is_key(key):
    """Returns whether it was made by `jax.random.key` or the older `jax.random.PRNGKey`."""
    return isinstance(key, jax.Array) and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.dtype == jnp.uint32)


def _kind_of_key(key):
    return f"{key.dtype} {key.shape}" if isinstance(key, jax.Array) else type(key).__name__


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _hashable(name, value):
    """Raises unless `value` has a hash. Cells are cached by the arguments that made them."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"`{name}` must be hashable, as functions are; {kind(value)} is not") from None


def _is_symbolic(value):
    """Returns whether `value` is a symbolic dimension of `jax.export`, which represents any int of at least 0."""
    return hasattr(value, "dimension_as_value") and export.is_symbolic_dim(value)
