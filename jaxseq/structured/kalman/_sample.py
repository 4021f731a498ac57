"""Samples of states and observations."""

import functools

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check, masking
from jaxseq.structured.kalman._given import by_step, checked, enter, spread
from jaxseq.structured.kalman._model import Params, times
from jaxseq.structured.kalman._smooth import posterior
from jaxseq.typing import AnyArray, Shape


def sample(key: jax.Array, params: Params, T: int, *, batch_shape: Shape = ()) -> tuple[jax.Array, jax.Array]:
    """Draws sequences: states `[T, *batch_shape, Z]`, and observations `[T, *batch_shape, X]`.

    Args:
      key: a random key.
      params: `Params`; those that are given for each step must be for T steps, and for `batch_shape` if rows differ.
      T: the number of steps.
      batch_shape: the batch axes.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    check.given_key(key)
    T, batch_shape = check.natural("T", T), check.shape("batch_shape", batch_shape)
    return _sample(key, checked(params, T, batch_shape), T, batch_shape)


def sample_posterior(
    key: jax.Array,
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Draws states from p(z | x), `[T, *B, Z]`, zeros on False steps, by simulation smoothing (Durbin & Koopman 2002).

    States and observations are drawn from the model; then E[z | x] - E[z | drawn x] is added to the drawn states. `key`
    is a random key; for several draws, use `jax.vmap` over keys. Other arguments as for `log_likelihood`.
    """
    check.given_key(key)
    return _sample_posterior(key, *enter(params, xs, mask, missing, parallel), parallel)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _sample(key, given, T, batch_shape):
    moves = jnp.arange(T).reshape(T, *[1] * len(batch_shape)) > 0
    return _draw(key, spread(given, T, len(batch_shape)), jnp.broadcast_to(moves, (T, *batch_shape)))


@functools.partial(jax.jit, static_argnums=3)
def _sample_posterior(key, model, steps, parallel):
    states, drawn = _draw(key, model, jnp.broadcast_to(steps.moves, steps.xs.shape[:-1]))
    # The difference of two means is the smoothed mean of the differences x - drawn x in the model without constants.
    constants = ("initial_mean", "transition_bias", "observation_bias")
    centred = model._replace(**{name: jnp.zeros_like(getattr(model, name)) for name in constants})
    wrong = steps.xs - drawn
    steps = steps._replace(xs=wrong if steps.seen is None else jnp.where(steps.seen, wrong, 0))
    return masking.keep(steps.real, states + posterior(centred, steps, parallel)[1].mean)


def _draw(key, model, moves):
    """Returns drawn states, held where `moves` `[T, *B]` is False, and observations."""
    (T, *batch), (X, Z) = moves.shape, model.observation.shape[-2:]
    # One draw for all, because each separate draw would take longer to compile than all the rest.
    normal = jax.random.normal(key, (T + 1, *batch, Z + X), model.observation.dtype)
    first = times(_root(model.initial_cov), normal[0, ..., :Z]) + model.initial_mean.reshape(*[1] * len(batch), Z)
    pushes = times(_root(model.transition_cov), normal[1:, ..., :Z]) + model.transition_bias
    noise = times(_root(model.observation_cov), normal[1:, ..., Z:]) + model.observation_bias
    same, changing = by_step(model)

    def advance(before, step):
        moves, push, changed = step
        after = masking.choose(moves, times(same._replace(**changed).transition, before) + push, before)
        return after, after

    _, states = _meshes.scan(advance, first, (moves, pushes, changing))
    return states, times(model.observation, states) + noise


def _root(cov):
    """Returns R with R Rᵀ = cov, which may be singular."""
    u, s, _ = jnp.linalg.svd(cov)
    return u * jnp.sqrt(s)[..., None, :]
