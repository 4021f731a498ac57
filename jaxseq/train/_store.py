"""Trees of arrays on disk: whole, or not at all.

orbax writes the arrays. Around it stand two promises that it does not make: a process killed at any moment, also while
it saves, leaves what was saved before; and what is incomplete or was damaged since is passed over, never loaded. So a
folder holds numbered versions, each written beside its place, with the checksum of every file, and renamed into it:

    folder/000000000120/arrays/          the leaves, by orbax
                        info.json        what the caller adds: vocabulary, sizes, scores, where the data stood
                        manifest.json    the SHA-256 of each file above
"""

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxseq import check

_NEW, _OLD, _UNFINISHED = map(re.compile, (r"\d{12,}", r"\.old-(\d{12,})", r"\.new-[0-9a-f]{32}"))


class TornError(ValueError):
    """Nothing that is stored is whole: every version is torn, which is to say incomplete or changed since."""


class Stored(NamedTuple):
    """What `load` returns."""

    tree: Any
    info: Any


def save(folder: str | os.PathLike, tree: Any, info: Any = None, *, number: int | None = None, keep: int = 1) -> None:
    """Stores a tree of arrays and `info`; once that is whole, drops all but the newest `keep` versions.

    Args:
      folder: made where there is none. One process writes there; others may read.
      tree: any pytree of arrays; keys of `jax.random.key` may be among them.
      info: anything that JSON holds.
      number: of this version, such as the training step, not below that of an earlier one that is whole. One of the
        same number is replaced; damaged ones of higher numbers go. None counts on from the last.
      keep: the versions to keep, this one among them.

    Raises:
      TypeError: a leaf is not an array, or `info` is nothing that JSON holds.
      ValueError: `number` is negative or below the newest whole version's, or `keep` is less than one.
    """
    folder, keep = Path(folder).absolute(), check.positive_int("keep", keep)
    arrays = {name: leaf for name, leaf in _named(tree).items() if leaf.size}
    text = as_json("info", info)
    found = _versions(folder)
    if number is None:
        number = max(found, default=-1) + 1
    if number < 0:
        raise ValueError(f"`number` must not be negative; got {number}")
    later = [n for n in found if n > number]
    for n in later:
        if _damage(found[n]) is None:
            raise ValueError(f"`number` must not be below that of the newest version, {n}; got {number}")
    _drop(folder, _UNFINISHED)
    # a name of its own: threads of a save that was interrupted may still write to theirs
    new, place = folder / f".new-{uuid.uuid4().hex}", _place(folder, number)
    new.mkdir(parents=True)
    if arrays:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(new / "arrays", ocp.args.PyTreeSave(arrays))
    (new / "info.json").write_text(text, encoding="utf-8")
    (new / "manifest.json").write_text(json.dumps(_checksums(new)), encoding="utf-8")
    _set_aside(place)
    new.rename(place)
    earlier = sorted(n for n in found if n < number)
    for n in later + earlier[: max(0, len(earlier) + 1 - keep)]:
        _set_aside(_place(folder, n))
    _drop(folder, _OLD)


def saved(folder: str | os.PathLike) -> bool:
    """Whether `folder` holds a version that is whole."""
    return any(_damage(version) is None for version in _versions(Path(folder)).values())


def load(folder: str | os.PathLike, like: Any) -> Stored:
    """Reads the newest version that is whole, warning of each newer one that is not.

    Args:
      folder: as in `save`.
      like: a tree of the structure that was saved, of arrays or of what `jax.eval_shape` gives. Where it holds
        `jax.Array`s that are committed to devices, the new ones are put there.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
      ValueError: a leaf is missing, left over, or of another shape or dtype; all are named.
    """
    return _read_newest(folder, lambda version: Stored(_tree(version, like), _info(version)))


def load_info(folder: str | os.PathLike) -> Any:
    """Reads the info of the newest version that is whole: what is needed before there is a tree, such as its sizes.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
    """
    return _read_newest(folder, _info)


def as_json(name: str, value: Any) -> str:
    """Returns the JSON of `value`.

    Raises:
      TypeError: naming the place in it, where JSON does not hold it.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if not isinstance(leaf, str | int | float):
                hint = " Give its numbers: array.tolist()." if hasattr(leaf, "tolist") else ""
                place = name + jax.tree_util.keystr(path)
                raise TypeError(f"`{place}` must be what JSON holds; got {type(leaf).__name__}.{hint}") from None
        raise


def versions(folder: str | os.PathLike) -> list[int]:
    """The numbers of the versions in `folder`, whole or not, rising."""
    return sorted(_versions(Path(folder)))


def _versions(folder):
    """The folder of each version by its number; one that was being replaced counts where the new one is not there."""
    paths = [path for path in folder.glob("*") if path.is_dir() and not path.is_symlink()]
    old = {int(match[1]): path for path in paths if (match := _OLD.fullmatch(path.name))}
    return old | {int(path.name): path for path in paths if _NEW.fullmatch(path.name)}


def _drop(folder, pattern):
    """Removes the folders of such names."""
    for path in folder.glob(".*"):
        if pattern.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _set_aside(place):
    """Takes a version, if there is one, out of sight in one stroke, before its files go."""
    if place.exists():
        old = place.with_name(f".old-{place.name}")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)


def _read_newest(folder, read):
    """What `read` makes of the newest version that is whole; looks again where a writer drops it meanwhile."""
    folder = Path(folder).absolute()
    while found := _versions(folder):
        for number in sorted(found, reverse=True):
            damage = None
            try:
                damage = _damage(found[number])
                if damage is None:
                    return read(found[number])
            except Exception:  # whatever orbax raises of files that are dropped while it reads them
                if _versions(folder) == found:
                    raise
            if _versions(folder) != found:
                break
            warnings.warn(f"{found[number]} is passed over: {damage}", RuntimeWarning, stacklevel=4)
        else:
            raise TornError(f"none of the {len(found)} versions in {folder} is whole")
    raise FileNotFoundError(f"nothing was saved in {folder}")


def _tree(version, like):
    wanted = {name: leaf for name, leaf in _named(like).items() if leaf.size}
    arrays = {}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        found = {}
        if (version / "arrays").exists():
            found = checkpointer.metadata(version / "arrays").item_metadata.tree
        _compare(version, found, wanted)
        if wanted:
            placement = ocp.checkpoint_utils.construct_restore_args(wanted)
            arrays = checkpointer.restore(version / "arrays", ocp.args.PyTreeRestore(wanted, restore_args=placement))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _as(leaf, arrays.get(_name(path))), like)


def _damage(version):
    """What is wrong with a version; None for one that is whole."""
    try:
        expected = json.loads((version / "manifest.json").read_bytes())
    except (OSError, ValueError):
        return "its manifest cannot be read"
    found = _checksums(version)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if expected.get(name) != found[name]:
            return f"{name} is not as it was written"
    return None


def _checksums(version):
    files = [file for file in sorted(version.rglob("*")) if file.is_file() and file != version / "manifest.json"]
    return {file.relative_to(version).as_posix(): _sha256(file) for file in files}


def _sha256(file):
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _place(folder, number):
    return folder / f"{number:012d}"


def _info(version):
    return json.loads((version / "info.json").read_text(encoding="utf-8"))


def _name(path):
    return jax.tree_util.keystr(path) or "."


def _named(tree):
    return {_name(path): _raw(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _raw(path, leaf):
    """What is stored of a leaf: itself, or the numbers of a random key."""
    if not hasattr(leaf, "dtype"):
        raise TypeError(f"`tree{jax.tree_util.keystr(path)}` must be an array; got {type(leaf).__name__} {leaf!r}")
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


def _compare(version, found, wanted):
    """Raises, naming every leaf, unless what was found is what is wanted."""
    faults = [f"{name} is not in it" for name in wanted if name not in found]
    faults += [f"{name} is in it and not in `like`" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        stored, leaf = found[name], wanted[name]
        if (tuple(stored.shape), stored.dtype) != (tuple(leaf.shape), leaf.dtype):
            faults.append(f"{name} is {stored.dtype} {stored.shape}, `like` has {leaf.dtype} {leaf.shape}")
    if faults:
        raise ValueError(f"{version} holds another tree than `like`: " + "; ".join(sorted(faults)))
