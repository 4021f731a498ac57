"""Smoothing: states given all observations (Rauch, Tung & Striebel 1965)."""

import functools

import jax
import jax.numpy as jnp

from jaxseq import masking
from jaxseq.structured.kalman._given import Steps, as_results, enter
from jaxseq.structured.kalman._messages import backward, forward, informed, stretches
from jaxseq.structured.kalman._model import Gaussians, Model, Params, product
from jaxseq.typing import AnyArray


def smooth(
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> Gaussians:
    """Returns p(z_t | x), `Gaussians` of `[T, *B, Z]`; zeros on False steps. Arguments as for `log_likelihood`."""
    return _smooth(*enter(params, xs, mask, missing, parallel), parallel)


def pairs(
    params: Params,
    xs: AnyArray,
    *,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    parallel: bool = False,
) -> jax.Array:
    """Returns Cov(z_{t-1}, z_t | x) `[T-1, *B, Z, Z]`, at index t-1; zeros on False steps and a row's first real step.

    The state z_{t-1}, in the rows, is that of the last real step before. Together with the results of `smooth` this
    gives p(z_{t-1}, z_t | x). Arguments as for `log_likelihood`.
    """
    return _pairs(*enter(params, xs, mask, missing, parallel), parallel)


def posterior(model: Model, steps: Steps, parallel: bool) -> tuple[jax.Array, Gaussians, jax.Array]:
    """Returns log p(x) `[*B]`, the smoothed states, held on False steps, and the covariances of `pairs`."""
    each = stretches(model, steps)
    filtered, log_densities = forward(model, steps, each if parallel else None)
    later, w = backward(each, parallel=parallel)
    smoothed = informed(filtered, later)
    # Given z_{t-1} and all x, z_t is W A z_{t-1} plus a term independent of z_{t-1}, from step t and its successors.
    onto = product(w, each.transition)[1:]
    cross = product(smoothed.cov[:-1], onto.mT)
    return jnp.sum(log_densities, 0), smoothed, masking.keep(steps.moves[1:], cross)


@functools.partial(jax.jit, static_argnums=2)
def _smooth(model, steps, parallel):
    return as_results(posterior(model, steps, parallel)[1], steps)


@functools.partial(jax.jit, static_argnums=2)
def _pairs(model, steps, parallel):
    cross = posterior(model, steps, parallel)[2]
    return jnp.broadcast_to(cross, (cross.shape[0], *steps.xs.shape[1:-1], *cross.shape[-2:]))
