"""One writer at a time in a folder, by a lock that the kernel releases when its process ends, however it ends.

The lock is that of an open file (`flock`), which a killed process cannot leave behind. A forked child would inherit the
file and hold the lock when its parent is gone, so it closes it. Where there are no such locks, on Windows and on some
file systems of networks, nothing is locked.
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
"""The files of the locks that this process holds, or tries to."""


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`, which is made where there is none.

    Raises:
      BlockingIOError: another holds it.
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
                f"another process writes to {folder}, or another thread of this one. Wait for its end, or give each "
                "a folder of its own."
            ) from None
        except OSError:  # of a file system without locks
            break
        if _is_named(file, folder / _NAME):
            break
        _close(file)  # the one that held it has ended, and taken the file away, between the two calls
    try:
        yield
    finally:
        if file in _open:  # not so in a forked child
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
