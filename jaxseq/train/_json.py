"""What is stored beside arrays: JSON that gives back what it was given."""

import json
from typing import Any


def as_json(name: str, value: Any) -> str:
    """Returns the JSON of `value`.

    Raises:
      TypeError: naming the place in it, where JSON does not hold what is there, or would give back something else: a
        list for a tuple, "1" for the key 1.
      ValueError: it holds itself, or an int of thousands of digits.
    """
    try:
        _same(name, value)
        return json.dumps(value)  # in ASCII, which also holds what UTF-8 does not: halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{name}` must be what JSON gives back; got what it cannot hold: {error}") from None


def _same(place, value):
    """Raises unless JSON gives `value` back."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                raise TypeError(
                    f"`{place}` must have strings as keys, as JSON has; got {type(key).__name__} {key!r:.60}. "
                    "Give str(key), or a list of pairs."
                )
            _same(f"{place}[{key!r:.60}]", inner)
    elif not (value is None or isinstance(value, str | int | float)):
        hint = " Give its numbers: array.tolist()." if hasattr(value, "tolist") else ""
        hint = " Give a list: JSON would." if isinstance(value, tuple) else hint
        raise TypeError(f"`{place[:200]}` must be what JSON gives back; got {type(value).__name__}.{hint}")
