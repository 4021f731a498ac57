"""What makes a hidden Markov model: its chain, and an emission, the family of p(x_t | s_t)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxseq import check, masking


@jax.tree_util.register_static
class Emission(NamedTuple):
    """A family of distributions p(x_t | s_t): its functions, and nothing else. Static under `jax.jit`.

    Observations `xs` are an array, or a pytree of arrays, `[T, B, ...]`; params are a pytree of arrays that lead with
    K, the states. All arguments are passed by position. An emission is known by the identity of its functions: make it
    once.

    Attributes:
      init: `(key, states, xs, mask) -> params`: params to start EM from, drawn, for K = `states`, by what was observed
        on the True steps of `mask` `[T, B]`; None: on all.
      log_prob: `(params, xs) -> log p(x_t | s_t)` `[T, B, K]`.
      maximise: `(params, xs, weights) -> params`: those that maximise Σ_t Σ_k weights_t[k] log p(x_t | k), of weights
        `[T, B, K]` of at least 0, or at least raise it above that of the old ones, as a step of EM does. A state
        without weight keeps its params, and an observation without weight, NaN too, reaches nothing.
      sample: `(key, params, states) -> xs`, of states int `[T, B]`.
    """

    init: Callable[..., Any]
    log_prob: Callable[[Any, Any], jax.Array]
    maximise: Callable[[Any, Any, jax.Array], Any]
    sample: Callable[[jax.Array, Any, jax.Array], Any]


class Params(NamedTuple):
    """A model: log p(s_1) `[K]`, log p(s_t = j | s_{t-1} = i) at `[i, j]`, and the params of its emission."""

    log_initial: jax.Array
    log_transition: jax.Array
    emission: Any


def observe(
    emission: Emission, params: Any, xs: Any, *, mask: jax.Array | None = None, missing: jax.Array | None = None
) -> jax.Array:
    """Returns log p(x_t | s_t) `[T, B, K]`, the `log_obs` that inference takes: zeros where nothing was observed.

    Args:
      emission: such as `hmm.gaussian()`.
      params: of the emission, `Params.emission`.
      xs: `[T, B, ...]`, any number of batch axes, also none.
      mask: bool `[T, B]`, True = real; for inference, pass it there too, or the state moves on over False steps.
      missing: bool `[T, B]`, True where a step is real but was not observed: of NaN, `jnp.isnan(xs).any(-1)`. What
        stands in `xs` there, or on False steps, reaches neither a value nor a gradient.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq.structured import hmm
    >>> coins = hmm.CategoricalParams(jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])))
    >>> tosses = jnp.array([1, 0, -1])
    >>> log_obs = observe(hmm.categorical(2), coins, tosses, missing=tosses < 0)
    >>> (100 * jnp.exp(log_obs)).round().astype(int).tolist()  # in percent
    [[50, 10], [50, 90], [100, 100]]
    """
    is_emission(emission)
    if hasattr(params, "log_transition"):
        raise TypeError("`params` must be those of the emission; got those of a whole model: take `params.emission`")
    params, xs = check.as_jax((params, xs))
    steps = jax.eval_shape(emission.log_prob, params, xs).shape[:-1]
    seen = observed(check.flags("mask", mask, steps), check.flags("missing", missing, steps))
    return masking.keep(seen, emission.log_prob(params, masking.keep(seen, xs)))


def observed(mask: jax.Array | None, missing: jax.Array | None) -> jax.Array | None:
    """Returns bool `[T, B]`, True on steps that are real and were observed; None: all."""
    if missing is None:
        return mask
    return ~missing if mask is None else mask & ~missing


def is_emission(emission: Any) -> None:
    """Raises unless `emission` is an Emission."""
    if not isinstance(emission, Emission):
        hint = " Did you pass the factory itself? Call it: hmm.gaussian()." if callable(emission) else ""
        raise TypeError(f"`emission` must be an hmm.Emission; got {type(emission).__name__}.{hint}")


def steps_of(emission: Emission, states: int, xs: Any, params: Any = None) -> tuple[int, ...]:
    """Returns the steps `(T, *B)` of the observations; raises unless the emission's params are of `states` states."""

    def log_obs(key):
        return emission.log_prob(emission.init(key, states, xs, None) if params is None else params, xs)

    *steps, K = jax.eval_shape(log_obs, jax.random.key(0)).shape
    if states != K:
        raise ValueError(f"`params.emission` must be of `states` = {states} states; got {K}")
    return tuple(steps)
