"""All that a run of `fit` is, between two steps, and how it is stored.

A checkpoint holds the `TrainState`, the best params so far, the sums since the last row, the history, and the number of
steps made, which says where the data stands. The rest is a pure function of these, so a run that was killed and
started again ends with the very bits of one that was not.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxseq.train._step import TrainState
from jaxseq.train._store import load, load_info, save, versions
from jaxseq.typing import Params

Row = dict[str, float]


class Checkpoints(NamedTuple):
    """Where and how often a run is saved.

    Attributes:
      folder: of this run alone. What is found there is gone on with.
      every: steps between checkpoints, besides the one at each row of the history; None: at rows only.
      keep: how many are kept.
    """

    folder: str | os.PathLike
    every: int | None = None
    keep: int = 3


class Run(NamedTuple):
    """A run between two steps."""

    state: TrainState
    best: Params
    """Those of the best row; None without validation, or before the first row."""
    sums: Any = None
    """The metrics since the last row; None just after one."""
    history: list[Row] = []  # noqa: RUF012 never changed in place
    position: int = 0
    """Steps made."""
    ended: bool = False
    """Before its last epoch: patience is exhausted, or a callback said so."""


def store(checkpoints: Checkpoints, run: Run, epoch_size: int) -> None:
    """Saves the run under the number of its position."""
    info = {
        "position": run.position,
        "epoch_size": epoch_size,
        "ended": run.ended,
        "history": run.history,
        "has": [run.best is not None, run.sums is not None],
    }
    save(checkpoints.folder, run[:3], info, number=run.position, keep=checkpoints.keep)


def resume(checkpoints: Checkpoints, run: Run, sums_like: Callable[[], Any], epoch_size: int) -> Run:
    """Returns the run as it was last stored; `run` itself where nothing was.

    Raises:
      TornError: there are checkpoints, and none is whole.
      ValueError: they are of a run with other shapes, or with epochs of another size.
    """
    if not versions(checkpoints.folder):
        return run
    info = load_info(checkpoints.folder)
    if info["epoch_size"] != epoch_size:
        raise ValueError(
            f"the run in {checkpoints.folder} has epochs of {info['epoch_size']} batches, these are of {epoch_size}. "
            "Give another run a folder of its own."
        )
    has_best, has_sums = info["has"]
    like = (run.state, run.state.params if has_best else None, sums_like() if has_sums else None)
    state, best, sums = load(checkpoints.folder, like).tree
    return Run(state, best, sums, info["history"], info["position"], info["ended"])
