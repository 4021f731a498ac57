"""Numbers, functions and options."""

import inspect
import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq.typing import Shape


def positive_int(name: str, value: Any) -> int:
    """Returns `value` as an int, of at least 1."""
    return _int_from(1, "a positive int", name, value)


def natural(name: str, value: Any) -> int:
    """Returns `value` as an int, of at least 0."""
    return _int_from(0, "an int, 0 or more", name, value)


def sequence(name: str, value: Any) -> tuple:
    """Returns `value` as a tuple."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise TypeError(f"`{name}` must be a sequence of ints; got {value!r}")
    return tuple(value)


def shape(name: str, value: Any) -> Shape:
    """Returns `value` as a tuple of ints, of at least 0 each."""
    return tuple(natural(name, size) for size in sequence(name, value))


def one_of(name: str, value: Any, options: tuple) -> None:
    """Raises unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"`{name}` must be {' or '.join(map(repr, options))}; got {value!r}")


def rate(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1)."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a rate, a number in [0, 1); got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a rate in [0, 1); got {value}")
    return float(value)


def probability(name: str, value: Any) -> float:
    """Returns `value` as a float in [0, 1]."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a probability, a number in [0, 1]; got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be a probability in [0, 1]; got {value}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Returns `value` as a float above 0."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a positive number; got {value!r}")
    if not value > 0:
        raise ValueError(f"`{name}` must be a positive number; got {value}")
    return float(value)


def at_least_zero(name: str, value: Any) -> float:
    """Returns `value` as a finite float of at least 0."""
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a number of at least 0; got {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"`{name}` must be a number of at least 0; got {value}")
    return float(value)


def number(name: str, value: Any, where: str, holds: Callable[[float], bool]) -> Any:
    """Returns a number that `holds`, or an array of one, which is looked at unless it is traced."""
    if isinstance(value, jax.Array | np.ndarray):
        if value.ndim:
            raise ValueError(f"`{name}` must be one number {where}; got {value.dtype} {value.shape}")
        if not any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer)):
            raise TypeError(f"`{name}` must be one number {where}; got {value.dtype} {value.shape}")
        if isinstance(value, Tracer):
            return value
        value = value.item()
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a number {where}; got {value!r:.80}")
    try:
        value = float(value)
    except OverflowError:
        raise ValueError(f"`{name}` must be a number {where}; got an int beyond all floats") from None
    if not holds(value):
        raise ValueError(f"`{name}` must be a number {where}; got {value}")
    return value


def bias(name: str, value: Any) -> Any:
    """Returns a bias to start from, a float, an initialiser or None."""
    if value is None or callable(value):
        _hashable(name, value)
        return value
    if not _is_number(value):
        raise TypeError(f"`{name}` must be a number, an initialiser (initializers.chrono(100)) or None; got {value!r}")
    return float(value)


def initializers(**named: Any) -> tuple:
    """Returns the initialisers in their order; raises unless each can draw an array."""
    for name, value in named.items():
        if not callable(value):
            raise TypeError(
                f"`{name}` must be an initialiser (key, shape, dtype) -> array, such as initializers.orthogonal(); "
                f"got {value!r}"
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
        raise TypeError(f"`{name}` must be an elementwise function such as jnp.tanh; got {value!r}")
    _hashable(name, value)


def functions_taking(**named: tuple[Any, int]) -> None:
    """Raises unless each is None or a function that takes as many arguments by position as stand beside it."""
    for name, (value, count) in named.items():
        if value is not None and not (callable(value) and takes(value, count)):
            got = takes_what(value) if callable(value) else f"got {value!r}"
            raise TypeError(f"`{name}` must be a function of {count} arguments by position; {got}")


def direction(reverse: Any) -> None:
    """Raises unless `reverse` is a bool that is known when the program is traced."""
    if not isinstance(reverse, bool | np.bool_):
        raise TypeError(f"`reverse` must be a Python bool; got {type(reverse).__name__}. Under jit, make it static.")


def random_key(key: Any) -> None:
    """Raises unless `key` is a random key or None."""
    if key is not None and not isinstance(key, jax.Array):
        raise TypeError(f"`key` must be a jax.random.key or None; got {type(key).__name__}")


def given_key(key: Any) -> None:
    """Raises unless `key` is a random key."""
    if not isinstance(key, jax.Array):
        raise TypeError(f"`key` must be a jax.random.key, to draw by; got {type(key).__name__}")


def kernel(kernel: Any) -> None:
    """Raises unless `kernel` is None or takes the arguments of a kernel."""
    if kernel is None:
        return
    if not callable(kernel):
        raise TypeError(f"`kernel` must be a function such as jaxseq.kernels.scan, or None; got {kernel!r}")
    if not takes(kernel, 4, ("reverse",)):
        raise TypeError(
            f"`kernel` must take (cell, params, carry, xs, *, reverse); {takes_what(kernel)}. "
            "A factory is called first: kernels.remat(64)."
        )


def takes(function: Callable, count: int, names: Sequence[str] = ()) -> bool:
    """Whether `function` takes `count` arguments by position and those `names`; True of one that keeps it to itself."""
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
    """Says what arguments a function takes."""
    return f"{kind(function)} takes {inspect.signature(function)}"


def kind(x: Any) -> str:
    """The name of a function or class, or of what `x` is one of."""
    return getattr(x, "__name__", type(x).__name__)


def _int_from(least, words, name, value):
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"`{name}` must be {words}; got {value!r}")
    if number < least:
        raise ValueError(f"`{name}` must be {words}; got {number}")
    return number


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _hashable(name, value):
    """Cells are told apart by what they are made of, so that has to have a hash."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"`{name}` must be hashable, as functions are; {kind(value)} is not") from None
