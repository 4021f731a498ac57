"""Numbered versions in a folder. Each is a folder of files with their checksums, so that damage is detected.

folder/000000000120/        a version; a complete one has the SHA-256 of each of its files in manifest.json
       .new-.../            one that is being written, or that a killed process left behind
       .old-000000000110/   one that is being removed or replaced
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from jaxseq import check

_NAMED, _OLD, _UNFINISHED = map(re.compile, (r"\d{12,}", r"\.old-(\d{12,})", r"\.new-[0-9a-f]{32}"))


def place(name: str, folder: Any) -> Path:
    """Returns the folder as an absolute path.

    Raises:
      TypeError: it is not a path.
      ValueError: it contains a character that orbax interprets as a pattern, and so would find nothing.
    """
    if not isinstance(folder, str | os.PathLike) or isinstance(os.fspath(folder), bytes):
        raise TypeError(f"`{name}` must be a path; got {check.short(folder)}")
    absolute = Path(folder).absolute()
    if set("*?[") & set(str(absolute)):
        raise ValueError(f"`{name}` must be a path without *, ? and [, which orbax reads as patterns; got {absolute}")
    return absolute


def versions(folder: Path) -> dict[int, Path]:
    """Returns the folder of each version by number. A version being replaced counts if its new one is missing."""
    paths = [path for path in folder.glob("*") if _is_folder(path)]
    old = {int(match[1]): path for path in paths if (match := _OLD.fullmatch(path.name))}
    return old | {int(path.name): path for path in paths if _NAMED.fullmatch(path.name)}


def foreign(folder: Path) -> list[str]:
    """Returns names of versions that are used by something else, such as a file or a link."""
    return [path.name for path in folder.glob("*") if _NAMED.fullmatch(path.name) and not _is_folder(path)]


def _is_folder(path):
    return path.is_dir() and not path.is_symlink()


def version_at(folder: Path, number: int) -> Path:
    """Returns the path of a version."""
    return folder / f"{number:012d}"


def damage(version: Path) -> str | None:
    """Returns what is wrong with a version, or None if it is complete."""
    try:
        expected = json.loads((version / "manifest.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return "its manifest cannot be read"
    if not isinstance(expected, dict):
        return "its manifest is not valid"
    found = checksums(version)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if expected.get(name) != found[name]:
            return f"{name} is not as it was written"
    return None


def checksums(version: Path) -> dict[str, str]:
    """Returns the checksum of each file except the manifest, by path."""
    files = [file for file in sorted(version.rglob("*")) if file.is_file() and file != version / "manifest.json"]
    return {file.relative_to(version).as_posix(): _sha256(file) for file in files}


def _sha256(file):
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def set_aside(place: Path) -> None:
    """Renames a version, if it exists, so that it is hidden atomically before its files are deleted."""
    if place.exists():
        old = place.with_name(f".old-{place.name}")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)


def drop(folder: Path, *, unfinished: bool) -> None:
    """Deletes the folders of versions that were set aside, or of those that were never finished."""
    pattern = _UNFINISHED if unfinished else _OLD
    for path in folder.glob(".*"):
        if pattern.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
