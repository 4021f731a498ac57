"""Sums of the reports of many steps, and the numbers made from them."""

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
    """How often an event happened."""

    total: Any

    @property
    def value(self) -> jax.Array:
        """The count."""
        return self.total


def sums(reports: Sequence[Report]) -> dict[str, Any]:
    """Returns the metrics of several steps added up in float64 and int64; the reports must be on the host.

    A skipped step adds to the count of skipped steps only. An ensemble's members are added up too.

    Raises:
      TypeError, ValueError: aux is not a (nested) dict of metrics and scalars, or uses a name that rows reserve.
    """
    members = reports[0].loss.ndim  # 1 for an ensemble, else 0
    each = jax.tree.map(lambda *leaves: np.stack(leaves).reshape(-1, *leaves[0].shape[members:]), *reports)
    metrics = {
        "loss": Mean(each.loss * each.weight, each.weight),
        "gradient_norm": _as_metric("gradient_norm", each.gradient_norm, 1),
        **_as_metrics(each.aux, 1, taken=("step", "epoch", "seconds", "loss", "gradient_norm", "skipped")),
    }
    return {**jax.tree.map(lambda leaf: _total(leaf[each.finite]), metrics), "skipped": Count(_total(~each.finite))}


def no_sums(report: Any) -> dict[str, Any]:
    """Returns sums of zero with the shapes of a report; raises as `sums` does."""
    return sums([jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), report)])


def evaluation_sums(loss: Mean, aux: Any) -> dict[str, Any]:
    """Returns the metrics of one evaluation batch; raises as `sums` does."""
    return {"loss": loss, **_as_metrics(aux, 0, taken=("loss",))}


def numbers(sums: Any) -> dict[str, float]:
    """Returns the numbers of summed metrics, the loss first."""
    rest = {name: metric for name, metric in sums.items() if name != "loss"}
    return compute({"loss": sums["loss"], **rest})


def _total(leaf):
    """Returns the sum over the first axis, in NumPy's widest dtype of its kind."""
    return np.sum(leaf, axis=0, dtype=float if jnp.issubdtype(leaf.dtype, jnp.floating) else int)


def _as_metrics(aux, axes, taken=()):
    """Returns a loss's aux as metrics, which can be added up; its leaves start with `axes` axes of steps."""
    if not isinstance(aux, dict):
        raise TypeError(f"`aux` must be a dict of metrics and scalars to be reported; got {type(aux).__name__}")
    for name in taken:
        if name in aux:
            raise ValueError(f"`aux` must not use the name {name!r}, which every row has; choose another name")
    return {name: _as_metric(name, value, axes) for name, value in aux.items()}


def _as_metric(name, value, axes):
    """Returns a metric as it is, and a scalar as a mean over one step, which is added up in float32 at least."""
    if is_metric(value):
        return value
    if isinstance(value, dict):
        return _as_metrics(value, axes)
    value = value if hasattr(value, "dtype") else jnp.asarray(value)
    if value.ndim != axes:
        raise TypeError(
            f"`aux[{name!r}]` must be a metric or a scalar to be reported; got {value.dtype} {value.shape[axes:]}. "
            "Reduce it: metrics.mean(values, mask)."
        )
    ones: Any = jnp.ones_like(value, int) if axes == 0 else np.ones(value.shape, int)
    return Mean(value.astype(wide(value)), ones)
