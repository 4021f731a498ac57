"""Looking from the past: the likelihood of observations, the filter and prediction (Kalman 1960)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.structured.kalman._given import enter, shown
from jaxseq.structured.kalman._messages import forward, stretches
from jaxseq.structured.kalman._model import Gaussians, Params, observe, whole


class Prediction(NamedTuple):
    """States and observations to come, `Gaussians` of `[steps, *B, Z]` and `[steps, *B, X]`."""

    states: Gaussians
    observations: Gaussians


def log_likelihood(
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Returns log p(x) `[*B]`; 0 where a row has no observation.

    Args:
      params: `Params`; what moves a state into a real step is the entry of that step, also past False steps.
      xs: `[T, *B, X]`, any number of batch axes, also none, in the dtype of `params`.
      mask: bool `[T, *B]`, True = real; a False step is as if it were not there.
      missing: bool, True where x is not seen while the state moves on: `[T, *B]` of all features of a step, or
        `[T, *B, X]` of each.
      parallel: scan over time in log T rounds (Särkkä & García-Fernández 2021), of more work; the numbers are the same.

    Raises:
      TypeError, ValueError: an argument does not fit the others, or `xs` hold NaN that neither `mask` nor `missing`
        tells of. Under `jax.jit` values are not looked at: there such a NaN makes the row's results NaN.

    >>> from jaxseq.structured import kalman
    >>> one = jnp.ones([1, 1])
    >>> level = kalman.Params(jnp.zeros(1), one, one, None, 0.1 * one, one, None, one)
    >>> print(f"{log_likelihood(level, jnp.array([[0.2], [0.4]])):.4f}")
    -2.4576
    """
    return _log_likelihood(*enter(params, xs, mask, missing, parallel), parallel)


def filter(
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> Gaussians:
    """Returns p(z_t | x_1 … x_t), `Gaussians` of `[T, *B, Z]`; zeros on False steps.

    Arguments as for `log_likelihood`.
    """
    return _filter(*enter(params, xs, mask, missing, parallel), parallel)


def predict(
    params: Params,
    xs: jax.Array,
    steps: int,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> Prediction:
    """Returns p(z_{T+k} | x) and p(x_{T+k} | x) for k = 1 … `steps`, T each row's last real step.

    Params that are given for each step have to go on: `[T-1 + steps, ...]` and `[T + steps, ...]`. A row's steps ahead
    come by the entries after the T of `xs`, wherever its last real step is. A row without a step is predicted from the
    start: its first state is the initial one. Arguments as for `log_likelihood`.
    """
    ahead = check.positive_int("steps", steps)
    return _predict(*enter(params, xs, mask, missing, parallel, ahead=ahead), ahead, parallel)


def _forward(model, steps, parallel):
    return forward(model, steps, stretches(model, steps) if parallel else None)


@functools.partial(jax.jit, static_argnums=2)
def _log_likelihood(model, steps, parallel):
    return jnp.sum(_forward(model, steps, parallel)[1], 0)


@functools.partial(jax.jit, static_argnums=2)
def _filter(model, steps, parallel):
    return shown(_forward(model, steps, parallel)[0], steps)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _predict(model, steps, ahead, parallel):
    """The filter on steps of which the last ones are not seen."""
    filtered, _ = _forward(model, steps, parallel)
    states, maps = jax.tree.map(
        lambda x: x[-ahead:], (whole(filtered), model._replace(initial_mean=None, initial_cov=None))
    )
    return Prediction(states, observe(maps, states))
