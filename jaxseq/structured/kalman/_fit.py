"""Fitting of a linear-Gaussian state-space model by expectation maximisation (Shumway & Stoffer 1982).

The model is three linear-Gaussian maps, y = M u + c + N(0, V): one for a row's first state, with no input; one from
each state to the next; and one from states to observations. Let ⟨·⟩ be expectations given all x, summed over the n
steps of a map. An iteration sets

    [M c] ← [M c] + ⟨(y - M u - c) [u 1]ᵀ⟩ ⟨[u 1] [u 1]ᵀ⟩⁻¹          V ← ⟨(y - M u - c) (y - M u - c)ᵀ⟩ / n

with the new M and c in V. The likelihood never falls. If some features of an observation are seen, s, and some are
missing, m, the missing ones are replaced by expectations given z and the seen ones, with K = V_ms V_ss⁻¹:

    x_m | z, x_s ~ N(M_m z + c_m + K (x_s - M_s z - c_s), V_mm - K V_sm)

Params that are given for each step are kept. A matrix or bias whose noise is given for each step is kept too. If only
the bias (controls) is given for each step, the matrix is learned.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import check
from jaxseq.structured._climb import climb, finished
from jaxseq.structured.kalman._given import Steps, axes, enter, is_by_step
from jaxseq.structured.kalman._model import Gaussians, Model, Params, of_seen, product, symmetric, times, whole
from jaxseq.structured.kalman._smooth import posterior
from jaxseq.typing import AnyArray


class Fit(NamedTuple):
    """The result of `fit`."""

    params: Params
    log_likelihoods: jax.Array
    """`[1 + max_iterations]`, in nats, over all rows: at the start, and after each iteration; NaN after the last."""
    iterations: jax.Array
    """Int: the number of iterations."""
    converged: jax.Array
    """Bool: whether the last iteration changed the log-likelihood by no more than the tolerance."""


class _Map(NamedTuple):
    """A map y = matrix u + bias + N(0, cov); or flags that tell which of the three are learned."""

    matrix: Any
    bias: Any
    cov: Any


def fit(
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    learn: Sequence[str] | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    parallel: bool = False,
) -> Fit:
    """Fits a model to observations by expectation maximisation.

    A change of the states' coordinates does not change the likelihood. To give the states a meaning, keep some of the
    params fixed, such as `observation`. Params that the data do not determine are kept, for example the transition if
    all rows have one step.

    Args:
      params: the initial model.
      xs, mask, missing, parallel: as for `log_likelihood`.
      learn: the names of the params to learn; the others are kept. None: all that are not None and can be learned.
        A param that is given for each step cannot be learned, nor a matrix or bias whose noise is given so; for these,
        use the gradient of the likelihood.
      max_iterations: the greatest number of iterations.
      tolerance: the fit ends when an iteration changes the log-likelihood by no more than this, in nats per real step.

    Returns:
      `Fit(params, log_likelihoods, iterations, converged)`. If the likelihood is not finite, the fit ends there, not
      converged, with the params before.

    Raises:
      TypeError, ValueError: an argument does not fit the others, or nothing is observed; traced flags are not
        checked.
    """
    model, steps = enter(params, xs, mask, missing, parallel)
    learn = _names(learn, params)
    max_iterations = check.positive_int("max_iterations", max_iterations)
    tolerance = check.at_least_zero("tolerance", tolerance)
    seen = steps.real if steps.seen is None else steps.seen
    if steps.xs.size == 0 or not (isinstance(seen, Tracer) or np.any(seen)):
        raise ValueError(f"`xs` hold no observation to fit to: no step of {steps.xs.shape[:-1]} is real and observed")
    run = finished(_fit(learn, max_iterations, parallel, model, steps, tolerance))
    params = jax.tree.map(jnp.asarray, params)._replace(**run.params)
    return Fit(params, run.log_likelihoods, run.iterations, run.converged)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(learn, max_iterations, parallel, model, steps, tolerance):
    real = jnp.sum(jnp.broadcast_to(steps.real, steps.xs.shape[:-1]), dtype=steps.xs.dtype)

    def improve(model):
        value, smoothed, cross = posterior(model, steps, parallel)
        return jnp.sum(value), _maximised(model, steps, whole(smoothed), cross, learn)

    run = climb(improve, model, max_iterations, tolerance * real)
    learned = {name: getattr(run.params, name) for name in learn}
    return run._replace(params={name: x.reshape(x.shape[x.ndim - axes(name) :]) for name, x in learned.items()})


def _names(learn, params):
    there = [name for name, value in params._asdict().items() if value is not None]
    held = {name: why for name in there if (why := _why_held(name, params))}
    if learn is None:
        return tuple(name for name in there if name not in held)
    if isinstance(learn, str) or not isinstance(learn, Sequence):
        raise TypeError(f"`learn` must be a sequence of names of params, or None; got {learn!r}")
    for name in learn:
        if name not in there:
            raise ValueError(f"`learn` must hold names of params that are not None, {', '.join(there)}; got {name!r}")
        if name in held:
            raise ValueError(f"`learn` must hold names of params that are the same at all steps; {held[name]}")
    return tuple(learn)


def _why_held(name, params):
    if is_by_step(name, getattr(params, name)):
        return f"`params.{name}` is given for each step"
    noise = f"{name.split('_')[0]}_cov"
    if is_by_step(noise, getattr(params, noise)):
        return f"the noise of {name!r}, `params.{noise}`, is given for each step"
    return None


def _maximised(model: Model, steps: Steps, states: Gaussians, cross: jax.Array, learn: Sequence[str]) -> Model:
    """Returns the model that maximises the expected likelihood, given the posterior of the states."""
    Z = model.observation.shape[-1]
    lead = (1,) * (steps.xs.ndim - 1)
    start = _refit(
        _Map(
            jnp.zeros((*lead, Z, 0), steps.xs.dtype),
            model.initial_mean.reshape(*lead, Z),
            model.initial_cov.reshape(*lead, Z, Z),
        ),
        _Map(False, "initial_mean" in learn, "initial_cov" in learn),
        steps.real & ~steps.follows,
        states,
        Gaussians(states.mean[..., :0], states.cov[..., :0, :0]),
        states.cov[..., :0],
    )
    transition = _Map(model.transition, model.transition_bias, model.transition_cov)
    before, after = jax.tree.map(lambda x: x[:-1], states), jax.tree.map(lambda x: x[1:], states)
    later = _refit(
        jax.tree.map(lambda x: x if x.shape[0] == 1 else x[1:], transition),
        _Map(*(name in learn for name in ("transition", "transition_bias", "transition_cov"))),
        steps.moves[1:],
        after,
        before,
        cross.mT,
    )
    seen = _refit(
        _Map(model.observation, model.observation_bias, model.observation_cov),
        _Map(*(name in learn for name in ("observation", "observation_bias", "observation_cov"))),
        steps.observed,
        *_completed(model, steps, states),
    )
    new = Model(start.bias.reshape(Z), start.cov.reshape(Z, Z), *later, *seen)
    return model._replace(**{name: getattr(new, name) for name in learn})


def _completed(model: Model, steps: Steps, states: Gaussians) -> tuple[Gaussians, Gaussians, jax.Array]:
    """Returns the observations completed by expectation, the states, and the covariance of both."""
    seen, cov = steps.seen, model.observation_cov
    if seen is None or seen.shape[-1] == 1:
        X, Z = model.observation.shape[-2:]
        none = jnp.zeros((*[1] * (steps.xs.ndim - 1), X, X + Z), cov.dtype)
        return Gaussians(steps.xs, none[..., :X]), states, none[..., X:]
    known, hidden = of_seen(model, seen), ~seen
    across = jnp.where(hidden[..., :, None] & seen[..., None, :], cov, 0)
    gain = product(across, jnp.linalg.pinv(known.observation_cov, hermitian=True))
    matrix = jnp.where(hidden[..., None], model.observation, 0) - product(gain, known.observation)
    bias = jnp.where(hidden, model.observation_bias, 0) + times(gain, steps.xs - known.observation_bias)
    noise = jnp.where(hidden[..., :, None] & hidden[..., None, :], cov, 0) - product(gain, across.mT)
    shared = product(matrix, states.cov)
    mean = steps.xs + bias + times(matrix, states.mean)
    return Gaussians(mean, symmetric(noise + product(shared, matrix.mT))), states, shared


def _refit(present: _Map, learn: _Map, real: jax.Array, y: Gaussians, u: Gaussians, cross: jax.Array) -> _Map:
    """Returns the map that maximises the expected likelihood of y given u on real steps, with Cov(y, u) = cross."""
    if not any(learn):
        return present
    n, inputs = present.matrix.shape[-2:]
    lead = (1,) * (y.mean.ndim - 1)
    columns = np.array([*range(inputs)] * learn.matrix + [inputs] * learn.bias, int)
    real = jnp.broadcast_to(real, y.mean.shape[:-1])
    count = jnp.sum(real, dtype=y.mean.dtype)

    def total(x):
        return jnp.sum(jnp.where(real[..., None, None], x, 0), range(real.ndim))

    def outer(a, b):
        return a[..., :, None] * b[..., None, :]

    def wrong(matrix, bias):
        return y.mean - times(matrix, u.mean) - bias

    matrix, bias, cov = present
    if columns.size:
        v = jnp.concatenate([u.mean, jnp.ones_like(y.mean[..., :1])], -1)
        pull = total(outer(wrong(matrix, bias), v) + _grown(cross - product(matrix, u.cov), 0, 1))[:, columns]
        spread = total(outer(v, v) + _grown(u.cov, 1, 1))[np.ix_(columns, columns)]
        spread = jnp.where(count > 0, spread, jnp.eye(len(columns), dtype=spread.dtype))
        change = jnp.zeros((n, inputs + 1), pull.dtype).at[:, columns].set(jnp.linalg.solve(spread, pull.T).T)
        change = change.reshape(*lead, n, inputs + 1)
        matrix, bias = matrix + change[..., :inputs], bias + change[..., inputs]
    if learn.cov:
        off, shared = wrong(matrix, bias), product(matrix, cross.mT)
        left = total(outer(off, off) + y.cov - shared - shared.mT + product(matrix, u.cov, matrix.mT))
        cov = jnp.where(count > 0, (symmetric(left) / jnp.maximum(count, 1)).reshape(*lead, n, n), cov)
    return _Map(matrix, bias, cov)


def _grown(matrices, rows, columns):
    return jnp.pad(matrices, [(0, 0)] * (matrices.ndim - 2) + [(0, rows), (0, columns)])
