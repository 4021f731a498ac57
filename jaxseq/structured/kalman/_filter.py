"""Looking from the past: the likelihood of observations, the filter and prediction (Kalman 1960)."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq.structured.kalman import _messages
from jaxseq.structured.kalman._model import Gaussians, Params, enter, initial, move, observe, shown, whole


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
      params: `Params`.
      xs: `[T, *B, X]`, any number of batch axes, also none, in the dtype of `params`.
      mask: bool `[T, *B]`, True = real; a False step is as if it were not there.
      missing: bool `[T, *B]`, True where x is not seen while the state moves on.
      parallel: scan over time in log T rounds (Särkkä & García-Fernández 2021), of more work; the numbers are the same.

    Raises:
      TypeError, ValueError: an argument does not fit the others.

    >>> from jaxseq.structured import kalman
    >>> one = jnp.ones([1, 1])
    >>> level = kalman.Params(jnp.zeros(1), one, one, None, 0.1 * one, one, None, one)
    >>> print(f"{log_likelihood(level, jnp.array([[0.2], [0.4]])):.4f}")
    -2.4576
    """
    params, steps = enter(params, xs, mask, missing)
    return jnp.sum(_messages.forward(params, steps, parallel=parallel)[1], 0)


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
    params, steps = enter(params, xs, mask, missing)
    return shown(_messages.forward(params, steps, parallel=parallel)[0], steps)


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

    A row without a step is predicted from the start: its first state is the initial one. Arguments as for
    `log_likelihood`.
    """
    ahead = check.positive_int("steps", steps)
    params, given = enter(params, xs, mask, missing)
    return _predict(params, given, ahead, bool(parallel))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _predict(params, given, ahead, parallel):
    filtered, _ = _messages.forward(params, given, parallel=parallel)
    last = jax.tree.map(lambda start, x: x[-1] if x.shape[0] else start, initial(params, given), filtered)
    begun = jnp.any(given.real, 0)

    def advance(before, k):
        after = masking.choose(begun | (k > 0), move(params, before), before)
        return after, after

    _, states = jax.lax.scan(advance, last, jnp.arange(ahead))
    states = whole(states)
    return Prediction(states, observe(params, states))
