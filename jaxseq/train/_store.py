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
import shutil
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxseq import check


class TornError(ValueError):
    """Nothing that is stored is whole."""


class Stored(NamedTuple):
    """What `load` returns."""

    tree: Any
    info: Any


def save(folder: str | os.PathLike, tree: Any, info: Any = None, *, number: int | None = None, keep: int = 1) -> None:
    """Stores a tree of arrays and `info`; once that is whole, drops all but the newest `keep` versions.

    Args:
      folder: made where there is none.
      tree: any pytree of arrays; keys of `jax.random.key` may be among them.
      info: anything that JSON holds.
      number: of this version, such as the training step; None counts on from the last. One of the same number is
        replaced.
      keep: the versions to keep, this one among them.

    Raises:
      TypeError: a leaf is not an array, or `info` is nothing that JSON holds.
      ValueError: `number` is negative, or `keep` less than one.
    """
    folder, keep = Path(folder).absolute(), check.positive_int("keep", keep)
    arrays = {name: leaf for name, leaf in _named(tree).items() if leaf.size}
    text = json.dumps(info, ensure_ascii=False)
    numbers = versions(folder)
    if number is None:
        number = numbers[-1] + 1 if numbers else 0
    if number < 0:
        raise ValueError(f"`number` must not be negative; got {number}")
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*-version"):
        shutil.rmtree(leftover)
    new = folder / ".new-version"
    new.mkdir()
    if arrays:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            checkpointer.save(new / "arrays", ocp.args.PyTreeSave(arrays))
    (new / "info.json").write_text(text, encoding="utf-8")
    (new / "manifest.json").write_text(json.dumps(_checksums(new)), encoding="utf-8")
    if number in numbers:
        _drop(folder, number)
    new.rename(_place(folder, number))
    for old in versions(folder)[:-keep]:
        _drop(folder, old)


def load(folder: str | os.PathLike, like: Any) -> Stored:
    """Reads the newest version that is whole, warning of each newer one that is not.

    Args:
      folder: as in `save`.
      like: a tree of the structure that was saved, of arrays or of what `jax.eval_shape` gives. Where it holds
        `jax.Array`s, theirs are the devices that the new ones lie on.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
      ValueError: a leaf is missing, left over, or of another shape or dtype; all are named.
    """
    version = _newest_whole(folder)
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
    tree = jax.tree_util.tree_map_with_path(lambda path, leaf: _as(leaf, arrays.get(_name(path))), like)
    return Stored(tree, _info(version))


def load_info(folder: str | os.PathLike) -> Any:
    """Reads the info of the newest version that is whole: what is needed before there is a tree, such as its sizes.

    Raises:
      FileNotFoundError: nothing was saved in `folder`.
      TornError: no version is whole.
    """
    return _info(_newest_whole(folder))


def versions(folder: str | os.PathLike) -> list[int]:
    """The numbers of the versions in `folder`, whole or not, rising."""
    folder = Path(folder)
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal() and path.is_dir())


def _newest_whole(folder):
    folder = Path(folder).absolute()
    numbers = versions(folder)
    if not numbers:
        raise FileNotFoundError(f"nothing was saved in {folder}")
    for number in reversed(numbers):
        version = _place(folder, number)
        damage = _damage(version)
        if damage is None:
            return version
        warnings.warn(f"{version} is passed over: {damage}", RuntimeWarning, stacklevel=3)
    raise TornError(f"none of the {len(numbers)} versions in {folder} is whole")


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


def _drop(folder, number):
    """Takes a version out of sight in one stroke before its files go."""
    old = folder / ".old-version"
    shutil.rmtree(old, ignore_errors=True)
    _place(folder, number).rename(old)
    shutil.rmtree(old)


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
        return leaf
    if isinstance(leaf, jax.Array):
        return jax.random.key_data(leaf)
    return jax.eval_shape(jax.random.key_data, leaf)


def _as(like, stored):
    """The array stored for a leaf, as the leaf is: a random key, or on the host."""
    if stored is None:
        return jnp.zeros(like.shape, like.dtype)
    if _is_key(like):
        return jax.random.wrap_key_data(stored, impl=_key_impl(like))
    return np.asarray(stored) if isinstance(like, np.ndarray | np.generic) else jnp.asarray(stored)


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
