"""What `fit` may call after each row of its history: functions of the `Fit` so far.

A callback of one's own is any such function; one that returns True ends the run. Where several processes train
together, each calls it, so that it may compute with the params, and the answer of the first one counts. Those here
write in the first process alone.
"""

import csv as _csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from jaxseq import check
from jaxseq.train._fit import Fit
from jaxseq.train._processes import of_tree
from jaxseq.train._progress import line


def csv(path: str | os.PathLike) -> Callable[[Fit], None]:
    """Writes the history to a CSV file, a line a row.

    The file is replaced in one stroke and always holds the whole history, so that it has no line twice after a run was
    resumed. A row without some number leaves its field empty.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be a path; got {check.short(path)}")
    path = Path(path)

    def write(fit):
        if not of_tree(fit.state).is_first:
            return
        names = list(dict.fromkeys(name for row in fit.history for name in row))
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        with new.open("w", newline="", encoding="utf-8") as file:
            writer = _csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(fit.history)
        new.replace(path)

    return write


def printing(file: TextIO | None = None) -> Callable[[Fit], None]:
    """Prints each row's numbers on a line, to a log or a notebook; a bar of `fit(progress=True)` makes room for it.

    Args:
      file: where to, such as an open file; None: standard output.
    """
    if file is not None and not hasattr(file, "write"):
        raise TypeError(f"`file` must be an open file or None; got {check.short(file)}")

    def write(fit):
        if of_tree(fit.state).is_first:
            print(line(fit.history[-1]), file=file, flush=True)

    return write


def tensorboard(writer: Any) -> Callable[[Fit], None]:
    """Writes each row's numbers as scalars for TensorBoard.

    Args:
      writer: a `tensorboardX.SummaryWriter(folder)` (`pip install 'jaxseq[logging]'`), or any with its `add_scalar`; it
        is the caller's to close, best by `with`.
    """
    if not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(f"`writer` must have add_scalar, as SummaryWriter(folder) has; got {check.short(writer)}")

    def write(fit):
        row = fit.history[-1] if of_tree(fit.state).is_first else {}
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, row["step"])

    return write
