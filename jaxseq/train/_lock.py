"""A lock that allows one writer at a time in a folder; it is released when its process ends, in whatever way.

The lock belongs to an open file (`flock`), so a killed process cannot leave it behind. A forked child would inherit the
file and hold the lock after its parent has ended, so the child closes it. Where such locks do not exist, on Windows and
on some network file systems, nothing is locked.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".lock"
_open: set[int] = set()
"""The files whose locks this process holds or tries to get."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder` in a `with` block; makes the folder if it does not exist.

    Raises:
      BlockingIOError: another process or thread holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    _close_in_children()
    while True:
        file = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _open.add(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _close(file)
            raise BlockingIOError(
                f"another process writes to {folder}, or another thread of this one. Wait until it ends, or give each "
                "a folder of its own."
            ) from None
        except OSError:  # a file system without locks
            break
        if _is_named(file, folder / _NAME):
            break
        _close(file)  # between open and flock, the previous holder has ended and removed the file
    try:
        yield
    finally:
        if file in _open:  # False in a forked child
            with contextlib.suppress(OSError):
                (folder / _NAME).unlink()
            _close(file)


def _is_named(file, path):
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _close(file):
    _open.discard(file)
    os.close(file)


@functools.cache
def _close_in_children():
    os.register_at_fork(after_in_child=lambda: [_close(file) for file in list(_open)])
