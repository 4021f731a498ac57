"""Learning a linear-Gaussian state-space model by expectation maximisation (Shumway & Stoffer 1982).

The model is three linear-Gaussian maps, y = M u + c + N(0, V): onto a row's first state from nothing, onto the other
states from those before them, and onto observations from states. With ⟨·⟩ expectations given all x, summed over the n
steps that a map is for, an iteration sets

    [M c] ← [M c] + ⟨(y - M u - c) [u 1]ᵀ⟩ ⟨[u 1] [u 1]ᵀ⟩⁻¹          V ← ⟨(y - M u - c) (y - M u - c)ᵀ⟩ / n

with the new M and c in V. The likelihood never falls.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import check
from jaxseq.structured import _check as check_observed
from jaxseq.structured._climb import climb, finished
from jaxseq.structured.kalman._model import Gaussians, Params, Steps, enter, product, symmetric, times, whole
from jaxseq.structured.kalman._smooth import posterior


class Fit(NamedTuple):
    """What came of `fit`."""

    params: Params
    log_likelihoods: jax.Array
    """`[1 + max_iterations]`, in nats, of all rows: at the start, and after each iteration; NaN after the last."""
    iterations: jax.Array
    """Int: how many were made."""
    converged: jax.Array
    """Bool: whether the last one gained no more than the tolerance."""


class _Map(NamedTuple):
    """y = matrix u + bias + N(0, cov); or which of them are learned."""

    matrix: Any
    bias: Any
    cov: Any


def fit(
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    learn: Sequence[str] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    parallel: bool = False,
) -> Fit:
    """Fits a model to observations by expectation maximisation.

    A change of the states' coordinates changes no likelihood: what states should mean is said by holding some of the
    params, such as `observation`. What no step tells of stays, as the transition where all rows have one step.

    Args:
      params: the model to begin from.
      xs, mask, missing, parallel: as for `log_likelihood`.
      learn: the names of the params to learn, the others are held; None: all that are not None.
      max_iterations: the most to make.
      tolerance: stop when an iteration changes the log-likelihood by no more than this, in nats a real step.

    Returns:
      `Fit(params, log_likelihoods, iterations, converged)`. Where the likelihood is not a number, it ends there, not
      converged, at the params before.

    Raises:
      TypeError, ValueError: an argument does not fit the others, or nothing is observed; traced flags are not
        looked at.
    """
    given = params
    params, steps = enter(params, xs, mask, missing)
    learn = _names(learn, given)
    max_iterations = check.positive_int("max_iterations", max_iterations)
    tolerance = check.at_least_zero("tolerance", tolerance)
    if steps.xs.size == 0 or not (isinstance(steps.observed, Tracer) or jnp.any(steps.observed)):
        raise ValueError(f"there is nothing to fit to: of the steps {steps.xs.shape[:-1]} none is real and observed")
    check_observed.no_nan("xs", steps.xs)
    fitted = finished(_fit(learn, max_iterations, bool(parallel), params, steps, tolerance))
    none = {name: None for name, value in given._asdict().items() if value is None}
    return fitted._replace(params=fitted.params._replace(**none))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(learn, max_iterations, parallel, params, steps, tolerance):
    real = jnp.sum(jnp.broadcast_to(steps.real, steps.xs.shape[:-1]))

    def improve(params):
        value, smoothed, cross = posterior(params, steps, parallel=parallel)
        return jnp.sum(value), _maximised(params, steps, whole(smoothed), cross, learn)

    run = climb(improve, params, max_iterations, tolerance * real)
    return Fit(run.params, run.log_likelihoods, run.iterations, run.converged)


def _names(learn, params):
    there = [name for name, value in params._asdict().items() if value is not None]
    if learn is None:
        return tuple(there)
    if isinstance(learn, str) or not isinstance(learn, Sequence):
        raise TypeError(f"`learn` must be a sequence of names of params, or None; got {learn!r}")
    for name in learn:
        if name not in there:
            raise ValueError(f"`learn` must hold names of params that are not None, {', '.join(there)}; got {name!r}")
    return tuple(learn)


def _maximised(params: Params, steps: Steps, states: Gaussians, cross: jax.Array, learn: Sequence[str]) -> Params:
    """The params that are best where states are known as well as they are by the present ones."""
    (Z, X), dtype = params.observation.T.shape, steps.xs.dtype
    first = _refit(
        _Map(jnp.zeros((Z, 0), dtype), params.initial_mean, params.initial_cov),
        _Map(False, "initial_mean" in learn, "initial_cov" in learn),
        steps.real & ~steps.follows,
        states,
        Gaussians(states.mean[..., :0], states.cov[..., :0, :0]),
        states.cov[..., :0],
    )
    later = _refit(
        _Map(params.transition, params.transition_bias, params.transition_cov),
        _Map(*(name in learn for name in ("transition", "transition_bias", "transition_cov"))),
        (steps.real & steps.follows)[1:],
        Gaussians(states.mean[1:], states.cov[1:]),
        Gaussians(states.mean[:-1], states.cov[:-1]),
        cross.mT,
    )
    seen = _refit(
        _Map(params.observation, params.observation_bias, params.observation_cov),
        _Map(*(name in learn for name in ("observation", "observation_bias", "observation_cov"))),
        steps.observed,
        Gaussians(steps.xs, jnp.zeros((X, X), dtype)),
        states,
        jnp.zeros((X, Z), dtype),
    )
    return Params(first.bias, first.cov, *later, *seen)


def _refit(present: _Map, learn: _Map, real: jax.Array, y: Gaussians, u: Gaussians, cross: jax.Array) -> _Map:
    """The map that is best for y and u as they are known on real steps, with Cov(y, u)."""
    inputs = u.mean.shape[-1]
    columns = np.array([*range(inputs)] * learn.matrix + [inputs] * learn.bias, int)
    real = jnp.broadcast_to(real, y.mean.shape[:-1])
    count = jnp.sum(real)
    u = Gaussians(jnp.concatenate([u.mean, jnp.ones_like(y.mean[..., :1])], -1), _grown(u.cov, 1, 1))
    cross = _grown(cross, 0, 1)
    matrix = jnp.concatenate([present.matrix, present.bias[:, None]], 1)

    def total(x):
        return jnp.sum(jnp.where(real[..., None, None], x, 0), range(real.ndim))

    def outer(a, b):
        return a[..., :, None] * b[..., None, :]

    if columns.size:
        wrong = total(outer(y.mean - times(matrix, u.mean), u.mean) + cross - product(matrix, u.cov))[:, columns]
        spread = total(outer(u.mean, u.mean) + u.cov)[np.ix_(columns, columns)]
        spread = jnp.where(count > 0, spread, jnp.eye(len(columns), dtype=spread.dtype))
        matrix = matrix.at[:, columns].add(jnp.linalg.solve(spread, wrong.T).T)
    cov = present.cov
    if learn.cov:
        wrong, shared = y.mean - times(matrix, u.mean), product(matrix, cross.mT)
        left = total(outer(wrong, wrong) + y.cov - shared - shared.mT + product(matrix, u.cov, matrix.T))
        cov = jnp.where(count > 0, symmetric(left) / jnp.maximum(count, 1), cov)
    return _Map(matrix[:, :inputs], matrix[:, inputs], cov)


def _grown(matrices, rows, columns):
    return jnp.pad(matrices, [(0, 0)] * (matrices.ndim - 2) + [(0, rows), (0, columns)])
