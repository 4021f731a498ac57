"""Inference from the past: likelihood, filtering and prediction (Kalman 1960)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.structured.kalman._given import as_results, enter
from jaxseq.structured.kalman._messages import forward, stretches
from jaxseq.structured.kalman._model import Gaussians, Params, observe, whole
from jaxseq.typing import AnyArray


class Prediction(NamedTuple):
    """Predicted states and observations, `Gaussians` of `[steps, *B, Z]` and `[steps, *B, X]`."""

    states: Gaussians
    observations: Gaussians


def log_likelihood(
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Returns log p(x) `[*B]`, in nats; 0 for a row without observations.

    Args:
      params: `Params`. If transitions are given for each step, a real step uses its own entry, also after False steps.
      xs: `[T, *B, X]`, with any number of batch axes, in the dtype of `params`.
      mask: bool `[T, *B]`, True where a step is real; False steps are left out.
      missing: bool, True where x is not observed while the state moves on: `[T, *B]` for all features of a step, or
        `[T, *B, X]` for single features.
      parallel: whether to scan over time in log T rounds (Särkkä & García-Fernández 2021). This takes more operations;
        the results are the same.

    Raises:
      TypeError, ValueError: an argument does not fit the others, or `xs` hold NaN that neither `mask` nor `missing`
        marks. Under `jax.jit` values are not checked, and such a NaN makes the results of its row NaN.

    >>> from jaxseq.structured import kalman
    >>> one = jnp.ones([1, 1])
    >>> level = kalman.Params(jnp.zeros(1), one, one, None, 0.1 * one, one, None, one)
    >>> print(f"{log_likelihood(level, jnp.array([[0.2], [0.4]])):.4f}")
    -2.4576
    """
    return _log_likelihood(*enter(params, xs, mask, missing, parallel), parallel)


def filter(
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> Gaussians:
    """Returns p(z_t | x_1 … x_t), `Gaussians` of `[T, *B, Z]`; zeros on False steps.

    Arguments as for `log_likelihood`.
    """
    return _filter(*enter(params, xs, mask, missing, parallel), parallel)


def predict(
    params: Params,
    xs: AnyArray,
    steps: int,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> Prediction:
    """Returns p(z_{T+k} | x) and p(x_{T+k} | x) for k = 1 … `steps`; T is each row's last real step.

    Params that are given for each step must cover the predicted steps too: `[T-1 + steps, ...]` and `[T + steps, ...]`.
    A row's predictions use the entries after the T of `xs`, wherever its last real step is. For a row without steps,
    the first predicted state is the initial one. Arguments as for `log_likelihood`.
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
    return as_results(_forward(model, steps, parallel)[0], steps)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _predict(model, steps, ahead, parallel):
    """Runs the filter on all steps and on the steps ahead, which are not observed."""
    filtered, _ = _forward(model, steps, parallel)
    states, maps = jax.tree.map(
        lambda x: x[-ahead:], (whole(filtered), model._replace(initial_mean=None, initial_cov=None))
    )
    return Prediction(states, observe(maps, states))
