"""Writing of one version of a stored tree, by one process or by several; a version is written whole or not at all."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import threading
import uuid
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxseq.train._processes import ALONE, Processes
from jaxseq.train._versions import checksums, damage, drop, foreign, set_aside, version_at, versions


def write(
    folder: Path, arrays: dict[str, Any], texts: dict[str, str], *, number: int | None, keep: int, processes: Processes
) -> None:
    """Stores a tree for `train.save`, as `_store.as_stored` returns it; the first process must hold the folder's lock.

    All processes write their parts of the arrays. The first process does the rest.
    """
    with _uninterrupted():
        number, new = processes.first(lambda: _begin(folder, number))
        try:
            with _named_errors(folder, number):
                if arrays:
                    processes.first((new / "arrays").mkdir)
                    processes.all(lambda: _write_arrays(new, arrays, processes))
                processes.first(lambda: _finish(folder, number, new, texts, bool(arrays), keep))
        except Exception:  # any exception of orbax for a file that cannot be written
            if processes.is_first:
                shutil.rmtree(new, ignore_errors=True)
            raise


@contextlib.contextmanager
def _uninterrupted():
    """Delays a first Ctrl-C to the end of the block: orbax's threads and event loop fail in many words otherwise."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    received = []

    def delay(number, frame):
        if received:
            handler(number, frame)
        received.append((number, frame))

    signal.signal(signal.SIGINT, delay)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            handler(*received[0])


def _begin(folder, number):
    """Returns the number of the new version, and a new folder for it."""
    found = versions(folder)
    if number is None:
        taken, number = foreign(folder), max(found, default=-1) + 1
        while version_at(folder, number).name in taken:
            number += 1
    for n in found:
        if n > number and damage(found[n]) is None:
            raise ValueError(f"`number` must be at least that of the newest version, {n}; got {number}")
    version = version_at(folder, number)
    if version.name in foreign(folder):
        raise FileExistsError(f"{version} has the name of a version but was not saved here. Move it elsewhere.")
    drop(folder, unfinished=True)
    # a unique name, because threads of an interrupted save may still write to their folder
    new = folder / f".new-{uuid.uuid4().hex}"
    with _named_errors(folder, number):
        new.mkdir()
    return number, new


def _write_arrays(new, arrays, processes):
    if jax.process_count() > 1:  # orbax then refuses JAX arrays that only one process holds
        if not processes.together and jax.process_index():
            raise ValueError(
                f"process 0 saves arrays that only one process holds, and this is process {jax.process_index()}. "
                "Call save there, or in all processes with arrays on a mesh of all."
            )
        local = lambda leaf: isinstance(leaf, jax.Array) and leaf.is_fully_addressable
        arrays = {name: np.asarray(leaf) if local(leaf) else leaf for name, leaf in arrays.items()}
    with contextlib.closing(orbax(processes)) as handler:
        handler.save(epath.Path(new / "arrays"), args=ocp.args.PyTreeSave(arrays))


def _finish(folder, number, new, texts, with_arrays, keep):
    """Completes the version, moves it into its place, and removes versions that are not to be kept."""
    if with_arrays:
        with contextlib.closing(orbax(ALONE)) as handler:
            handler.finalize(epath.Path(new / "arrays"))
    for name, text in texts.items():
        (new / name).write_text(text, encoding="utf-8")
    (new / "manifest.json").write_text(json.dumps(checksums(new)), encoding="utf-8")
    version, found = version_at(folder, number), versions(folder)
    set_aside(version)
    new.rename(version)
    earlier = sorted(n for n in found if n < number)
    for n in [n for n in found if n > number] + earlier[: max(0, len(earlier) + 1 - keep)]:
        set_aside(version_at(folder, n))
    drop(folder, unfinished=False)


def orbax(processes: Processes) -> ocp.PyTreeCheckpointHandler:
    """Returns orbax's handler that writes and reads arrays; `Processes` does the waiting for other processes."""
    if processes.together:
        return ocp.PyTreeCheckpointHandler()
    alone = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=alone, active_processes={alone})
    return ocp.PyTreeCheckpointHandler(multiprocessing_options=options)


@contextlib.contextmanager
def _named_errors(folder, number):
    """Raises the operating system's error, with its text, for a version that could not be written."""
    try:
        yield
    except Exception as error:
        if (code := _os_error(error)) is None:
            raise
        hint = " Free some space." if code in (errno.ENOSPC, errno.EDQUOT) else ""
        message = f"{os.strerror(code)}: version {number} could not be saved; earlier versions are not changed.{hint}"
        raise OSError(code, message, str(folder)) from error


def _os_error(error):
    """Returns the operating system's error number behind `error`, or None; orbax gives tensorstore's text only."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if told := re.search(r"os_error_code='(\d+)'", str(error)):
            return int(told[1])
        error = error.__cause__
    return None
