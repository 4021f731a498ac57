"""Looking back: states given all observations (Rauch, Tung & Striebel 1965)."""

import functools

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.structured.kalman import _messages
from jaxseq.structured.kalman._model import Gaussians, Params, Steps, enter, product, shown


def smooth(
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> Gaussians:
    """Returns p(z_t | x), `Gaussians` of `[T, *B, Z]`; zeros on False steps. Arguments as for `log_likelihood`."""
    params, steps = enter(params, xs, mask, missing)
    return shown(posterior(params, steps, parallel=parallel)[1], steps)


def pairs(
    params: Params,
    xs: jax.Array,
    *,
    mask: jax.Array | None = None,
    missing: jax.Array | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Returns Cov(z_{t-1}, z_t | x) `[T-1, *B, Z, Z]`, at index t-1; zeros on False steps and a row's first.

    The state before, in the rows, is that of the real step before. With the results of `smooth` this is
    p(z_{t-1}, z_t | x). Arguments as for `log_likelihood`.
    """
    params, steps = enter(params, xs, mask, missing)
    cross = posterior(params, steps, parallel=parallel)[2]
    return jnp.broadcast_to(cross, (cross.shape[0], *steps.xs.shape[1:-1], *cross.shape[-2:]))


@functools.partial(jax.jit, static_argnames="parallel")
def posterior(params: Params, steps: Steps, *, parallel: bool) -> tuple[jax.Array, Gaussians, jax.Array]:
    """Returns log p(x) `[*B]`, the smoothed states, held on False steps, and the covariances of `pairs`."""
    filtered, log_densities = _messages.forward(params, steps, parallel=parallel)
    later = _messages.backward(params, steps, parallel=parallel)
    smoothed = _messages.informed(filtered, later)
    # Given z_{t-1} and all x, z_t is W A z_{t-1} and what z_{t-1} has no part in, by step t and by what follows it.
    into, after = jax.tree.map(lambda x: x[1:], (_messages.stretches(params, steps), later.matrix))
    onto = product(_messages.weight(into.cov, after), into.transition)
    cross = product(smoothed.cov[:-1], onto.mT)
    return jnp.sum(log_densities, 0), smoothed, masking.keep((steps.real & steps.follows)[1:], cross)
