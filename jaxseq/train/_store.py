"""Trees of arrays on disk: whole, or not at all.

orbax writes the arrays. Around it stand two promises that it does not make: a process killed at any moment, also while
it saves, leaves what was saved before; and what is incomplete or was damaged since is passed over, never loaded. So a
folder holds numbered versions, each written beside its place, with the checksum of every file, and renamed into it:

    folder/000000000120/arrays/          the leaves, by orbax
                        info.json        what the caller adds: vocabulary, sizes, scores, where the data stood
                        model.json       of `save_model`: what makes the model
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
"""The characters of an error that list leaves."""


class TornError(ValueError):
    """Nothing that is stored is whole: every version is torn, which is to say incomplete or changed since."""


class OtherTreeError(ValueError):
    """What is stored is another tree than the one that was asked for.

    Attributes:
      names: of the leaves that differ.
      listed: in what they do; the first of them.
    """

    def __init__(self, version: Path, faults: dict[str, str], hint: str):
        self.names, self.listed = list(faults), _listed(list(faults.values()))
        super().__init__(f"{version} holds another tree than `like`: {self.listed}{hint}")


class Stored(NamedTuple):
    """What `load` returns."""

    tree: Any
    info: Any


def save(folder: str | os.PathLike, tree: Any, info: Any = None, *, number: int | None = None, keep: int = 1) -> None:
    """Stores a tree of arrays and `info`; once that is whole, drops all but the newest `keep` versions.

    Arrays on a mesh of several processes are stored by all of them: each calls `save`, on a folder that all see.

    Args:
      folder: made where there is none. One process writes there at a time; others may read.
      tree: any pytree of arrays; keys of `jax.random.key` may be among them.
      info: what JSON holds and gives back as it was: dicts by strings, lists, strings, numbers, bools and None; and
        `data.Vocabulary` and `data.Normalizer` anywhere in it. A tuple would come back as a list, and a key that is a
        number as a string: both are refused.
      number: of this version, such as the training step, not below that of an earlier one that is whole. One of the
        same number is replaced; damaged ones of higher numbers go. None counts on from the last.
      keep: the versions to keep, this one among them.

    Raises:
      TypeError: a leaf is not an array, or `info` is nothing that JSON gives back as it was.
      ValueError: `number` is negative or below the newest whole version's, or `keep` is less than one; or the arrays
        are of one process of several, and that is not the first.
      BlockingIOError: another process writes to `folder`.
      OSError: it cannot be written, as where the disk is full; what was saved before is still there.
    """
    save_with({}, folder, tree, info, number, keep)


def save_with(
    files: dict[str, str], folder: str | os.PathLike, tree: Any, info: Any, number: int | None, keep: int
) -> None:
    """Does what `save` does, with texts by the names of their files beside."""
    folder, processes = place("folder", folder), of_tree(tree)
    arrays, text = as_stored(tree, info, number, keep)
    with contextlib.ExitStack() as held:
        processes.first(lambda: held.enter_context(writing(folder)))
        write(folder, arrays, {"info.json": text, **files}, number=number, keep=keep, processes=processes)


def as_stored(tree: Any, info: Any, number: int | None, keep: int) -> tuple[dict[str, Any], str]:
    """Returns what `write` takes; raises as `save` does."""
    check.positive_int("keep", keep)
    if number is not None:
        check.natural("number", number)
    return {name: leaf for name, leaf in named(tree).items() if leaf.size}, as_json("info", info)


def saved(folder: str | os.PathLike) -> bool:
    """Whether `folder` holds a version that is whole."""
    return any(damage(version) is None for version in versions(place("folder", folder)).values())


def load(folder: str | os.PathLike, like: Any, *, part: str = "") -> Stored:
    """Reads the newest version that is whole, warning of each newer one that is not.

    Args:
      folder: as in `save`.
      like: a tree of the structure that was saved, of arrays or of what `jax.eval_shape` gives. Where it holds
        `jax.Array`s that are committed to devices, the new ones are put there, however they were placed when they were
        saved. Where these are of several processes, each calls `load`.
      part: the path of the part of what was saved that `like` is; "": all of it. Paths are as `groups.paths` tells
        them: of what `fit` stores, "state/params" are the params after the last step, and "best" the best params, where
        `load_info(folder)["best"]` is "own": where it is "last", those are the best.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
      ValueError: there is no such part, or a leaf is missing, left over, or of another shape or dtype; the first ones
        are named. Into another tree, `transfer` reads.
      TypeError: `like` is no tree of arrays.
    """
    check_part(part)

    def choose(version, found, wanted):
        stored = part_of(part, version, found)
        _compare(version, {name: found[place] for name, place in stored.items()}, wanted, hint(part, found))
        return {name: stored[name] for name in wanted}

    return read_newest(folder, lambda version: Stored(read_tree(version, like, choose), read_info(version)), like)


def load_info(folder: str | os.PathLike) -> Any:
    """Reads the info of the newest version that is whole: what is needed before there is a tree, such as its sizes.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
    """
    return read_newest(folder, read_info)


def read_newest(folder: str | os.PathLike, read: Callable[[Path], Read], like: Any = None) -> Read:
    """Returns what `read` makes of the newest version that is whole; looks again where a writer drops it meanwhile.

    Where `like` is of several processes, all read the version that the first found.
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
            except Exception:  # whatever orbax raises of files that are dropped while it reads them
                if versions(folder) == found:
                    raise
            if versions(folder) != found:
                break
            warnings.warn(f"{found[number]} is passed over: {fault}", RuntimeWarning, stacklevel=4)
        else:
            raise TornError(f"none of the {len(found)} versions in {folder} is whole")
    raise FileNotFoundError(f"nothing was saved in {folder}")


def read_tree(version: Path, like: Any, choose: Callable[[Path, dict, dict], dict[str, str]]) -> Any:
    """Returns a tree as `like`, with leaves of a version; the others are as they are in `like`.

    `choose(version, found, wanted)` is handed what is stored and what has numbers in `like`, by name, and returns the
    names of those leaves that are read, each with the name of what is stored.
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
    """Returns what is stored of each leaf, by its name; raises TypeError where one is no array."""
    return {_name(path): _raw(argument, path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _raw(argument, path, leaf):
    """What is stored of a leaf: itself, or the numbers of a random key."""
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
    """The array stored for a leaf, as the leaf is: a random key, on the host, or free to go to any device."""
    if stored is None:
        return jnp.zeros(like.shape, like.dtype)
    if not _is_committed(like):
        stored = np.asarray(stored)
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=_key_impl(like))
    return np.asarray(stored) if isinstance(like, np.ndarray | np.generic) else jnp.asarray(stored)


def _is_committed(leaf):
    """Whether a leaf has to be where it is; one of `jax.eval_shape` that names no sharding has not."""
    return leaf.committed if isinstance(leaf, jax.Array) else getattr(leaf, "sharding", None) is not None


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(like):
    """The kind of a random key; `jax.random.key_impl` takes no ShapeDtypeStruct."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]


def _compare(version, found, wanted, hint):
    """Raises unless what was found is what is wanted."""
    faults = {name: f"{name} is not in it" for name in wanted if name not in found}
    faults |= {name: f"{name} is in it and not in `like`" for name in found if name not in wanted}
    faults |= differing({name: (found[name], wanted[name]) for name in wanted.keys() & found.keys()})
    if faults:
        raise OtherTreeError(version, dict(sorted(faults.items())), hint)


def differing(pairs: dict[str, tuple[Any, Any]]) -> dict[str, str]:
    """Returns in what stored leaves and those that are to have their place differ in shape or dtype, by name."""
    return {
        name: f"{name} is {stored.dtype} {stored.shape}, `like` has {leaf.dtype} {leaf.shape}"
        for name, (stored, leaf) in pairs.items()
        if (tuple(stored.shape), stored.dtype) != (tuple(leaf.shape), leaf.dtype)
    }


def _listed(faults):
    """As many as are short together, at least a part of the first, and how many are left out."""
    ends = itertools.accumulate(len(fault) + 2 for fault in faults)
    shown = [fault for fault, end in zip(faults, ends, strict=True) if end <= _LISTED] or [faults[0][:_LISTED] + "..."]
    rest = len(faults) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")
