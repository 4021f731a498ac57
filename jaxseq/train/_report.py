"""What is told of many steps: their metrics, added up."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.train._elementwise import wide
from jaxseq.train._step import Report
from jaxseq.train.metrics import Mean, compute


class Count(NamedTuple):
    """How often something was."""

    total: jax.Array

    @property
    def value(self) -> jax.Array:
        """The count."""
        return self.total


def sums(report: Report) -> dict[str, Any]:
    """The metrics of one step; one that was skipped counts as that only, and an ensemble's members are added up.

    Raises:
      TypeError, ValueError: aux is no dict of metrics, scalars and such dicts, or takes a name of a row's own.
    """
    if report.loss.ndim:
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(_sums)(report))
    return _sums(report)


def evaluation_sums(loss: Mean, aux: Any) -> dict[str, Any]:
    """The metrics of one batch of an evaluation; raises as `sums` does."""
    return {"loss": loss, **_as_metrics(aux, taken=("loss",))}


def numbers(sums: Any) -> dict[str, float]:
    """The numbers of metrics that were added up, the loss first."""
    rest = {name: metric for name, metric in sums.items() if name != "loss"}
    return compute({"loss": sums["loss"], **rest})


def _sums(report):
    found = {
        "loss": Mean(report.loss * report.weight, report.weight),
        "gradient_norm": _as_metric("gradient_norm", report.gradient_norm),
        **_as_metrics(report.aux, taken=("step", "epoch", "seconds", "loss", "gradient_norm", "skipped")),
    }
    found = jax.tree.map(lambda leaf: jnp.where(report.finite, leaf, jnp.zeros_like(leaf)), found)
    return {**found, "skipped": Count(jnp.where(report.finite, 0, 1))}


def _as_metrics(aux, taken=()):
    """A loss's aux as metrics, which add up."""
    if not isinstance(aux, dict):
        raise TypeError(f"to be reported, aux must be a dict of metrics and scalars; got {type(aux).__name__}")
    for name in taken:
        if name in aux:
            raise ValueError(f"aux must not name anything {name!r}, which is a row's own; choose another name")
    return {name: _as_metric(name, value) for name, value in aux.items()}


def _as_metric(name, value):
    """A scalar becomes a mean over one, which is added up in float32 at least."""
    if hasattr(value, "value"):
        return value
    if isinstance(value, dict):
        return _as_metrics(value)
    if jnp.ndim(value):
        raise TypeError(
            f"to be reported, aux[{name!r}] must be a metric or a scalar; got {jnp.result_type(value)} "
            f"{jnp.shape(value)}. Reduce it: metrics.mean(values, mask)."
        )
    value = jnp.asarray(value)
    return Mean(value.astype(wide(value)), jnp.ones((), int))
