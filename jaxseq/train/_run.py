"""All that a run of `fit` is, between two steps, and how it is stored.

A checkpoint holds the `TrainState`, the best params so far, the sums since the last row, the history, and the number of
steps made, which says where the data stands. The rest is a pure function of these, so a run that was killed and
started again ends with the very bits of one that was not.
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
"""Of what is stored; another one is refused."""


class Checkpoints(NamedTuple):
    """Where and how often a run is saved.

    Attributes:
      folder: of this run only. If it holds a checkpoint, the run resumes from it.
      every: steps between checkpoints, besides the one at each row of the history; None: at rows only.
      keep: how many are kept. One is enough for a run that may be killed; each more is for a disk that damages files.
        A checkpoint holds the state, with Adam three times the params, and the best params where those are not the
        last.
      settings: what makes the run what it is and `fit` cannot see, such as the data: what JSON gives back as it was,
        see `save`. A run with others is refused.
    """

    folder: str | os.PathLike
    every: int | None = None
    keep: int = 2
    settings: Any = None


class Best(NamedTuple):
    """By which number of `validate` params are the best."""

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
        """The place of the best row; None where no row is better than none: all are NaN, or infinitely bad."""
        values = np.array([row[f"validation/{self.monitor}"] for row in history])
        values = values if self.better == "lower" else -values
        values = np.where(np.isnan(values), np.inf, values)
        return int(np.argmin(values)) if np.any(values < np.inf) else None


class Ended(NamedTuple):
    """Why nothing is left to do, and what makes a run go on, as the end of a sentence."""

    why: str
    remedy: str = ""


class Run(NamedTuple):
    """A run between two steps."""

    state: TrainState
    best: Params
    """Those of the best row; None without validation, or before there is one."""
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
    """Saves the run under the number of its position, in a folder whose lock the first process holds."""
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
    """Returns the run as it was last stored, and its fingerprint; `run` itself and None where nothing was.

    Raises:
      TornError: there are checkpoints, and none is whole.
      FileExistsError: a file that is none stands in their place.
      ValueError: they are of a run with other shapes, epochs of another size, another notion of what is best, or other
        settings; or they are none of a run, but of `save`.
    """
    there, info = processes.first(lambda: _found(Path(checkpoints.folder)))
    if not there:
        return run, None
    settings = _settings(epoch_size, best, checkpoints.settings)
    if not isinstance(info, dict) or info.get("fit") != _FORMAT:
        raise ValueError(
            f"{checkpoints.folder} holds what train.save stored, or another version of fit. Give the run a folder of "
            "its own."
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
        raise ValueError(_otherwise(checkpoints.folder, error)) from None
    params = jax.tree.map(jnp.copy, tree["state"].params) if info["best"] == "last" else tree["best"]
    run = Run(tree["state"], params, tree["sums"], info["history"], info["position"], info["stopped"])
    return run, info["made of"]


def _found(folder):
    """Whether checkpoints are in the folder, and the info of the newest."""
    if others := foreign(folder):
        raise FileExistsError(f"{folder / others[0]} has the name of a checkpoint and is none. Move it elsewhere.")
    return (True, load_info(folder)) if versions(folder) else (False, None)


def tell(checkpoints: Checkpoints, before: Any, made_of: dict[str, str | None], ended: Ended | None) -> None:
    """Warns where a run that is gone on with was another, as far as that is seen, or had ended.

    Args:
      checkpoints: where it is stored.
      before: its fingerprint.
      made_of: that of the run which is asked for.
      ended: why nothing is left to do; None: something is.
    """
    run, own, others = f"the run in {checkpoints.folder}", "another run a folder of its own", differing(before, made_of)
    begun = f"was begun with {', and with '.join(others)}"
    if ended is not None:
        told = f"{run} has ended, {ended.why}: nothing is trained, and its result is returned."
        told = f"{told} It {begun}: give {own}." if others else f"{told} Give {own}{ended.remedy}."
    elif others:
        told = (
            f"{run} {begun}. It goes on from where it stands, with the loss, optimizer, rate and batches of this call: "
            f"give {own} if that is not meant."
        )
    else:
        return
    warnings.warn(told, RuntimeWarning, stacklevel=3)


def _otherwise(folder, error):
    """What is said where the arrays of a run do not fit the state that is to go on."""
    if all(name.startswith("['state'].opt_state") for name in error.names):
        return (
            f"the run in {folder} was begun with another optimizer: its state has other parts. Give another run a "
            "folder of its own, or start one from the params there: "
            'train.load(folder, params, part="state/params").tree'
        )
    listed = error.listed.replace("`like`", "this run")
    return f"the run in {folder} is another: {listed}. Give another run a folder of its own."


def _equal(before, now):
    """Whether settings are the same, NaN being NaN."""
    return before == now or json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True)


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
