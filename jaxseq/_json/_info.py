"""The info that is stored with arrays, as JSON that restores exactly, including vocabularies and normalisers."""

import json
from typing import Any

import numpy as np

from jaxseq import check
from jaxseq.data import Normalizer, Vocabulary


def as_json(name: str, value: Any) -> str:
    """Returns the JSON of `value`.

    Raises:
      TypeError: JSON cannot hold a part of it, or would restore it as something else: a list for a tuple, "1" for the
        key 1. The message names the place.
      ValueError: it contains itself, an int of thousands of digits, or a key that is reserved for vocabularies.
    """
    try:
        return json.dumps(_same(name, value))  # ASCII also represents lone surrogates; UTF-8 does not
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{name}` must be a value that JSON restores exactly; it cannot hold this: {error}") from None


def from_json(text: str) -> Any:
    """Returns the value that `as_json` was given.

    Raises:
      ValueError: `text` is not a result of `as_json`.
    """
    return json.loads(text, object_hook=_made)


def _same(place, value) -> Any:
    """Returns the value in a form that JSON restores exactly. Raises if there is none."""
    if isinstance(value, Vocabulary):
        return {"jaxseq.data.Vocabulary": value.to_dict()}
    if isinstance(value, Normalizer):
        return {"jaxseq.data.Normalizer": _numbers(place, value)}
    if isinstance(value, dict):
        for key in value:
            if key in _KINDS:
                raise ValueError(f"`{place}` has {key} as a key, which jaxseq reserves")
            if not isinstance(key, str):
                raise TypeError(
                    f"`{place}` must have strings as keys, as JSON has; got {type(key).__name__} {key!r:.60}. "
                    "Give str(key), or a list of pairs."
                )
        return {key: _same(f"{place}[{key!r:.60}]", inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_same(f"{place}[{index}]", inner) for index, inner in enumerate(value)]
    if not (value is None or isinstance(value, str | int | float)):
        hint = " Give its numbers: array.tolist()." if hasattr(value, "tolist") else ""
        hint = " Give a list: JSON would." if isinstance(value, tuple) else hint
        raise TypeError(
            f"`{place[:200]}` must be a value that JSON restores exactly; got {type(value).__name__}.{hint}"
        )
    return value


def _numbers(place, normalizer):
    """The fields of a Normalizer as lists of floats."""
    try:
        return {name: part.tolist() for name, part in _normalizer(normalizer._asdict())._asdict().items()}
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{place[:200]}` is no Normalizer that JSON gives back: {check.short(error)}") from None


def _normalizer(fields):
    mean, std = (np.asarray(fields[name], float) for name in Normalizer._fields)
    if mean.ndim != 1 or mean.shape != std.shape:
        raise ValueError(f"a Normalizer has mean and std [D]; got {mean.shape} and {std.shape}")
    return Normalizer(mean, std)


_KINDS = {"jaxseq.data.Vocabulary": Vocabulary.from_dict, "jaxseq.data.Normalizer": _normalizer}


def _made(found):
    """Returns the value that a dict with one key of `_KINDS` represents. Other values are returned unchanged."""
    for kind in [key for key in found if key in _KINDS]:
        try:
            ((_, fields),) = found.items()
            return _KINDS[kind](fields)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a valid {kind}: {check.short(found[kind])}; {check.short(error)}") from None
    return found
