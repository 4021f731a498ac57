"""What is told of many steps: their metrics, added up."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.train._step import Report
from jaxseq.train.metrics import Mean, compute


class Count(NamedTuple):
    """How often something was."""

    total: jax.Array

    @property
    def value(self) -> jax.Array:
        """The count."""
        return self.total


def as_metrics(aux: Any) -> dict[str, Any]:
    """Returns a loss's aux as metrics, which add up: a scalar becomes a mean of one.

    Raises:
      TypeError: aux is no dict of metrics and scalars, or of such dicts.
    """
    if not isinstance(aux, dict):
        raise TypeError(f"to be reported, aux must be a dict of metrics and scalars; got {type(aux).__name__}")
    return {name: _as_metric(name, value) for name, value in aux.items()}


def numbers(sums: Any) -> dict[str, float]:
    """The numbers of metrics that were added up, the loss first."""
    rest = {name: metric for name, metric in sums.items() if name != "loss"}
    return compute({"loss": sums["loss"], **rest})


def sums(report: Report) -> dict[str, Any]:
    """The metrics of one step; one that was skipped counts as that only, and an ensemble's members are added up."""
    if report.loss.ndim:
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(_sums)(report))
    return _sums(report)


def _sums(report):
    loss = Mean(report.loss * report.weight, report.weight)
    found = {"loss": loss, "gradient_norm": _as_metric("gradient_norm", report.gradient_norm), **as_metrics(report.aux)}
    found = jax.tree.map(lambda leaf: jnp.where(report.finite, leaf, jnp.zeros_like(leaf)), found)
    return {**found, "skipped": Count(jnp.where(report.finite, 0, 1))}


def _as_metric(name, value):
    if hasattr(value, "value"):
        return value
    if isinstance(value, dict):
        return as_metrics(value)
    if jnp.ndim(value):
        raise TypeError(
            f"to be reported, aux[{name!r}] must be a metric or a scalar; got {jnp.result_type(value)} "
            f"{jnp.shape(value)}. Reduce it: metrics.mean(values, mask)."
        )
    return Mean(jnp.asarray(value), jnp.ones_like(value))
