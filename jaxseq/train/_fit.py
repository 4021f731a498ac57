"""The training loop: epochs, history, validation, early stopping, checkpoints and handling of NaN.

A run with checkpoints that is killed at any moment and started again ends with exactly the bits of a run that was not
killed; see `_run`.
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
from jaxseq.train._run import Best, Checkpoints, Ended, Row, Run, checked, resume, store, warn_of_changes
from jaxseq.train._step import Report, TrainState
from jaxseq.train._watch import NonFiniteError, Watch
from jaxseq.typing import Params


class Fit(NamedTuple):
    """The result of a run, or its state so far.

    Attributes:
      state: the `TrainState` after the last step. What a loss keeps in its carry, such as running statistics of
        batches, belongs to this step and is in `state.carry`.
      params: the params of the best row, judged by `monitor`; without validation, those after the last step.
      history: the rows, each a dict of numbers.
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
    """Trains for a number of epochs; returns the last state, the best params and the history.

    The history gets a row every `every` steps, which covers the steps since the row before. A row is a dict of numbers:
    `"step"`, `"epoch"`, `"seconds"`, `"loss"`, `"gradient_norm"`, `"skipped"`, those of aux by their names, and those
    of `validate` as `"validation/<name>"`.

    Args:
      step: as `make_step` returns it.
      state: as `init` returns it. Its buffers are donated, so it cannot be used afterwards.
      batches: a loader of `jaxseq.data`, or a list of batches that is read in order in every epoch. A batch must not
        change while the next one is made.
      epochs: the total number of epochs, including those before a resume.
      every: steps per row. None: the steps of an epoch. The last row may cover fewer steps.
      validate: a function `params -> {name: number}`, called at each row; see `evaluator`.
      monitor: the number that decides which params are best: a name that `validate` returns, such as `"accuracy"`, or
        its name in the row, `"validation/accuracy"`.
      better: "lower" or "higher": which values of `monitor` are better. None: lower if `monitor` is the loss; otherwise
        you must say.
      patience: stops after so many rows without a better one. None: never stops early.
      callbacks: functions of the `Fit` so far, called after each row. If one returns True, the run ends.
      checkpoints: where to save the run. If the folder holds checkpoints, the run resumes from the newest whole one.
        It then warns if there is nothing left to do, or if that run was started with another loss, optimizer, learning
        rate, initial state or first batch; all of these but the initial state are taken from this call. An optimizer
        whose state has another structure is refused. Changes of later batches, `validate` and callbacks are not
        noticed: put what matters into `settings` of the checkpoints.
      sharding: how batches are split over the devices of a mesh, as in `data.prefetch`. None: JAX's default device.
        Arrays of the state that are not on that mesh are copied to all its devices. What `shard_state` split stays
        split. The carry is split as the batch is. If the mesh spans all processes of `jax.distributed`, each process
        must make the same call of `fit`; see `docs/scaling.md`.
      progress: whether to show progress on standard error: a bar, which needs tqdm, on a terminal; elsewhere, as in
        logs and notebooks, at most one line every ten seconds.

    Raises:
      NonFiniteError: a loss, gradient or update was not finite; the error names the step and the batch. A step made
        with `nonfinite="skip"` causes a warning instead, and the run continues without that update.
      ImportError: `progress` needs a bar, and tqdm is not installed.
      BlockingIOError: another run trains or saves in the folder of the checkpoints.
      OSError: a checkpoint cannot be written, for example because the disk is full; earlier checkpoints are kept.
      TypeError, ValueError: an argument does not fit; `validate` does not return the monitored number; or the
        checkpoints are of another run, with other shapes, an optimizer state of another structure, another number of
        batches per epoch, another monitor or other settings.
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
            f"`step` must be a step from make_step, (state, batch) -> (state, report); got {check.short(step)}"
        )
    if not isinstance(state, TrainState):
        raise TypeError(f"`state` must be a state from train.init; got {type(state).__name__}")
    check.representable(state, "state")
    if not isinstance(callbacks, Sequence) or not all(callable(callback) for callback in callbacks):
        raise TypeError(f"`callbacks` must be a list of functions of a Fit; got {check.short(callbacks)}")
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)):
        raise ValueError(
            "`state` was donated to an earlier step; use the state that this step returned, or call train.init again "
            "(with `checkpoints`, the run resumes from the last one)"
        )
    if not np.all(state.alive):
        raise ValueError(
            "`state` was stopped by a step that was not finite; to continue with it, pass "
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
            warn_of_changes(checkpoints, before, made_of, _ended(run, total, best, patience))
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
        except Exception:  # an earlier step that was not finite is reported first, whatever was raised since
            watch.look(run.state)
            raise
        finally:
            display.close()
    if best is not None and run.history and run.best is None:
        warnings.warn(
            f"{best.monitor!r} of `validate` was not finite in any row; the returned params are those of the last step",
            RuntimeWarning,
            stacklevel=2,
        )
    return _fitted(run)


def _best(validate, monitor, better, patience):
    """Returns the criterion for the best params, or None without validation."""
    if patience is not None:
        check.positive_int("patience", patience)
    if validate is not None and not (callable(validate) and check.takes(validate, 1)):
        raise TypeError(f"`validate` must be a function, as train.evaluator returns; got {type(validate).__name__}")
    if validate is None:
        if patience is not None or monitor != "loss" or better is not None:
            raise ValueError("`patience`, `monitor` and `better` need `validate`, which returns the monitored number")
        return None
    return Best.by(monitor, better)


def _ended(run, total, best, patience):
    """Returns why the run has nothing left to do, or None if it has."""
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
    """Returns the numbers of a row, except for step, epoch and seconds."""
    return numbers(run.sums) | _validated(params, validate, best)


def _close_row(run, row, best):
    """Returns the run with a new row; keeps the params if the row is the best."""
    run = run._replace(sums=None, history=[*run.history, row])
    if best is not None and best.of(run.history) == len(run.history) - 1:
        run = run._replace(best=jax.tree.map(jnp.copy, run.state.params))
    return run


def _stopped(callbacks, so_far):
    """Returns whether a callback ends the run; calls all of them."""
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
        raise ValueError(
            f"`monitor` must be a number that `validate` returns: {there}; got {check.short(best.monitor)}"
        )
    return {f"validation/{name}": float(value) for name, value in given.items()}


def _fitted(run):
    """Returns the fit so far. Params are copied where the next step would take their buffers."""
    params = jax.tree.map(jnp.copy, run.state.params) if run.best is None else run.best
    return Fit(run.state, params, run.history)


def _sums_like(step, state, batch):
    """Returns the shapes of a step's sums, without running the step."""
    _, report = jax.eval_shape(step, state, batch)
    return no_sums(report)


def _made_of(step, start, batch, placed, parts):
    return fingerprint(step, start, placed, batch if parts == 1 else None)


def _is_true(answer):
    return isinstance(answer, bool | np.bool_ | np.ndarray | jax.Array) and np.size(answer) == 1 and bool(answer)
