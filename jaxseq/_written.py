"""Writes a file completely, or not at all."""

import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` to a new file in the same folder, and renames it to `path` atomically.

    Raises:
      OSError: it cannot be written. An existing file at `path` is then unchanged.
    """
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
