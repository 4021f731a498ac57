"""Means over real steps, and metrics made from them: accuracy and perplexity."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq.train._elementwise import floating, ids, real, wide
from jaxseq.typing import AnyArray


class Mean(NamedTuple):
    """A sum and the number of its steps; bools are summed exactly, numbers in float32 at least."""

    total: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> jax.Array:
        """The mean; NaN if nothing was counted."""
        counted = self.count > 0
        total = jnp.asarray(self.total)
        total = total if jnp.issubdtype(total.dtype, jnp.inexact) else total.astype(float)
        return jnp.where(counted, total / jnp.where(counted, self.count, 1).astype(total.dtype), jnp.nan)


class Perplexity(NamedTuple):
    """The sum of negative log-likelihoods in nats, and the number of tokens."""

    total: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def value(self) -> jax.Array:
        """The perplexity, exp of the mean negative log-likelihood; NaN if nothing was counted."""
        return jnp.exp(Mean(*self).value)

    @property
    def bits(self) -> jax.Array:
        """Bits per token: log₂ of the perplexity."""
        return Mean(*self).value / math.log(2)


def mean(values: AnyArray, *, mask: AnyArray | None = None) -> Mean:
    """Returns the mean of the values on real steps.

    Args:
      values: `[...]`, such as a loss per step.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: `values` is not an array, or `mask` does not have its shape.
    """
    values = check.array("values", "...", values)
    real("values", values)
    mask = check.flags("mask", mask, values.shape, "...")
    dtype = None if values.dtype == bool else wide(values)
    return Mean(
        jnp.sum(masking.keep(mask, values), dtype=dtype), jnp.asarray(values.size) if mask is None else jnp.sum(mask)
    )


def accuracy(predicted: AnyArray, labels: AnyArray, *, mask: AnyArray | None = None) -> Mean:
    """Returns the fraction of steps whose prediction equals the label.

    Args:
      predicted: int `[...]`, such as `logits.argmax(-1)`.
      labels: int `[...]`.
      mask: bool `[...]`, True where a step is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.

    >>> from jaxseq.train import metrics
    >>> metrics.accuracy(jnp.array([1, 2, 0]), jnp.array([1, 1, 0]), mask=jnp.array([True, True, False]))
    Mean(total=Array(1, dtype=int32), count=Array(2, dtype=int32))
    """
    predicted, labels = ids(predicted=predicted, labels=labels)
    return mean(predicted == labels, mask=mask)


def perplexity(nll: AnyArray, *, mask: AnyArray | None = None) -> Perplexity:
    """Returns the perplexity of tokens with the given negative log-likelihoods.

    Args:
      nll: float `[...]`, in nats, such as `losses.cross_entropy(logits, labels)`.
      mask: bool `[...]`, True where a token is real.

    Raises:
      TypeError, ValueError: a dtype or a shape does not fit.
    """
    floating("nll", check.array("nll", "...", nll))
    return Perplexity(*mean(nll, mask=mask))
