"""Samples from a hidden Markov model: states, or states with observations."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq.masking import choose
from jaxseq.structured import _chain
from jaxseq.structured import _check as check_scores
from jaxseq.structured.hmm.emissions import Emission, Params
from jaxseq.structured.hmm.emissions._emission import is_emission, model
from jaxseq.typing import AnyArray, Shape


def sample(
    key: jax.Array, log_initial: AnyArray, log_transition: AnyArray, T: int, *, batch_shape: Shape = ()
) -> jax.Array:
    """Draws chains of states, int `[T, B]`; -1 from the first step on where no state is possible or one is NaN.

    Args:
      key: a random key.
      log_initial: log p(s_1) `[K]`.
      log_transition: log p(s_t = j | s_{t-1} = i) `[K, K]`, at `[i, j]`.
      T: the number of steps, at least 0.
      batch_shape: the batch axes B.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> in_a_circle = jnp.log(jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    >>> sample(jax.random.key(0), jnp.log(jnp.array([0.0, 1.0, 0.0])), in_a_circle, 4).tolist()
    [1, 2, 0, 1]
    """
    check.given_key(key)
    log_initial = check_scores.initial("log_initial", log_initial)
    log_transition = check_scores.states("log_transition", log_transition, log_initial, "K, K")
    T, batch = check.natural("T", T), check.shape("batch_shape", batch_shape)
    return _sample(key, log_initial, log_transition, T, batch)


@functools.partial(jax.jit, static_argnames=("T", "batch"))
def _sample(key, log_initial, log_transition, T, batch):
    def move(state, key):
        state = jnp.where(state < 0, -1, _chain.draw_states(key, log_transition[state], batch))
        return state, state

    key, key_first = jax.random.split(key)
    first = _chain.draw_states(key_first, log_initial, batch)
    _, later = _meshes.scan(move, first, jax.random.split(key, max(T - 1, 0)))
    return jnp.concatenate([first[None], later])[:T]


def simulate(
    key: jax.Array, emission: Emission, params: Params, T: int, *, batch_shape: Shape = ()
) -> tuple[jax.Array, Any]:
    """Draws states int `[T, B]` and observations `[T, B, ...]`; arguments as for `sample`, and an emission.

    >>> from jaxseq.structured import hmm
    >>> half = jnp.log(jnp.full((2, 2), 0.5))
    >>> emission = hmm.GaussianParams(mean=jnp.array([[0.0], [9.0]]), variance=jnp.ones((2, 1)))
    >>> params = hmm.Params(half[0], half, emission)
    >>> states, xs = simulate(jax.random.key(0), hmm.gaussian(), params, 100, batch_shape=(3,))
    >>> states.shape, xs.shape
    ((100, 3), (100, 3, 1))
    """
    is_emission(emission)
    check.given_key(key)
    params = model(params)
    key_states, key_xs = jax.random.split(key)
    states = sample(key_states, params.log_initial, params.log_transition, T, batch_shape=batch_shape)
    for leaf in jax.tree.leaves(params.emission):
        if jnp.shape(leaf)[:1] != params.log_initial.shape:
            raise ValueError(
                f"`params.emission` must have the K = {len(params.log_initial)} states of `params.log_initial` first; "
                f"got {check.shaped(leaf)}"
            )
    xs = emission.sample(key_xs, params.emission, jnp.maximum(states, 0))
    return states, jax.tree.map(functools.partial(_of_states, states), xs)


def _of_states(states, xs):
    """Returns observations `[T, B, ...]`, with NaN, or -1 for integers, where there is no state."""
    # An array of NaN would fail under `jax_debug_nans`, though none of it is taken.
    nothing = jnp.nan if jnp.issubdtype(xs.dtype, jnp.floating) else jnp.full_like(xs, -1)
    return choose(states >= 0, xs, nothing)
