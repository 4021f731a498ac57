"""Expectation maximisation (Dempster, Laird & Rubin 1977): improves params until the likelihood stops rising."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._promote import expand_rank


class Climb(NamedTuple):
    """The result of expectation maximisation."""

    params: Any
    log_likelihoods: jax.Array
    """`[1 + max_iterations]`: at the start, and after each iteration; the remaining entries repeat the last one."""
    iterations: jax.Array
    """Int: the number of iterations."""
    converged: jax.Array
    """Bool: whether the last iteration changed the log-likelihood by no more than the tolerance."""
    last: jax.Array
    """The log-likelihood of `params`."""


class _Run(NamedTuple):
    params: Any
    kept: Any  # the last params with a finite likelihood
    log_likelihoods: jax.Array
    last: jax.Array
    step: jax.Array
    converged: jax.Array
    is_over: jax.Array


def climb(improve: Callable, params: Any, max_iterations: int, tolerance: jax.Array) -> Climb:
    """Improves params until an iteration changes the log-likelihood by no more than `tolerance`.

    `improve(params)` returns the log-likelihood of `params`, and better params of the same dtypes. If the likelihood is
    not finite, the iteration stops, not converged, with the params before.
    """

    def iterate(run):
        value, better = improve(run.params)
        value = value.astype(run.last.dtype)
        converged = jnp.abs(value - run.last) <= tolerance
        is_finite = jnp.isfinite(value)
        is_over = converged | ~is_finite | (run.step == max_iterations)
        kept = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), run.params, run.kept)
        last = jnp.where(is_finite, value, run.last)
        values = jnp.where(jnp.arange(1 + max_iterations) < run.step, run.log_likelihoods, value)
        return _Run(better, kept, values, last, run.step + 1, converged, is_over)

    values = jnp.zeros(1 + max_iterations, jnp.result_type(*jax.tree.leaves(params)))
    false = jnp.asarray(False)
    run = _Run(params, params, values, jnp.asarray(-jnp.inf, values.dtype), jnp.asarray(0), false, false)
    run = _meshes.while_loop(lambda run: ~run.is_over, iterate, run)
    return Climb(run.kept, run.log_likelihoods, run.step - 1, run.converged, run.last)


def finished(fit: Any) -> Any:
    """Returns a fit with its `log_likelihoods` set to NaN after the last of its `iterations`.

    Call it outside of all compiled functions, since a compiled function that returns NaN fails under
    `jax_debug_nans`.
    """
    with jax.debug_nans(False):
        return fit._replace(log_likelihoods=_unused_as_nan(fit.log_likelihoods, fit.iterations))


@jax.jit
def _unused_as_nan(values, iterations):
    return jnp.where(expand_rank(jnp.arange(values.shape[-1]), values) <= iterations[..., None], values, jnp.nan)
