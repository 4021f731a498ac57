"""Reads stored leaves into another tree: a part of them, under other names. Other leaves stay unchanged."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxseq import check
from jaxseq.train._select import check_part, matches, part_of, path_of
from jaxseq.train._store import OtherTreeError, differing, read_newest, read_tree


class Transferred(NamedTuple):
    """What `transfer` returns."""

    tree: Any
    fresh: tuple[str, ...]
    """The paths of the leaves that were not read, and are unchanged from `like`."""
    left_out: tuple[str, ...]
    """The paths, relative to the part, of stored leaves that were not read."""


def transfer(
    folder: str | os.PathLike,
    like: Any,
    *,
    part: str = "",
    renamed: Mapping[str, str] | None = None,
    fresh: str | Sequence[str] = (),
) -> Transferred:
    """Reads stored leaves into another tree by their paths, and reports which leaves were not found.

    Args:
      folder: as in `load`. The newest complete version is read.
      like: a tree of arrays, such as the params of a new model. Stored leaves must have its shapes and dtypes.
      part: as in `load`.
      renamed: maps paths in `like` to paths in the stored part: `{"encoder": "recurrent"}`. If several contain a leaf,
        the innermost counts.
      fresh: a pattern of paths, or several, as in `groups.by_path`. The leaves of `like` that match it are not read,
        such as those of a new head, even if leaves of the same names were stored.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is complete.
      ValueError: there is no such part, a path of `renamed` or a pattern matches nothing, nothing is read, two leaves
        have the same path, or a stored leaf has another shape or dtype. The message names the first such leaves.
      TypeError: `like` is not a tree of arrays, or a leaf that is not read is only a shape.
    """
    check_part(part)
    patterns = [fresh] if isinstance(fresh, str) else fresh
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f'`fresh` must be a pattern such as "head/*", or several; got {check.short(fresh)}')
    renamed = {} if renamed is None else renamed
    if not isinstance(renamed, Mapping) or not all(isinstance(path, str) for pair in renamed.items() for path in pair):
        raise TypeError(
            f'`renamed` must be a dict of paths such as {{"encoder": "recurrent"}}; got {check.short(renamed)}'
        )
    told = []

    def choose(version, found, wanted):
        parts, paths = part_of(part, version, found), {name: path_of(name) for name in wanted}
        stored = {path_of(name): place for name, place in parts.items()}
        _check_unique("`like`", paths.values())
        _check_unique(f"what was stored in {version}", map(path_of, parts))
        _check_paths("`renamed`", renamed, "of `like`", paths.values())
        _check_paths("`renamed` to", renamed.values(), f"in `part` {part!r} of what was stored", stored)
        for pattern in patterns:
            if not any(matches(name, pattern) for name in wanted):
                there = check.brief(", ".join(paths.values()))
                raise ValueError(f"`fresh` {check.short(pattern)} matches no leaf; the paths are {there}")
        places = {
            name: stored.get(_renamed(path, renamed))
            for name, path in paths.items()
            if not any(matches(name, pattern) for pattern in patterns)
        }
        chosen = {name: place for name, place in places.items() if place is not None}
        if faults := differing({name: (found[place], wanted[name]) for name, place in chosen.items()}):
            raise OtherTreeError(version, faults, '. Name leaves not to be read in `fresh`, such as "head/*"')
        if not chosen:
            there = check.brief(", ".join(stored))
            raise ValueError(f"nothing of `like` is in {version}, whose paths are {there}")
        for name in [name for name in wanted if name not in chosen]:
            if isinstance(wanted[name], jax.ShapeDtypeStruct):
                raise TypeError(f"`like{name}` is not read, and must be an array to stay unchanged; got a shape")
        read = {*chosen.values()}
        told.append(tuple(path for name, path in paths.items() if name not in chosen))
        told.append(tuple(path for path, place in stored.items() if place not in read))
        return chosen

    tree = read_newest(folder, lambda version: (told.clear(), read_tree(version, like, choose))[1], like)
    return Transferred(tree, *told)


def _check_paths(what, parts, where, paths):
    for part in parts:
        if not any(f"{path}/".startswith(f"{part}/" if part else "") for path in paths):
            there = check.brief(", ".join(paths))
            raise ValueError(f"{what} {check.short(part)} is not a path {where}; the paths are {there}")


def _check_unique(what, paths):
    if twice := [path for path, count in collections.Counter(paths).items() if count > 1]:
        raise ValueError(f"{what} must have one leaf to a path; it has several of {check.brief(', '.join(twice))}")


def _renamed(path, renamed):
    """Returns the path at which a leaf of `like` was stored."""
    inside = [part for part in renamed if f"{path}/".startswith(f"{part}/" if part else "")]
    if not inside:
        return path
    part = max(inside, key=len)
    rest = path[len(part) :].lstrip("/")
    return "/".join(name for name in (renamed[part], rest) if name)
