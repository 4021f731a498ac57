"""Stores trees of arrays on disk, completely or not at all.

orbax writes the arrays. This module adds two guarantees. If a process is killed at any moment, even while it saves,
earlier versions are kept. A version that is incomplete, or was damaged later, is skipped and never loaded. So a folder
holds numbered versions. Each is written to a temporary folder, with the checksum of every file, and then renamed:

    folder/000000000120/arrays/          the leaves, by orbax
                        info.json        the caller's info: vocabulary, sizes, scores, the position in the data
                        model.json       of `save_model`: the description of the model
                        manifest.json    the SHA-256 of each file above
"""

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxseq import check
from jaxseq._json._info import as_json, from_json
from jaxseq.train._lock import writing
from jaxseq.train._processes import of_tree
from jaxseq.train._select import check_part, hint, part_of
from jaxseq.train._versions import damage, place, versions
from jaxseq.train._write import orbax, write

Read = TypeVar("Read")
_LISTED = 180
"""The number of characters of an error that list leaves."""


class TornError(ValueError):
    """No stored version is complete: each is torn, which means incomplete or changed after it was written."""


class OtherTreeError(ValueError):
    """The stored tree differs from the tree that was asked for.

    Attributes:
      names: the names of the leaves that differ.
      listed: how they differ, for the first of them.
    """

    def __init__(self, version: Path, faults: dict[str, str], hint: str):
        self.names, self.listed = list(faults), _listed(list(faults.values()))
        super().__init__(f"{version} holds another tree than `like`: {self.listed}{hint}")


class Stored(NamedTuple):
    """What `load` returns."""

    tree: Any
    info: Any


def save(folder: str | os.PathLike, tree: Any, info: Any = None, *, number: int | None = None, keep: int = 1) -> None:
    """Stores a tree of arrays and `info` as a new version, then deletes all but the newest `keep` versions.

    If arrays are on a mesh of several processes, each process must call `save`, with a folder that all can access.

    Args:
      folder: created if it does not exist. One process may write to it at a time; others may read.
      tree: any pytree of arrays, including keys of `jax.random.key`.
      info: a value that JSON restores exactly: dicts with string keys, lists, strings, numbers, bools and None. It may
        also contain `data.Vocabulary` and `data.Normalizer`. A tuple would be restored as a list, and a number that is
        a key as a string, so both are refused.
      number: the number of this version, such as the training step. It must not be below that of an earlier complete
        version. A version of the same number is replaced, and damaged ones of higher numbers are deleted. None adds 1
        to the last number.
      keep: the number of versions to keep, including this one.

    Raises:
      TypeError: a leaf is not an array, or JSON cannot restore `info` exactly.
      ValueError: `number` is negative or below that of the newest complete version, or `keep` is below 1; or the arrays
        belong to one process of several that is not the first.
      BlockingIOError: another process writes to `folder`.
      OSError: it cannot be written, for example because the disk is full. Earlier versions are kept.
    """
    save_with({}, folder, tree, info, number, keep)


def save_with(
    files: dict[str, str], folder: str | os.PathLike, tree: Any, info: Any, number: int | None, keep: int
) -> None:
    """Does what `save` does, and also stores texts, given by the names of their files."""
    folder, processes = place("folder", folder), of_tree(tree)
    arrays, text = as_stored(tree, info, number, keep)
    with contextlib.ExitStack() as held:
        processes.first(lambda: held.enter_context(writing(folder)))
        write(folder, arrays, {"info.json": text, **files}, number=number, keep=keep, processes=processes)


def as_stored(tree: Any, info: Any, number: int | None, keep: int) -> tuple[dict[str, Any], str]:
    """Returns the arguments for `write`. Raises as `save` does."""
    check.positive_int("keep", keep)
    if number is not None:
        check.natural("number", number)
    arrays = named(tree)
    for name, leaf in arrays.items():
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(f"`tree{name}` must be an array; got only its shape, {check.shaped(leaf)}")
    return {name: leaf for name, leaf in arrays.items() if leaf.size}, as_json("info", info)


def saved(folder: str | os.PathLike) -> bool:
    """Returns whether `folder` holds a complete version."""
    return any(damage(version) is None for version in versions(place("folder", folder)).values())


def load(folder: str | os.PathLike, like: Any, *, part: str = "") -> Stored:
    """Reads the newest complete version, and warns of each newer one that is damaged.

    Args:
      folder: as in `save`.
      like: a tree of the structure that was saved, of arrays or of shapes from `jax.eval_shape`. If it holds
        `jax.Array`s that are committed to devices, the new arrays are put there, wherever they were when they were
        saved. If these belong to several processes, each must call `load`.
      part: the path of the stored part to read, which must have the structure of `like`. "" reads everything. Paths are
        those of `groups.paths`. `fit` stores the params after the last step in "state/params". It stores the best
        params in "best" if `load_info(folder)["best"]` is "own". If that is "last", the last params are the best.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is complete.
      ValueError: there is no such part, or a leaf is missing, superfluous, or of another shape or dtype. The message
        names the first such leaves. `transfer` can read into another tree.
      TypeError: `like` is not a tree of arrays.
    """
    check_part(part)

    def choose(version, found, wanted):
        stored = part_of(part, version, found)
        _compare(version, {name: found[place] for name, place in stored.items()}, wanted, hint(part, found))
        return {name: stored[name] for name in wanted}

    return read_newest(folder, lambda version: Stored(read_tree(version, like, choose), read_info(version)), like)


def load_info(folder: str | os.PathLike) -> Any:
    """Reads the info of the newest complete version, such as sizes that are needed to build the tree for `load`.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is complete.
    """
    return read_newest(folder, read_info)


def read_newest(folder: str | os.PathLike, read: Callable[[Path], Read], like: Any = None) -> Read:
    """Returns the result of `read` for the newest complete version. Tries again if a writer deletes it meanwhile.

    If `like` belongs to several processes, all read the version that the first one found.
    """
    processes = of_tree(like)
    if not processes.together:
        return _read_newest(folder, read)
    version, found = processes.first(lambda: _read_newest(folder, lambda version: version)), []
    processes.all(lambda: found.append(read(version)))
    return found[0]


def _read_newest(folder, read):
    folder = place("folder", folder)
    while found := versions(folder):
        for number in sorted(found, reverse=True):
            fault = None
            try:
                fault = damage(found[number])
                if fault is None:
                    return read(found[number])
            except Exception:  # orbax raises many kinds of errors if files are deleted while it reads them
                if versions(folder) == found:
                    raise
            if versions(folder) != found:
                break
            warnings.warn(f"{found[number]} is passed over: {fault}", RuntimeWarning, stacklevel=4)
        else:
            raise TornError(f"none of the {len(found)} versions in {folder} is whole")
    raise FileNotFoundError(f"nothing was saved in {folder}")


def read_tree(version: Path, like: Any, choose: Callable[[Path, dict, dict], dict[str, str]]) -> Any:
    """Returns the tree `like` with some leaves replaced by those of a version.

    `choose(version, found, wanted)` gets the stored leaves and the leaves of `like`, by name. It returns the names of
    the leaves to read, each with the name of the stored leaf.
    """
    arrays, place, processes = {}, epath.Path(version / "arrays"), of_tree(like)
    wanted = {name: leaf for name, leaf in named(like, "like").items() if leaf.size}
    with contextlib.closing(orbax(processes)) as handler:
        found = handler.metadata(place).tree if place.exists() else {}
        chosen = choose(version, found, wanted)
        if chosen:
            items = {stored: wanted[name] for name, stored in chosen.items()}
            placement = ocp.checkpoint_utils.construct_restore_args(items)
            some: Any = {"partial_restore": True} if len(items) < len(found) else {}
            wish = ocp.args.PyTreeRestore(items, restore_args=placement, **some)
            read = handler.restore(place, args=wish)
            arrays = {name: read[stored] for name, stored in chosen.items()}

    def filled(path, leaf):
        return leaf if leaf.size and _name(path) not in chosen else _as(leaf, arrays.get(_name(path)))

    return jax.tree_util.tree_map_with_path(filled, like)


def read_info(version: Path) -> Any:
    """Returns the info of a version."""
    return from_json((version / "info.json").read_text(encoding="utf-8"))


def _name(path):
    return jax.tree_util.keystr(path) or "."


def named(tree: Any, argument: str = "tree") -> dict[str, Any]:
    """Returns the stored form of each leaf by name. Raises TypeError if a leaf is not an array."""
    return {_name(path): _raw(argument, path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _raw(argument, path, leaf):
    """Returns the stored form of a leaf: the leaf itself, or the numbers of a random key."""
    place = argument + jax.tree_util.keystr(path)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
        raise TypeError(f"`{place}` must be an array; got {type(leaf).__name__} {check.short(leaf)}")
    if not (_is_key(leaf) or jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == bool):
        raise TypeError(f"`{place}` must be an array of numbers or bools; got {leaf.dtype}")
    if not _is_key(leaf):
        return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
    if isinstance(leaf, jax.Array):
        return jax.random.key_data(leaf)
    return jax.eval_shape(jax.random.key_data, leaf)


def _as(like, stored):
    """Returns the stored array in the form of the leaf: a random key, a NumPy array, or an uncommitted JAX array."""
    if stored is None:
        return jnp.zeros(like.shape, like.dtype)
    if not _is_committed(like):
        stored = np.asarray(stored)
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=_key_impl(like))
    return np.asarray(stored) if isinstance(like, np.ndarray | np.generic) else jnp.asarray(stored)


def _is_committed(leaf):
    """Returns whether a leaf is committed to devices. A shape of `jax.eval_shape` without a sharding is not."""
    return leaf.committed if isinstance(leaf, jax.Array) else getattr(leaf, "sharding", None) is not None


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(like):
    """Returns the implementation of a random key. `jax.random.key_impl` does not take a ShapeDtypeStruct."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]


def _compare(version, found, wanted, hint):
    """Raises unless the stored leaves are the wanted ones."""
    faults = {name: f"{name} is not in it" for name in wanted if name not in found}
    faults |= {name: f"{name} is in it and not in `like`" for name in found if name not in wanted}
    faults |= differing({name: (found[name], wanted[name]) for name in wanted.keys() & found.keys()})
    if faults:
        raise OtherTreeError(version, dict(sorted(faults.items())), hint)


def differing(pairs: dict[str, tuple[Any, Any]]) -> dict[str, str]:
    """Returns, by name, how stored leaves differ in shape or dtype from the leaves that they replace."""
    return {
        name: f"{name} is {stored.dtype} {stored.shape}, `like` has {leaf.dtype} {leaf.shape}"
        for name, (stored, leaf) in pairs.items()
        if (tuple(stored.shape), stored.dtype) != (tuple(leaf.shape), leaf.dtype)
    }


def _listed(faults):
    """Returns the first faults, as many as fit in a short text, and the number of those left out."""
    ends = itertools.accumulate(len(fault) + 2 for fault in faults)
    shown = [fault for fault, end in zip(faults, ends, strict=True) if end <= _LISTED] or [faults[0][:_LISTED] + "..."]
    rest = len(faults) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")
