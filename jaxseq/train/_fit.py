"""The loop around the step: epochs, rows of a history, validation, early stop, checkpoints, and what to do about NaN.

Killed at any moment and started again, a run that has checkpoints ends with the very bits of one that was not killed;
see `_run`.
"""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq.train._batches import Loader, as_loader, remaining
from jaxseq.train._devices import put_batch, put_state, settled, whole_params
from jaxseq.train._fingerprint import check_alike, fingerprint
from jaxseq.train._lock import writing
from jaxseq.train._processes import of_sharding
from jaxseq.train._progress import progress as shown_by
from jaxseq.train._report import no_sums, numbers
from jaxseq.train._run import Best, Checkpoints, Ended, Row, Run, checked, resume, store, tell
from jaxseq.train._step import Report, TrainState
from jaxseq.train._watch import NonFiniteError, Watch
from jaxseq.typing import Params


class Fit(NamedTuple):
    """What came of a run, or has so far.

    Attributes:
      state: after the last step. What a loss learns in its carry, such as statistics of batches, is that of this step
        alone, in `state.carry`.
      params: those of the best row, by the number of `validate` that `monitor` names; without validation, the last.
      history: the rows, a dict of numbers each.
    """

    state: TrainState
    params: Params
    history: list[Row]


def fit(
    step: Callable[[TrainState, Any], tuple[TrainState, Report]],
    state: TrainState,
    batches: Loader | Sequence[Any],
    *,
    epochs: int,
    every: int | None = None,
    validate: Callable[[Params], Mapping[str, float]] | None = None,
    monitor: str = "loss",
    better: Literal["lower", "higher"] | None = None,
    patience: int | None = None,
    callbacks: Sequence[Callable[[Fit], Any]] = (),
    checkpoints: Checkpoints | None = None,
    sharding: jax.sharding.Sharding | None = None,
    progress: bool = False,
) -> Fit:
    """Trains for `epochs`, and returns the last state, the best params and the history.

    A row of the history is closed every so many steps: `{"step": ..., "epoch": ..., "seconds": ..., "loss": ...,
    "gradient_norm": ..., "skipped": ..., **aux}`, over the steps since the row before, and what `validate` gives, as
    `"validation/<name>"`.

    Args:
      step: of `make_step`.
      state: of `init`; its buffers are given away (donated).
      batches: a loader of `jaxseq.data`, or a list of batches, taken in order in every epoch. A batch is to stay as
        it is while the next is made.
      epochs: in all, those before a resumption among them.
      every: steps to a row; None: an epoch. The last row may be of fewer.
      validate: `params -> {name: number}`, called at each row; see `evaluator`.
      monitor: the number of `validate` by which params are the best, by the name that `validate` gives it, such as
        `"accuracy"`, or by that of the row, `"validation/accuracy"`.
      better: whether a lower or a higher one is; None: lower, where `monitor` is the loss.
      patience: rows without a better one after which to stop; None: never.
      callbacks: functions of the `Fit` so far, called after each row; one that returns True ends the run.
      checkpoints: saves the run, and goes on from the newest whole checkpoint that is in the folder. It warns where
        nothing is left to do, and where the run there was begun with another loss, optimizer, rate, start or first
        batch; from there on those of this call are used, but for the start. An optimizer whose state has other parts is
        refused. Other batches, `validate` and callbacks it cannot see: name what matters in their `settings`.
      sharding: how batches are split over the devices of a mesh, as in `data.prefetch`; None: JAX's default device.
        What the state has elsewhere goes to all devices of that mesh, what `shard_state` has split stays split, and the
        carry is split as the batch is. Where the mesh is of all processes of `jax.distributed`, each calls `fit` alike:
        `docs/scaling.md`.
      progress: shows a bar, by tqdm, where standard error is a terminal; elsewhere, as in logs and notebooks, a line
        there every ten seconds at most, for which tqdm is not needed.

    Raises:
      NonFiniteError: a loss, gradient or update was not finite, which names step and batch. Of a step made with
        `nonfinite="skip"` it warns instead, and goes on without that update.
      ImportError: `progress` asks for a bar, and there is no tqdm.
      BlockingIOError: another run trains or saves in the checkpoints' folder.
      OSError: a checkpoint cannot be written, as where the disk is full; those before it stay.
      TypeError, ValueError: an argument does not fit, the monitored number is not there, or the checkpoints are of
        another run: other shapes, an optimizer of other parts, other batches to an epoch, another monitor, other
        settings.
    """
    loader, checkpoints = as_loader(batches), checked(checkpoints)
    epochs = check.positive_int("epochs", epochs)
    every = len(loader) if every is None else check.positive_int("every", every)
    check.switch("progress", progress)
    check.sharding(sharding)
    best, processes = _best(validate, monitor, better, patience), of_sharding(sharding)
    shown = shown_by(progress and processes.is_first)
    if not (callable(step) and check.takes(step, 2)):
        raise TypeError(
            f"`step` must be what make_step returns, (state, batch) -> (state, report); got {check.short(step)}"
        )
    if not isinstance(state, TrainState):
        raise TypeError(f"`state` must be what train.init returns; got {type(state).__name__}")
    check.representable(state, "state")
    if not isinstance(callbacks, Sequence) or not all(callable(callback) for callback in callbacks):
        raise TypeError(f"`callbacks` must be a list of functions of the Fit so far; got {check.short(callbacks)}")
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)):
        raise ValueError(
            "`state` was given away to an earlier step; make another by train.init, or use what it returned"
        )
    if not np.all(state.alive):
        raise ValueError(
            "`state` has stopped at a step that was not finite; to go on with it, give "
            "state._replace(alive=jnp.ones_like(state.alive))"
        )

    parts, total = getattr(loader, "parts", 1), epochs * len(loader)
    start, state = state, put_state(state, sharding)

    @functools.cache
    def first():
        batch = next(remaining(loader, 0, len(loader)))
        return batch, put_batch(batch, sharding, parts)

    with contextlib.ExitStack() as held:
        run, before, made_of = Run(state, None, None, [], 0, False), None, {}
        if checkpoints:
            processes.first(lambda: held.enter_context(writing(Path(checkpoints.folder))))
            sums_like = lambda: _sums_like(step, state, first()[1])
            run, before = resume(checkpoints, run, sums_like, len(loader), best, processes)
            run = run._replace(state=put_state(run.state, sharding))
        if checkpoints or processes.together:
            made_of = check_alike(processes.all(lambda: _made_of(step, start, *first(), parts)))
        if checkpoints and run.position and processes.is_first:
            tell(checkpoints, before, made_of, _ended(run, total, best, patience))
        seconds_before = run.history[-1]["seconds"] if run.history else 0.0
        settled_step = None
        started, watch, display = time.perf_counter(), Watch(len(loader)), shown(run.position, total)
        try:
            for batch in remaining(loader, run.position, total):
                if _ended(run, total, best, patience):
                    break
                placed = put_batch(batch, sharding, parts)
                if settled_step is None:
                    settled_step, settled_state = settled(step, run.state, placed, sharding)
                    run = run._replace(state=settled_state)
                state, report = settled_step(run.state, placed)
                watch.add(run.position, batch, report, state)
                run = run._replace(state=state, position=run.position + 1)
                at_row = run.position % every == 0 or run.position == total
                to_store = checkpoints and (at_row or (checkpoints.every and run.position % checkpoints.every == 0))
                if at_row or to_store or watch.full:
                    run = run._replace(sums=_add(run.sums, watch.take(state)))
                if at_row:
                    seconds = seconds_before + time.perf_counter() - started
                    row = {"step": run.position, "epoch": run.position / len(loader), "seconds": seconds}
                    params = whole_params(run.state) if validate else None
                    row |= processes.all(lambda run=run, params=params: _numbers(run, params, validate, best))[0]
                    run = _close_row(run, row, best)
                    with display.paused():
                        stopped = processes.all(lambda run=run: _stopped(callbacks, _fitted(run)))[0]
                    run = run._replace(stopped=stopped)
                if checkpoints and to_store:
                    store(checkpoints, run, len(loader), best, made_of, processes)
                display.update(run.history[-1] if at_row else None)
        except NonFiniteError:
            raise
        except Exception:  # whatever went wrong: a step before it that was not finite is told first
            watch.look(run.state)
            raise
        finally:
            display.close()
    if best is not None and run.history and run.best is None:
        warnings.warn(
            f"{best.monitor!r} of `validate` was not finite in any row: none is the best, and the params are the last",
            RuntimeWarning,
            stacklevel=2,
        )
    return _fitted(run)


def _best(validate, monitor, better, patience):
    """By what params are the best; None without validation."""
    if patience is not None:
        check.positive_int("patience", patience)
    if validate is not None and not (callable(validate) and check.takes(validate, 1)):
        raise TypeError(f"`validate` must be a function such as train.evaluator returns; got {type(validate).__name__}")
    if validate is None:
        if patience is not None or monitor != "loss" or better is not None:
            raise ValueError("`patience`, `monitor` and `better` need `validate`, which gives the number")
        return None
    return Best.by(monitor, better)


def _ended(run, total, best, patience):
    """Why nothing is left to do; None where something is."""
    if run.stopped:
        return Ended("by a callback")
    if patience and run.history and len(run.history) - 1 - (best.of(run.history) or 0) >= patience:
        return Ended(f"since no row was better than one {patience} before", ", or this one more `patience`")
    if run.position >= total:
        return Ended(f"after {run.position} steps of {total}", ", or this one more `epochs`")
    return None


def _add(sums, more):
    return more if sums is None else jax.tree.map(np.add, sums, more)


def _numbers(run, params, validate, best):
    """What is in a row beside its place."""
    return numbers(run.sums) | _validated(params, validate, best)


def _close_row(run, row, best):
    """Adds a row to the history, and keeps the params if it is the best."""
    run = run._replace(sums=None, history=[*run.history, row])
    if best is not None and best.of(run.history) == len(run.history) - 1:
        run = run._replace(best=jax.tree.map(jnp.copy, run.state.params))
    return run


def _stopped(callbacks, so_far):
    """Whether a callback ends the run; all are called."""
    answers = [callback(so_far) for callback in callbacks]
    return any(map(_is_true, answers))


def _validated(params, validate, best):
    if validate is None:
        return {}
    given = validate(params)
    if not isinstance(given, Mapping):
        raise TypeError(f"`validate` must return a dict of numbers by name; got {type(given).__name__}")
    if best.monitor not in given:
        there = check.brief(", ".join(given))
        raise ValueError(f"`monitor` must be a number that `validate` gives: {there}; got {check.short(best.monitor)}")
    return {f"validation/{name}": float(value) for name, value in given.items()}


def _fitted(run):
    """The fit so far; its params stay the caller's when a step takes the state's buffers."""
    params = jax.tree.map(jnp.copy, run.state.params) if run.best is None else run.best
    return Fit(run.state, params, run.history)


def _sums_like(step, state, batch):
    """Sums of nothing, to tell their shapes."""
    _, report = jax.eval_shape(step, state, batch)
    return no_sums(report)


def _made_of(step, start, batch, placed, parts):
    return fingerprint(step, start, placed, batch if parts == 1 else None)


def _is_true(answer):
    return isinstance(answer, bool | np.bool_ | np.ndarray | jax.Array) and np.size(answer) == 1 and bool(answer)
