"""Precision, recall and F1, computed from counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Scores(NamedTuple):
    """Precision, recall and F1 = 2 P R / (P + R)."""

    precision: jax.Array
    recall: jax.Array
    f1: jax.Array


def scores(correct: jax.Array, predicted: jax.Array, actual: jax.Array) -> Scores:
    """Returns the scores for counts of one shape: correct, predicted and actual items; 0 where undefined."""
    correct, predicted, actual = (jnp.asarray(count).astype(float) for count in (correct, predicted, actual))
    return Scores(ratio(correct, predicted), ratio(correct, actual), ratio(2 * correct, predicted + actual))


def ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns a / b, or 0 where b is 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0.0)
