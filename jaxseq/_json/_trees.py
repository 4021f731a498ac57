"""Trees of arrays as JSON: containers by name, arrays by their paths."""

from typing import Any

from jaxseq import cells, check, wrappers

_TUPLES = {
    name: made
    for package in (cells, wrappers)
    for name, made in vars(package).items()
    if name[0] != "_" and isinstance(made, type) and hasattr(made, "_fields")
}


def tree_as_json(tree: Any, place: str = "") -> tuple[Any, dict[str, Any]]:
    """Returns a tree as JSON, with names in place of its arrays, and the arrays by name."""
    parts, kind = None, type(tree).__name__
    if _TUPLES.get(kind) is type(tree):
        parts = tree._asdict()
    elif type(tree) in (tuple, list):
        parts = {str(index): part for index, part in enumerate(tree)}
    elif type(tree) is dict:
        parts = tree
        if any(not isinstance(name, str) or "." in name for name in parts):
            raise ValueError(f"`params` must have names without dots as keys; got {check.short([*parts])}")
    if parts is None:
        return (None, {}) if tree is None else (place, {place: tree})
    described, arrays = {}, {}
    for name, part in parts.items():
        described[name], own = tree_as_json(part, f"{place}.{name}" if place else name)
        arrays |= own
    return {kind: described}, arrays


def tree_from_json(data: Any, arrays: dict[str, Any]) -> Any:
    """Returns the tree. Raises ValueError if `data` is not a tree, or names an array that is missing."""
    if data is None:
        return None
    if isinstance(data, str) and data in arrays:
        return arrays[data]
    if isinstance(data, dict) and len(data) == 1:
        ((kind, parts),) = data.items()
        if isinstance(parts, dict) and kind in ("tuple", "list", "dict", *_TUPLES):
            made = {name: tree_from_json(part, arrays) for name, part in parts.items()}
            if kind in _TUPLES and {*made} == {*_TUPLES[kind]._fields}:
                return _TUPLES[kind](**made)
            if kind not in _TUPLES:
                return {"tuple": lambda: tuple(made.values()), "list": lambda: [*made.values()], "dict": lambda: made}[
                    kind
                ]()
    raise ValueError(f"not params, or an array is missing: {check.short(data)}")
