"""Checks of a user's data sets, each done once; they return NumPy arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check

NUMBERS = "`{}` must hold numbers; got {}.{}"
ENCODE = " Encode it first: texts by vocabulary.encode(words(text)), classes by np.unique(names, return_inverse=True)."


def seed(value: Any) -> int | None:
    """Returns `value` as an int of at least 0, or None."""
    return None if value is None else check.seed("seed", value)


def numbers(name: str, value: Any) -> np.ndarray:
    """Returns `value` as an array of numbers or bools."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` must be an array; its parts have different shapes") from None
    if array.dtype.kind in "SU":
        raise TypeError(NUMBERS.format(name, "text", ENCODE))
    if array.dtype.kind in "OMm":
        raise TypeError(NUMBERS.format(name, f"{array.dtype} from a {type(value).__name__}", ""))
    return array


def int32(name: str, array: np.ndarray) -> np.ndarray:
    """Returns integers as int32, other arrays as they are."""
    if not np.issubdtype(array.dtype, np.integer):
        return array
    if not np.can_cast(array.dtype, np.int32) and array.size:
        low, high, bounds = array.min(), array.max(), np.iinfo(np.int32)
        if low < bounds.min or high > bounds.max:
            raise ValueError(f"`{name}` must fit into int32; got integers from {low} to {high}")
    return array.astype(np.int32, copy=False)


def ids(name: str, value: Any) -> np.ndarray:
    """Returns token ids, integers `[T]`, as int32."""
    array = numbers(name, value)
    if array.shape == (0,):
        return array.astype(np.int32, copy=False)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"`{name}` must be integer ids; got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"`{name}` must be ids [T]; got the shape {array.shape}")
    return int32(name, array)


def series(name: str, value: Any) -> np.ndarray:
    """Returns an array `[N, D]`."""
    array = real(name, numbers(name, value))
    if array.ndim != 2:
        hint = " One column: xs[:, None]." if array.ndim == 1 else ""
        raise ValueError(f"`{name}` must be [N, D]; got the shape {array.shape}.{hint}")
    return array


def real(name: str, array: Any) -> Any:
    """Returns `array` if it holds real numbers or bools; raises otherwise."""
    if not (jnp.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise TypeError(f"`{name}` must hold real numbers; got {array.dtype}")
    return array


def sequence(name: str, value: Any, what: str) -> None:
    """Raises unless `value` is a list, a tuple or an array."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | jax.Array):
        raise TypeError(f"`{name}` must be a list of {what}; got {type(value).__name__}")


def ragged(name: str, sequences: Any) -> list[np.ndarray]:
    """Returns sequences as arrays `[T_i, ...]` of one dtype and one feature shape, with integers as int32.

    Empty sequences do not affect the dtype, and a plain [] does not affect the feature shape.
    """
    sequence(name, sequences, "sequences [T, ...]")
    arrays = [numbers(f"{name}[{i}]", sequence) for i, sequence in enumerate(sequences)]
    if not arrays:
        return []
    for i, array in enumerate(arrays):
        if not array.ndim:
            raise ValueError(f"`{name}[{i}]` must be a sequence [T, ...]; got one number. For one sequence: [xs]")
    shaped = [i for i, array in enumerate(arrays) if array.shape != (0,)]
    feature = arrays[shaped[0]].shape[1:] if shaped else ()
    for i in shaped:
        if arrays[i].shape[1:] != feature:
            raise ValueError(
                f"`{name}` must differ in length only: `{name}[{shaped[0]}]` is "
                f"{arrays[shaped[0]].shape}, `{name}[{i}]` is {arrays[i].shape}"
            )
    dtype = np.result_type(*{array.dtype for array in arrays if len(array)} or {array.dtype for array in arrays})
    return [int32(name, a.astype(dtype, copy=False)) if len(a) else _empty(feature, dtype) for a in arrays]


def examples(name: str, arrays: Any) -> dict[str, np.ndarray]:
    """Returns a dict of arrays `[N, ...]` after checking that they have one N."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"`{name}` must be a dict of arrays [N, ...]; got {type(arrays).__name__}")
    arrays = {key: numbers(f"{name}[{key!r}]", value) for key, value in arrays.items()}
    for key, array in arrays.items():
        if not array.ndim:
            raise ValueError(f"`{name}[{key!r}]` must be [N, ...], one entry per example; got a number")
    same_size({f"{name}[{key!r}]": len(array) for key, array in arrays.items()})
    return arrays


def same_size(sizes: dict[str, int], what: str = "the arrays") -> int:
    """Returns the number of examples, which must be the same for all."""
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"{what} must all have the same number of examples; got "
            + ", ".join(f"{size} in `{name}`" for name, size in sizes.items())
        )
    return next(iter(sizes.values()), 0)


def _empty(feature, dtype):
    return np.zeros((0, *feature), np.int32 if np.issubdtype(dtype, np.integer) else dtype)
