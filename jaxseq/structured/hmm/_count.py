"""Fitting a hidden Markov model to known states, by counting."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import check, masking
from jaxseq.structured._steps import step_before
from jaxseq.structured.hmm.emissions import Emission, Params
from jaxseq.structured.hmm.emissions._emission import is_emission, observed, steps_of
from jaxseq.structured.hmm.emissions._rows import log_shares
from jaxseq.typing import AnyArray


def count(
    states: AnyArray, K: int, *, mask: AnyArray | None = None, pseudocount: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Estimates log p(s_1) `[K]` and log p(s_t = j | s_{t-1} = i) `[K, K]` from the counts of states and transitions.

    False steps are left out: the state before a step is that of the last real step before it. A row of the table
    without any count is uniform.

    Args:
      states: int `[T, B]`, ids in 0 … K-1, with any number of batch axes.
      K: the number of states.
      mask: bool `[T, B]`, True where a step is real; states on False steps are ignored.
      pseudocount: added to each count (additive smoothing); 0 gives the maximum likelihood estimate, 1 Laplace's.

    Raises:
      TypeError, ValueError: an argument does not fit, or an id is not in 0 … K-1; traced ids are not checked.

    >>> log_initial, log_transition = count(jnp.array([0, 0, 0, 1, 1]), 2, pseudocount=0)
    >>> (100 * jnp.exp(log_transition)).round().astype(int).tolist()  # in percent
    [[67, 33], [0, 100]]
    """
    K, pseudocount = check.positive_int("K", K), check.at_least_zero("pseudocount", pseudocount)
    states, mask = _labels(states, K, mask)
    if states.shape[0] == 0:
        starts, moves = jnp.zeros(K, int), jnp.zeros((K, K), int)
    else:
        last = step_before(mask)
        before = jnp.take_along_axis(states, jnp.maximum(last, 0), 0)
        starts = jnp.zeros(K, int).at[states].add((mask & (last < 0)).astype(int))
        moves = jnp.zeros((K, K), int).at[before, states].add((mask & (last >= 0)).astype(int))
    starts, moves = starts.astype(float), moves.astype(float)
    equal = -jnp.log(jnp.asarray(K, starts.dtype))
    return log_shares(starts + pseudocount, equal), log_shares(moves + pseudocount, equal)


def fit_supervised(
    emission: Emission,
    states: AnyArray,
    K: int,
    xs: Any,
    *,
    key: jax.Array,
    mask: AnyArray | None = None,
    missing: AnyArray | None = None,
    pseudocount: float = 1.0,
    iterations: int = 1,
) -> Params:
    """Fits a model to observations with known states: the chain by `count`, the emission by its M-step.

    The emission of each state is initialised from the observations of that state. A state without observations is
    initialised from all observations, and is not changed.

    Args:
      emission: such as `hmm.gaussian()`.
      states: int `[T, B]`, ids in 0 … K-1.
      K: the number of states.
      xs: observations `[T, B, ...]`.
      key: a random key for the initial emission.
      mask: bool `[T, B]`, True where a step is real.
      missing: bool `[T, B]` or `[T, B, D]`, as for `hmm.observe`.
      pseudocount: as for `count`.
      iterations: the number of M-steps. One is exact unless the emission has hidden parts: mixtures, and full
        covariances with missing features, need more.

    Raises:
      TypeError, ValueError: an argument does not fit, or `xs` hold NaN that no flag marks; traced arrays are not
        checked.
    """
    is_emission(emission)
    check.random_key(key)
    K, iterations = check.positive_int("K", K), check.positive_int("iterations", iterations)
    chain = count(states, K, mask=mask, pseudocount=pseudocount)
    states, mask = _labels(states, K, mask)
    xs = check.as_jax(xs, "xs")
    steps = steps_of(emission, K, xs)
    if steps != states.shape:
        raise ValueError(f"`xs` must have the steps of `states`, [T, B] = {states.shape}; got those of {steps}")
    xs, _, seen = observed(emission, steps, xs, mask, missing)
    emission_params = _of_states(emission, K, iterations, key, states, xs, seen)
    return Params(*chain, emission_params)


@functools.partial(jax.jit, static_argnames=("emission", "K", "iterations"))
def _of_states(emission, K, iterations, key, states, xs, seen):
    """Returns the params of an emission for known `states` on the True steps of `seen`."""
    own = jax.nn.one_hot(states, K, dtype=bool) & seen[..., None]

    def start(key, own):
        params = emission.init(key, 1, xs, jnp.where(jnp.any(own), own, seen))
        return jax.tree.map(lambda leaf: leaf[0], params)

    params = jax.vmap(start, in_axes=(0, -1))(jax.random.split(key, K), own)
    weights = own.astype(emission.log_prob(params, xs).dtype)
    return jax.lax.fori_loop(0, iterations, lambda _, params: emission.maximise(params, xs, weights), params)


def _labels(states, K, mask):
    """Returns the states, 0 on False steps, and the mask, all True if it is None."""
    states = check.integers("states", "T, B", states).astype(int)
    real = check.flags("mask", mask, states.shape)
    real = jnp.ones(states.shape, bool) if real is None else real
    states = masking.keep(real, states)
    if not isinstance(states, Tracer) and np.any((states < 0) | (states >= K)):
        raise ValueError(
            f"`states` must be ids in 0 … {K - 1}; got some from {jnp.min(states)} to {jnp.max(states)}. "
            "If padding such as -1 is among them, pass a mask."
        )
    return states, real
