"""A file that is written whole, or not at all."""

import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Writes `data` beside the path, and puts it in its place in one stroke.

    Raises:
      OSError: it cannot be written; what was there before still is.
    """
    new = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        new.write_bytes(data)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
