"""The reports of a run's steps: each looked at while the next step is computed, and added up in chunks."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.train._report import no_sums, sums
from jaxseq.train._step import Report, TrainState

CHUNK = 64
"""Reports that are added up at once."""


class NonFiniteError(FloatingPointError):
    """A loss, gradient or update was not finite, and was not made.

    To go on with other batches, give `state._replace(alive=jnp.ones_like(state.alive))`.

    Attributes:
      step: the number of the step, from 0, as `state.step` counts.
      epoch: its epoch, from 0.
      index: the number of the batch in the epoch, from 0.
      batch: the batch itself.
      state: the `TrainState` before it, but for the step's number and `alive`.
      report: the step's `Report`.
    """

    def __init__(self, message: str, step: int, epoch: int, index: int, batch: Any, state: TrainState, report: Report):
        super().__init__(message)
        self.step, self.epoch, self.index = step, epoch, index
        self.batch, self.state, self.report = batch, state, report


class Watch:
    """What the steps told since it was last taken.

    A step that stops the run leaves the state dead, so that the one after it, under way by then, changes nothing.
    """

    def __init__(self, epoch_size: int):
        self._epoch_size = epoch_size
        self._unseen = None
        self._reportable = False
        self._seen = []
        self._told = set()  # the names in aux that were NaN

    def add(self, position: int, batch: Any, report: Report, state: TrainState) -> None:
        """Takes the report of the step just started, and looks at that of the one before.

        Raises:
          NonFiniteError: that one was not finite, and the run has stopped; if it goes on, a warning is given.
          TypeError, ValueError: this is the first one, and no row can tell its aux.
        """
        before, self._unseen = self._unseen, (position, batch, report)
        if not self._reportable:
            no_sums(report)
            self._reportable = True
        self._look(before, state)

    def look(self, state: TrainState) -> None:
        """Looks at the last step, once it is there; raises as `add` does."""
        last, self._unseen = self._unseen, None
        self._look(last, state)

    def take(self, state: TrainState) -> dict[str, Any]:
        """Returns the sums over all steps since the last time; raises as `add` does."""
        self.look(state)
        seen, self._seen = self._seen, []
        return sums(seen)

    @property
    def full(self) -> bool:
        """Whether it is time to take."""
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
            if spoilt := _nan(report.aux) - self._told:
                self._told |= spoilt
                named = ", ".join(sorted(spoilt))
                warnings.warn(f"NaN {place} in {named}. The update was made.", RuntimeWarning, stacklevel=4)
            return
        message = f"not finite {place}: {_faults(state.params, report)}"
        if not np.all(state.alive):
            raise NonFiniteError(message, number, epoch, index, batch, state, report)
        warnings.warn(f"{message}. The update was left out.", RuntimeWarning, stacklevel=4)


def _nan(aux):
    """The names of what is NaN in aux; the sums of a metric over nothing are not, though their mean is."""
    leaves = jax.tree_util.tree_leaves_with_path(aux)
    floats = [(path, leaf) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return {f"aux{jax.tree_util.keystr(path)}" for path, leaf in floats if np.any(np.isnan(leaf))}


def _faults(params, report):
    """What was not finite, each by name: gradients, or where all of them were, what became of them."""
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
