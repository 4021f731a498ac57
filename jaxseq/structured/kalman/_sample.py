"""Draws of states and observations."""

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq.structured.kalman._model import Params, checked, enter, times
from jaxseq.structured.kalman._smooth import posterior
from jaxseq.typing import Shape


def sample(key: jax.Array, params: Params, T: int, *, batch_shape: Shape = ()) -> tuple[jax.Array, jax.Array]:
    """Draws sequences: states `[T, *batch_shape, Z]`, and observations `[T, *batch_shape, X]`.

    Args:
      key: a key.
      params: `Params`.
      T: the number of steps.
      batch_shape: how many sequences, by axes.

    Raises:
      TypeError, ValueError: an argument is not what it should be.
    """
    check.given_key(key)
    params = checked(params)
    real = jnp.ones((check.natural("T", T), *check.shape("batch_shape", batch_shape)), bool)
    return _draw(key, params, jnp.cumsum(real, 0) > 1)


def sample_posterior(
    key: jax.Array,
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Draws states from p(z | x), `[T, *B, Z]`, zeros on False steps, by simulation smoothing (Durbin & Koopman 2002).

    States and observations are drawn from the model, and the states moved by E[z | x] - E[z | the x drawn]. Arguments
    as for `log_likelihood`; for several draws map over keys.
    """
    check.given_key(key)
    params, steps = enter(params, xs, mask, missing)
    states, drawn = _draw(key, params, jnp.broadcast_to(steps.real & steps.follows, xs.shape[:-1]))
    # The difference of two means is the mean of the differences, by the model without its constants.
    constants = ("initial_mean", "transition_bias", "observation_bias")
    centred = params._replace(**{name: jnp.zeros_like(getattr(params, name)) for name in constants})
    steps = steps._replace(xs=masking.keep(steps.observed, steps.xs - drawn))
    return masking.keep(steps.real, states + posterior(centred, steps, parallel=parallel)[1].mean)


@jax.jit
def _draw(key, params, moves):
    """States, held where `moves` `[T, *B]` is False, and observations."""
    keys = jax.random.split(key, 3)
    first = _normal(keys[0], params.initial_mean, params.initial_cov, moves.shape[1:])
    pushes = _normal(keys[1], params.transition_bias, params.transition_cov, moves.shape)

    def advance(before, step):
        moves, push = step
        after = masking.choose(moves, times(params.transition, before) + push, before)
        return after, after

    _, states = jax.lax.scan(advance, first, (moves, pushes))
    noise = _normal(keys[2], params.observation_bias, params.observation_cov, moves.shape)
    return states, times(params.observation, states) + noise


def _normal(key, mean, cov, shape):
    return jax.random.multivariate_normal(key, mean, cov, shape, mean.dtype, method="svd")  # cov may be singular
