"""Checks and sums of a run's reports: each report is checked while the next step is computed."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.train._report import no_sums, sums
from jaxseq.train._step import Report, TrainState

CHUNK = 64
"""The number of reports that are added up at once."""


class NonFiniteError(FloatingPointError):
    """A loss, gradient or update was not finite, and the update was not made.

    To continue with other batches, use `state._replace(alive=jnp.ones_like(state.alive))`.

    Attributes:
      step: the number of the step, from 0, as in `state.step`.
      epoch: the number of the epoch, from 0.
      index: the number of the batch in the epoch, from 0.
      batch: the batch.
      state: the `TrainState` before the step, except for its step number and `alive`.
      report: the `Report` of the step.
    """

    def __init__(self, message: str, step: int, epoch: int, index: int, batch: Any, state: TrainState, report: Report):
        super().__init__(message)
        self.step, self.epoch, self.index = step, epoch, index
        self.batch, self.state, self.report = batch, state, report


class Watch:
    """Collects the reports of steps, and checks that they are finite.

    A step that stops the run sets `alive` to False, so that the next step, which has already started, changes nothing.
    """

    def __init__(self, epoch_size: int):
        self._epoch_size = epoch_size
        self._unseen = None
        self._reportable = False
        self._seen = []
        self._warned = set()  # the names in aux for which a warning about NaN was given

    def add(self, position: int, batch: Any, report: Report, state: TrainState) -> None:
        """Takes the report of the step that has just started, and checks the report of the step before.

        Raises:
          NonFiniteError: the step before was not finite, and the run has stopped. If the run continues, it warns.
          TypeError, ValueError: this is the first report, and its aux cannot be put into a row.
        """
        before, self._unseen = self._unseen, (position, batch, report)
        if not self._reportable:
            no_sums(report)
            self._reportable = True
        self._look(before, state)

    def look(self, state: TrainState) -> None:
        """Waits for the last step and checks its report; raises as `add` does."""
        last, self._unseen = self._unseen, None
        self._look(last, state)

    def take(self, state: TrainState) -> dict[str, Any]:
        """Returns the sums over all steps since the last call; raises as `add` does."""
        self.look(state)
        seen, self._seen = self._seen, []
        return sums(seen)

    @property
    def full(self) -> bool:
        """Whether there are enough reports to call `take`."""
        return len(self._seen) >= CHUNK

    def _look(self, made, state):
        if made is None:
            return
        position, batch, report = made
        report = jax.tree.map(np.asarray, report)  # faster here than jax.device_get
        self._seen.append(report)
        number, (epoch, index) = int(np.max(report.step)), divmod(position, self._epoch_size)
        place = f"at step {number} (epoch {epoch}, batch {index})"
        if np.all(report.finite):
            if spoilt := _nan(report.aux) - self._warned:
                self._warned |= spoilt
                named = ", ".join(sorted(spoilt))
                warnings.warn(f"NaN {place} in {named}. The update was made.", RuntimeWarning, stacklevel=4)
            return
        message = f"not finite {place}: {_faults(state.params, report)}{_in_batch(batch) or _of_labels(batch, report)}"
        if not np.all(state.alive):
            raise NonFiniteError(message, number, epoch, index, batch, state, report)
        warnings.warn(f"{message}. The update was skipped.", RuntimeWarning, stacklevel=4)


def _nan(aux):
    """Returns the names of NaN leaves in aux. A metric over no steps has finite sums, though its mean is NaN."""
    leaves = jax.tree_util.tree_leaves_with_path(aux)
    floats = [(path, leaf) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return {f"aux{jax.tree_util.keystr(path)}" for path, leaf in floats if np.any(np.isnan(leaf))}


def _in_batch(batch):
    """Which arrays of the batch are not finite; of those that are split over processes nothing is said."""
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    here = [(path, leaf) for path, leaf in leaves if getattr(leaf, "is_fully_addressable", True)]
    floats = [(path, leaf) for path, leaf in here if jnp.issubdtype(getattr(leaf, "dtype", int), jnp.inexact)]
    names = [f"batch{jax.tree_util.keystr(path)}" for path, leaf in floats if not np.isfinite(np.asarray(leaf)).all()]
    return f"; NaN or infinity stands in {', '.join(names)}" if names else ""


def _of_labels(batch, report):
    """Asks for what makes a loss NaN whose gradient is finite: JAX gives NaN for a label that no class has."""
    leaves = jax.tree.leaves(batch)
    is_seen = all(getattr(leaf, "is_fully_addressable", True) for leaf in leaves)
    has_ints = any(jnp.issubdtype(getattr(leaf, "dtype", float), jnp.integer) for leaf in leaves)
    asks = is_seen and has_ints and np.isnan(report.loss).any() and np.isfinite(report.gradient_norm).all()
    return "; the batch is finite: does it have a label outside of the logits' classes?" if asks else ""


def _faults(params, report):
    """Returns in words what was not finite: gradients by name; or if all were finite, the new params and states."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    finite = np.asarray(report.finite_leaves).reshape(-1, len(paths)).T
    faulty = [f"params{path}" for path, fine in zip(paths, finite, strict=True) if not fine.all()]
    if np.all(np.isfinite(report.gradient_norm)):
        faulty = [f"the new {name}" for name in faulty]
        if not np.all(report.finite_optimizer):
            faulty = ["the optimizer's state", *faulty]
    if not np.all(report.finite_carry):
        faulty.append("the carry")
    seen = f"loss {np.asarray(report.loss)}, gradient norm {np.asarray(report.gradient_norm)}"
    return f"{seen}, in {', '.join(faulty)}" if faulty else seen
