"""All that a run of `fit` is, between two steps, and how it is stored.

A checkpoint holds the `TrainState`, the best params so far, the sums since the last row, the history, and the number of
steps made, which says where the data stands. The rest is a pure function of these, so a run that was killed and
started again ends with the very bits of one that was not.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxseq import check
from jaxseq.train._step import TrainState
from jaxseq.train._store import as_json, load, load_info, save, versions
from jaxseq.typing import Params

Row = dict[str, float]


class Checkpoints(NamedTuple):
    """Where and how often a run is saved.

    Attributes:
      folder: of this run only. If it holds a checkpoint, the run resumes from it.
      every: steps between checkpoints, besides the one at each row of the history; None: at rows only.
      keep: how many are kept.
      settings: what makes the run what it is and `fit` cannot see, such as the learning rate: anything that JSON holds.
        A run with others is refused.
    """

    folder: str | os.PathLike
    every: int | None = None
    keep: int = 3
    settings: Any = None


class Best(NamedTuple):
    """By which number of `validate` params are the best."""

    monitor: str
    better: str

    def of(self, history: list[Row]) -> int:
        """The place of the best row; what is NaN is never better."""
        values = np.array([row[f"validation/{self.monitor}"] for row in history])
        values = values if self.better == "lower" else -values
        return int(np.argmin(np.where(np.isnan(values), np.inf, values)))


class Run(NamedTuple):
    """A run between two steps."""

    state: TrainState
    best: Params
    """Those of the best row; None without validation, or before the first row."""
    sums: Any
    """The metrics since the last row; None just after one."""
    history: list[Row]
    """Never changed in place."""
    position: int
    """Steps made."""
    stopped: bool
    """A callback said so."""


def checked(checkpoints: Checkpoints | None) -> Checkpoints | None:
    """Returns checkpoints whose folder stays where it is; raises unless they are such."""
    if checkpoints is None:
        return None
    if not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"`checkpoints` must be train.Checkpoints(folder); got {checkpoints!r}")
    if checkpoints.every is not None:
        check.positive_int("checkpoints.every", checkpoints.every)
    check.positive_int("checkpoints.keep", checkpoints.keep)
    as_json("checkpoints.settings", checkpoints.settings)
    return checkpoints._replace(folder=Path(checkpoints.folder).absolute())


def store(checkpoints: Checkpoints, run: Run, epoch_size: int, best: Best | None) -> None:
    """Saves the run under the number of its position."""
    info = {
        "position": run.position,
        "settings": _settings(epoch_size, best, checkpoints.settings),
        "stopped": run.stopped,
        "history": run.history,
        "has": [run.best is not None, run.sums is not None],
    }
    save(checkpoints.folder, run[:3], info, number=run.position, keep=checkpoints.keep)


def resume(checkpoints: Checkpoints, run: Run, sums_like: Callable[[], Any], epoch_size: int, best: Best | None) -> Run:
    """Returns the run as it was last stored; `run` itself where nothing was.

    Raises:
      TornError: there are checkpoints, and none is whole.
      ValueError: they are of a run with other shapes, epochs of another size, another notion of what is best, or other
        settings.
    """
    if not versions(checkpoints.folder):
        return run
    info, settings = load_info(checkpoints.folder), _settings(epoch_size, best, checkpoints.settings)
    pairs = [(name, info["settings"].get(name), settings.get(name)) for name in settings | info["settings"]]
    differing = [f"{name}: {before} before, {now} now" for name, before, now in pairs if before != now]
    if differing:
        raise ValueError(
            f"the run in {checkpoints.folder} is another: {'; '.join(differing)}. Give another run a folder of its own."
        )
    has_best, has_sums = info["has"]
    like = (run.state, run.state.params if has_best else None, sums_like() if has_sums else None)
    state, params, sums = load(checkpoints.folder, like).tree
    return Run(state, params, sums, info["history"], info["position"], info["stopped"])


def _settings(epoch_size, best, settings):
    """What has to be the same when a run goes on, by name, as JSON gives it back."""
    own = {
        "batches an epoch": epoch_size,
        "monitor": None if best is None else best.monitor,
        "better": None if best is None else best.better,
    }
    settings = json.loads(as_json("checkpoints.settings", settings))
    if isinstance(settings, dict):
        return own | {f"settings[{name!r}]": value for name, value in settings.items()}
    return own if settings is None else own | {"settings": settings}
