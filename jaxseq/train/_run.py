"""The state of a `fit` run between two steps, and how it is stored and resumed.

A checkpoint holds the `TrainState`, the best params so far, the sums since the last row, the history, and the number of
steps made, which is also the position in the data. All else is a pure function of these. A run that was killed and
started again therefore ends with exactly the bits of a run that was not killed.
"""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._json._info import as_json
from jaxseq.train._fingerprint import differing
from jaxseq.train._processes import Processes
from jaxseq.train._step import TrainState
from jaxseq.train._store import OtherTreeError, as_stored, load, load_info
from jaxseq.train._versions import foreign, place, versions
from jaxseq.train._write import write
from jaxseq.typing import Params

Row = dict[str, float]

_FORMAT = 2
"""The version of the stored format; other versions are refused."""


class Checkpoints(NamedTuple):
    """Where and how often a run is saved.

    Attributes:
      folder: a folder for this run only. If it holds a checkpoint, the run resumes from it.
      every: steps between checkpoints; there is also one at each row of the history. None: at rows only.
      keep: the number of checkpoints to keep. One is enough for a run that may be killed; more protect against a disk
        that damages files. A checkpoint holds the state, which with Adam is three times the params, and the best params
        if they are not the last.
      settings: all that defines the run and that `fit` cannot see, such as the data. It must be a value that JSON reads
        back as it was; see `save`. A run with other settings is refused.
    """

    folder: str | os.PathLike
    every: int | None = None
    keep: int = 2
    settings: Any = None


class Best(NamedTuple):
    """The number of `validate` that decides which params are best."""

    monitor: str
    better: str

    @classmethod
    def by(cls, monitor: str, better: str | None) -> "Best":
        """Returns it from the arguments of `fit`, checked."""
        if not isinstance(monitor, str):
            raise TypeError(f"`monitor` must be the name of a number that `validate` gives; got {check.short(monitor)}")
        monitor = monitor.removeprefix("validation/")
        if better is None and monitor != "loss":
            raise ValueError(f"`better` must say whether a 'lower' or a 'higher' {monitor!r} is better")
        better = "lower" if better is None else better
        check.one_of("better", better, ("lower", "higher"))
        return cls(monitor, better)

    def of(self, history: list[Row]) -> int | None:
        """Returns the index of the best row, or None if all rows are NaN or infinitely bad."""
        values = np.array([row[f"validation/{self.monitor}"] for row in history])
        values = values if self.better == "lower" else -values
        values = np.where(np.isnan(values), np.inf, values)
        return int(np.argmin(values)) if np.any(values < np.inf) else None


class Ended(NamedTuple):
    """Why a run has nothing left to do, and how to make it continue, both as ends of a sentence."""

    why: str
    remedy: str = ""


class Run(NamedTuple):
    """The state of a run between two steps."""

    state: TrainState
    best: Params
    """The params of the best row; None without validation, or before the first row."""
    sums: Any
    """The metrics since the last row; None right after a row."""
    history: list[Row]
    """The rows; never changed in place."""
    position: int
    """The number of steps made."""
    stopped: bool
    """Whether a callback has ended the run."""


def checked(checkpoints: Checkpoints | None) -> Checkpoints | None:
    """Returns checked checkpoints with an absolute folder, which a change of the working directory cannot move."""
    if checkpoints is None:
        return None
    if not isinstance(checkpoints, Checkpoints):
        raise TypeError(f"`checkpoints` must be train.Checkpoints(folder); got {check.short(checkpoints)}")
    if checkpoints.every is not None:
        check.positive_int("checkpoints.every", checkpoints.every)
    check.positive_int("checkpoints.keep", checkpoints.keep)
    as_json("checkpoints.settings", checkpoints.settings)
    return checkpoints._replace(folder=place("checkpoints.folder", checkpoints.folder))


def store(
    checkpoints: Checkpoints,
    run: Run,
    epoch_size: int,
    best: Best | None,
    made_of: dict[str, str | None],
    processes: Processes,
) -> None:
    """Saves the run as the version of its position; the first process must hold the folder's lock."""
    is_last = run.best is not None and run.history[(best and best.of(run.history)) or 0]["step"] == run.position
    info = {
        "fit": _FORMAT,
        "position": run.position,
        "settings": _settings(epoch_size, best, checkpoints.settings),
        "made of": made_of,
        "stopped": run.stopped,
        "history": run.history,
        "best": None if run.best is None else "last" if is_last else "own",
        "sums": run.sums is not None,
    }
    tree = {"state": run.state, "best": None if is_last else run.best, "sums": run.sums}
    number, keep = run.position, checkpoints.keep
    arrays, text = as_stored(tree, info, number, keep)
    write(Path(checkpoints.folder), arrays, {"info.json": text}, number=number, keep=keep, processes=processes)


def resume(
    checkpoints: Checkpoints,
    run: Run,
    sums_like: Callable[[], Any],
    epoch_size: int,
    best: Best | None,
    processes: Processes,
) -> tuple[Run, Any]:
    """Returns the run as last stored, and its fingerprint; without checkpoints, `run` itself and None.

    Raises:
      TornError: there are checkpoints, but none is whole.
      FileExistsError: a file that is not a checkpoint has the name of one.
      ValueError: the checkpoints are of a run with other shapes, another number of batches per epoch, another monitor
        or other settings; or they were written by `save`, not by `fit`.
    """
    there, info = processes.first(lambda: _found(Path(checkpoints.folder)))
    if not there:
        return run, None
    settings = _settings(epoch_size, best, checkpoints.settings)
    if not isinstance(info, dict) or info.get("fit") != _FORMAT:
        raise ValueError(
            f"{checkpoints.folder} holds a version that train.save or another version of fit has stored. Give the run "
            "a folder of its own."
        )
    pairs = [(name, info["settings"].get(name), settings.get(name)) for name in settings | info["settings"]]
    others = [f"{name}: {before} before, {now} now" for name, before, now in pairs if not _equal(before, now)]
    if others:
        raise ValueError(
            f"the run in {checkpoints.folder} is another: {'; '.join(others)}. Give another run a folder of its own."
        )
    best_like = run.state.params if info["best"] == "own" else None
    like = {"state": run.state, "best": best_like, "sums": sums_like() if info["sums"] else None}
    try:
        tree = load(checkpoints.folder, like).tree
    except OtherTreeError as error:
        raise ValueError(_mismatch(checkpoints.folder, error)) from None
    params = jax.tree.map(jnp.copy, tree["state"].params) if info["best"] == "last" else tree["best"]
    run = Run(tree["state"], params, tree["sums"], info["history"], info["position"], info["stopped"])
    return run, info["made of"]


def _found(folder):
    """Returns whether the folder holds checkpoints, and the info of the newest one."""
    if others := foreign(folder):
        raise FileExistsError(f"{folder / others[0]} has the name of a checkpoint but is none. Move it elsewhere.")
    return (True, load_info(folder)) if versions(folder) else (False, None)


def warn_of_changes(checkpoints: Checkpoints, before: Any, made_of: dict[str, str | None], ended: Ended | None) -> None:
    """Warns if the run that resumes was started differently, as far as the fingerprint shows, or has ended.

    Args:
      checkpoints: where the run is stored.
      before: the stored fingerprint.
      made_of: the fingerprint of this call.
      ended: why nothing is left to do; None if there is.
    """
    run, own, others = f"the run in {checkpoints.folder}", "another run a folder of its own", differing(before, made_of)
    begun = f"was started with {', and with '.join(others)}"
    if ended is not None:
        told = f"{run} has ended, {ended.why}: nothing is trained, and its result is returned."
        told = f"{told} It {begun}: give {own}." if others else f"{told} Give {own}{ended.remedy}."
    elif others:
        told = (
            f"{run} {begun}. It resumes from its checkpoint with the loss, optimizer, learning rate and batches of "
            f"this call: give {own} if that is not intended."
        )
    else:
        return
    warnings.warn(told, RuntimeWarning, stacklevel=3)


def _mismatch(folder, error):
    """Returns the error message for stored arrays that do not fit the state of this run."""
    if all(name.startswith("['state'].opt_state") for name in error.names):
        return (
            f"the run in {folder} was started with another optimizer: its state has another structure. Give another "
            "run a folder of its own, or start one from the stored params: "
            'train.load(folder, params, part="state/params").tree'
        )
    listed = error.listed.replace("`like`", "this run")
    return f"the run in {folder} is another: {listed}. Give another run a folder of its own."


def _equal(before, now):
    """Returns whether settings are equal; NaN equals NaN."""
    return before == now or json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True)


def _settings(epoch_size, best, settings):
    """Returns by name all that must be the same when a run resumes, as JSON reads it back."""
    own = {
        "batches an epoch": epoch_size,
        "monitor": None if best is None else best.monitor,
        "better": None if best is None else best.better,
    }
    settings = json.loads(as_json("checkpoints.settings", settings))
    if isinstance(settings, dict):
        return own | {f"settings[{name!r}]": value for name, value in settings.items()}
    return own if settings is None else own | {"settings": settings}
