"""Inference in a hidden Markov model for given observations (Rabiner 1989), with any emissions.

    p(s, x) = p(s_1) p(x_1 | s_1) Π_t p(s_t | s_{t-1}) p(x_t | s_t)

All functions take log p(s_1) `[K]`; log p(s_t = j | s_{t-1} = i) at `[i, j]`; and log p(x_t | s_t) `[T, B, K]`, which
is all they need of the observations. A missing observation is a row of zeros in it: the state moves on unobserved.
Steps where the mask is False are left out: they have no emission and no transition.

Functions compute in the dtype of log p(x_t | s_t), or in float32 for 16-bit arrays. They have gradients of any order,
in forward and reverse mode.

NaN is neither searched for nor dropped. A result that depends on it is NaN, and states and draws of its row are -1.
Other rows are not affected.

All functions raise `ValueError` or `TypeError` if an argument does not fit the others.
"""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxseq import check, masking
from jaxseq._promote import widen
from jaxseq.structured import _chain, _partition, semiring
from jaxseq.structured import _check as check_scores
from jaxseq.structured._chain import Chain, Path
from jaxseq.typing import AnyArray


def log_likelihood(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> jax.Array:
    """Returns log p(x) `[B]`, in nats, by the forward algorithm; 0 for a row without steps, -inf if none is possible.

    Its gradients are posteriors: with respect to `log_obs` p(s_t | x), to `log_transition` the expected number of
    transitions, to `log_initial` p(s_1 | x).

    Args:
      log_initial: `[K]`.
      log_transition: `[K, K]`, from row to column; or one matrix for each step but the first, `[T-1, K, K]` or
        `[T-1, B, K, K]`.
      log_obs: `[T, B, K]`, with any number of batch axes.
      mask: bool `[T, B]`, True where a step is real.
      parallel: whether blocks of time run in parallel, see `jaxseq.structured.semiring`; the results are the same.

    >>> half = jnp.log(jnp.array([0.5, 0.5]))
    >>> stay = jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8]]))
    >>> log_obs = jnp.log(jnp.array([[0.5, 0.1], [0.4, 0.3]]))
    >>> print(f"{jnp.exp(log_likelihood(half, stay, log_obs)):.4f}")
    0.1135
    """
    chain, mask = _enter(log_initial, log_transition, log_obs, mask, parallel)
    return _partition.log_partition(chain, mask, parallel=parallel)


def filter(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> jax.Array:
    """Returns log p(s_t | x_1 … x_t) `[T, B, K]`; -inf on False steps. Arguments as for `log_likelihood`."""
    chain, mask = _enter(log_initial, log_transition, log_obs, mask, parallel)
    alphas = _chain.forward(semiring.log, chain, mask, parallel=parallel)[0].v
    return _chain.log_marginals(alphas, jnp.zeros_like(alphas), mask)


def smooth(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> jax.Array:
    """Returns log p(s_t | x) `[T, B, K]`; -inf on False steps. Arguments as for `log_likelihood`."""
    chain, mask = _enter(log_initial, log_transition, log_obs, mask, parallel)
    return _chain.log_marginals(*_chain.both_ways(chain, mask, parallel=parallel), mask)


def pairs(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> jax.Array:
    """Returns log p(s_{t-1}, s_t | x) `[T-1, B, K, K]`, at index t-1; -inf on False steps and a row's first real step.

    s_{t-1} is the state of the last real step before. Arguments as for `log_likelihood`.
    """
    chain, mask = _enter(log_initial, log_transition, log_obs, mask, parallel)
    return _chain.log_pairs(chain, *_chain.both_ways(chain, mask, parallel=parallel), mask)


def viterbi(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
    parallel: bool | NamedSharding = False,
) -> Path:
    """Returns the most probable path (Viterbi 1967) as `Path(states, score)`; ties go to the lower state.

    A row without steps has the score 0. If no path is possible, the score is -inf and the states are -1. Arguments as
    for `log_likelihood`.
    """
    chain, mask = _enter(log_initial, log_transition, log_obs, mask, parallel)
    return _chain.best(chain, mask, parallel=parallel)


def sample_posterior(
    key: jax.Array,
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    *,
    mask: AnyArray | None = None,
) -> jax.Array:
    """Draws paths from p(s | x), int `[T, B]`, by filtering forward and sampling backward; -1 on False steps.

    They are also -1 if no path is possible. `key` is a random key; for several draws, use `jax.vmap` over keys. Other
    arguments as for `log_likelihood`.
    """
    check.given_key(key)
    chain, mask = _enter(log_initial, log_transition, log_obs, mask)
    return _chain.draw(key, chain, mask)


def predict(
    log_initial: AnyArray,
    log_transition: AnyArray,
    log_obs: AnyArray,
    steps: int,
    *,
    mask: AnyArray | None = None,
) -> jax.Array:
    """Returns log p(s_{T+k} | x) for k = 1 … `steps`, `[steps, B, K]`; T is each row's last real step.

    For a row without steps, the first predicted state is the initial one. Arguments as for `log_likelihood`, with
    `log_transition` `[K, K]`.
    """
    steps = check.positive_int("steps", steps)
    chain, mask = _enter(log_initial, log_transition, log_obs, mask)
    if chain.transition.ndim != 2:
        raise ValueError(f"`log_transition` must be [K, K] for a prediction; got {check.shaped(chain.transition)}")
    ahead = jnp.zeros((steps, *chain.scores.shape[1:]), chain.scores.dtype)
    chain = chain._replace(scores=jnp.concatenate([chain.scores, ahead]))
    if mask is not None:
        mask = jnp.concatenate([mask, jnp.ones((steps, *mask.shape[1:]), bool)])
    alphas = _chain.forward(semiring.log, chain, mask)[0].v[-steps:]
    return _chain.log_marginals(alphas, jnp.zeros_like(alphas), None)


def _enter(log_initial, log_transition, log_obs, mask, parallel: bool | NamedSharding = False):
    """Returns the model and observations as a chain, and the mask, after checking all arguments."""
    log_obs = check_scores.scores("log_obs", log_obs)
    check_scores.same_states("log_obs", log_obs, log_initial=log_initial, log_transition=log_transition)
    mask = check_scores.real_steps(mask, log_obs, parallel)
    log_obs = masking.keep(mask, log_obs.astype(widen(log_obs.dtype)))
    chain = Chain(
        initial=check_scores.states("log_initial", log_initial, log_obs),
        transition=check_scores.transition("log_transition", log_transition, log_obs),
        scores=log_obs,
        final=jnp.zeros(log_obs.shape[-1], log_obs.dtype),
    )
    return chain, mask
