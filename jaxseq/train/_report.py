"""What is told of many steps: their metrics, added up."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.train._elementwise import wide
from jaxseq.train._step import Report
from jaxseq.train.metrics import Mean, compute
from jaxseq.train.metrics._compute import is_metric


class Count(NamedTuple):
    """How often something was."""

    total: Any

    @property
    def value(self) -> jax.Array:
        """The count."""
        return self.total


def sums(reports: Sequence[Report]) -> dict[str, Any]:
    """The metrics of several steps, whose reports are on the host, in float64 and int64.

    A step that was skipped counts as that only; an ensemble's members are added up.

    Raises:
      TypeError, ValueError: aux is no dict of metrics, scalars and such dicts, or takes a name of a row's own.
    """
    members = reports[0].loss.ndim  # one axis, or none
    each = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(-1, *leaves[0].shape[members:]), *reports)
    metrics = {
        "loss": Mean(each.loss * each.weight, each.weight),
        "gradient_norm": _as_metric("gradient_norm", each.gradient_norm, 1),
        **_as_metrics(each.aux, 1, taken=("step", "epoch", "seconds", "loss", "gradient_norm", "skipped")),
    }
    return {**jax.tree.map(lambda leaf: _total(leaf[each.finite]), metrics), "skipped": Count(_total(~each.finite))}


def no_sums(report: Any) -> dict[str, Any]:
    """The sums of nothing, of the shapes that a report has; raises as `sums` does."""
    return sums([jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), report)])


def evaluation_sums(loss: Mean, aux: Any) -> dict[str, Any]:
    """The metrics of one batch of an evaluation; raises as `sums` does."""
    return {"loss": loss, **_as_metrics(aux, 0, taken=("loss",))}


def numbers(sums: Any) -> dict[str, float]:
    """The numbers of metrics that were added up, the loss first."""
    rest = {name: metric for name, metric in sums.items() if name != "loss"}
    return compute({"loss": sums["loss"], **rest})


def _total(leaf):
    """The sum over the first axis, as wide as NumPy goes."""
    return np.sum(leaf, axis=0, dtype=float if jnp.issubdtype(leaf.dtype, jnp.floating) else int)


def _as_metrics(aux, axes, taken=()):
    """A loss's aux as metrics, which add up; its leaves lead with so many axes of steps."""
    if not isinstance(aux, dict):
        raise TypeError(f"to be reported, aux must be a dict of metrics and scalars; got {type(aux).__name__}")
    for name in taken:
        if name in aux:
            raise ValueError(f"aux must not name anything {name!r}, which is a row's own; choose another name")
    return {name: _as_metric(name, value, axes) for name, value in aux.items()}


def _as_metric(name, value, axes):
    """A scalar becomes a mean over one, which is added up in float32 at least."""
    if is_metric(value):
        return value
    if isinstance(value, dict):
        return _as_metrics(value, axes)
    value = value if hasattr(value, "dtype") else jnp.asarray(value)
    if value.ndim != axes:
        raise TypeError(
            f"to be reported, aux[{name!r}] must be a metric or a scalar; got {value.dtype} {value.shape[axes:]}. "
            "Reduce it: metrics.mean(values, mask)."
        )
    ones: Any = jnp.ones_like(value, int) if axes == 0 else np.ones(value.shape, int)
    return Mean(value.astype(wide(value)), ones)
