"""Expectation maximisation (Dempster, Laird & Rubin 1977): better params by turns, till the likelihood gains little."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Climb(NamedTuple):
    """Where a climb ended, and how it went."""

    params: Any
    log_likelihoods: jax.Array
    """`[1 + max_iterations]`: at the start, and after each iteration; NaN after the last."""
    iterations: jax.Array
    """Int: how many were made."""
    converged: jax.Array
    """Bool: whether the last one gained no more than the tolerance."""
    last: jax.Array
    """The log-likelihood of `params`."""


class _Run(NamedTuple):
    params: Any
    kept: Any  # the last ones whose likelihood was finite
    log_likelihoods: jax.Array
    last: jax.Array
    step: jax.Array
    converged: jax.Array
    is_over: jax.Array


def climb(improve: Callable, params: Any, max_iterations: int, tolerance: jax.Array) -> Climb:
    """Climbs from `params`, until an iteration changes the log-likelihood by no more than `tolerance`.

    `improve(params)` returns their log-likelihood, and better params, of the same dtypes. Where the likelihood is not
    finite the climb ends, not converged, at the params before.
    """

    def iterate(run):
        value, better = improve(run.params)
        value = value.astype(run.last.dtype)
        converged = jnp.abs(value - run.last) <= tolerance
        is_finite = jnp.isfinite(value)
        is_over = converged | ~is_finite | (run.step == max_iterations)
        kept = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), run.params, run.kept)
        last = jnp.where(is_finite, value, run.last)
        values = run.log_likelihoods.at[run.step].set(value)
        return _Run(better, kept, values, last, run.step + 1, converged, is_over)

    nan = jnp.full(1 + max_iterations, jnp.nan, jnp.result_type(*jax.tree.leaves(params)))
    false = jnp.asarray(False)
    run = _Run(params, params, nan, jnp.asarray(-jnp.inf, nan.dtype), jnp.asarray(0), false, false)
    run = jax.lax.while_loop(lambda run: ~run.is_over, iterate, run)
    return Climb(run.kept, run.log_likelihoods, run.step - 1, run.converged, run.last)
