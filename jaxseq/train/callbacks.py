"""Callbacks for `fit`: functions of the `Fit` so far, called after each row of its history.

You can write your own; a callback that returns True ends the run. If several processes train together, each calls it,
so that it may compute with the params, and the result in the first process counts. The callbacks here write in the
first process only.
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
    """Returns a callback that writes the history to a CSV file, one line per row.

    The file is replaced in one step and always holds the whole history, so that no line is repeated after a resume. A
    number that a row does not have is an empty field.
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
    """Returns a callback that prints the numbers of each row on one line; a progress bar of `fit` is not disturbed.

    Args:
      file: an open file to print to. None: standard output.
    """
    if file is not None and not hasattr(file, "write"):
        raise TypeError(f"`file` must be an open file or None; got {check.short(file)}")

    def write(fit):
        if of_tree(fit.state).is_first:
            print(line(fit.history[-1]), file=file, flush=True)

    return write


def tensorboard(writer: Any) -> Callable[[Fit], None]:
    """Returns a callback that writes the numbers of each row as scalars for TensorBoard.

    Args:
      writer: a `tensorboardX.SummaryWriter(folder)` (`pip install 'jaxseq[logging]'`), or any object with its
        `add_scalar`. Close it after training, or use it in a `with` statement.
    """
    if not callable(getattr(writer, "add_scalar", None)):
        raise TypeError(f"`writer` must have add_scalar, as SummaryWriter(folder) has; got {check.short(writer)}")

    def write(fit):
        row = fit.history[-1] if of_tree(fit.state).is_first else {}
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(name, value, row["step"])

    return write
