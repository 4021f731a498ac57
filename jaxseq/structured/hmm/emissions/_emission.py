"""The parts of a hidden Markov model: its chain, and an emission, which is a family of distributions p(x_t | s_t)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq._factory import by_its_call
from jaxseq.structured._check import initial, no_nan, states
from jaxseq.structured.hmm.emissions._check import Partial
from jaxseq.typing import AnyArray, Shape


@jax.tree_util.register_static
@by_its_call
class Emission(NamedTuple):
    """A family of distributions p(x_t | s_t), given by its functions. Static under `jax.jit`.

    Observations `xs` are an array `[T, B, ...]` or a pytree of them. Params are a pytree of arrays whose first axis is
    K, the states. All arguments are passed by position. Emissions are compared by the identity of their functions, so
    make an emission once.

    Attributes:
      init: `(key, states, xs, mask) -> params`: random initial params for EM, for K = `states`, from the observations
        on the True steps of `mask` `[T, B]`; from all if it is None.
      log_prob: `(params, xs) -> log p(x_t | s_t)` `[T, B, K]`.
      maximise: `(params, xs, weights, learn=None) -> params`: the params that maximise Σ_t Σ_k weights_t[k] log p(x_t |
        k) for weights `[T, B, K]` of at least 0; or that increase it over the old params, as a step of EM does. A state
        without weight keeps its params, unless a prior decides. An observation without weight, even NaN, has no effect.
        `learn` holds the names of the params to learn; the others are kept. None: all. An emission whose `maximise`
        takes three arguments can only be learned as a whole.
      sample: `(key, params, states) -> xs`, for states int `[T, B]`.
      by_feature: whether features may be missing one by one. `xs` may then also be a NamedTuple `(xs, seen)` of arrays
        `[T, B, D]`, where `seen` is bool, and `xs` is zero where it is False. log p is that of the seen features.
    """

    init: Callable[..., Any]
    log_prob: Callable[[Any, Any], jax.Array]
    maximise: Callable[..., Any]
    sample: Callable[[jax.Array, Any, jax.Array], Any]
    by_feature: bool = False


class Params(NamedTuple):
    """A model: log p(s_1) `[K]`, log p(s_t = j | s_{t-1} = i) at `[i, j]`, and the params of its emission."""

    log_initial: AnyArray
    log_transition: AnyArray
    emission: Any


def observe(
    emission: Emission, params: Any, xs: Any, *, mask: AnyArray | None = None, missing: AnyArray | None = None
) -> jax.Array:
    """Returns log p(x_t | s_t) `[T, B, K]`, the `log_obs` of inference; zeros where nothing was observed.

    Args:
      emission: such as `hmm.gaussian()`.
      params: those of the emission, `Params.emission`.
      xs: observations `[T, B, ...]`, with any number of batch axes.
      mask: bool `[T, B]`, True where a step is real. Pass it to inference too; otherwise the state moves on over False
        steps.
      missing: bool `[T, B, D]`, True where a feature of a real step was not observed, such as `jnp.isnan(xs)`; log p is
        then that of the other features. Or bool `[T, B]`, True where nothing of a step was observed. Values of `xs`
        there, or on False steps, affect neither a result nor a gradient. Emissions that cannot leave features out take
        `[T, B]`, or one flag per step, `[T, B, 1]`.

    Raises:
      TypeError, ValueError: an argument does not fit, or `xs` hold NaN that no flag marks. Traced `xs` are not checked,
        and give NaN.

    >>> from jaxseq.structured import hmm
    >>> coins = hmm.CategoricalParams(jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]])))
    >>> tosses = jnp.array([1, 0, -1])
    >>> log_obs = observe(hmm.categorical(2), coins, tosses, missing=tosses < 0)
    >>> (100 * jnp.exp(log_obs)).round().astype(int).tolist()  # in percent
    [[50, 10], [50, 90], [100, 100]]
    """
    is_emission(emission)
    if hasattr(params, "log_transition"):
        raise TypeError("`params` must be those of the emission; got those of a whole model: pass `params.emission`")
    params, xs = check.as_jax((params, xs), ("params", "xs"))
    steps = jax.eval_shape(emission.log_prob, params, xs).shape[:-1]
    xs, _, seen = observed(emission, steps, xs, mask, missing)
    return masking.keep(seen, emission.log_prob(params, xs))


def observed(
    emission: Emission, steps: Shape, xs: Any, mask: Any, missing: Any
) -> tuple[Any, jax.Array | None, jax.Array | None]:
    """Returns observations in the emission's form, the mask, and which steps were observed, bool `[T, B]` or None.

    What was not observed is set to zero. Raises if flags do not fit, or if an observed value is NaN.
    """
    mask = check.flags("mask", mask, steps)
    missing, of_features = _missing(emission, steps, xs, missing)
    seen = mask if missing is None else ~missing if mask is None else mask & ~missing
    xs = masking.keep(seen, xs)
    if of_features is not None:
        seen_features = ~of_features if seen is None else ~of_features & seen[..., None]
        xs = Partial(jnp.where(seen_features, xs, jnp.zeros((), xs.dtype)), seen_features)
    no_nan("xs", xs)
    return xs, mask, seen


def _missing(emission, steps, xs, missing):
    """Returns which steps, and which features of steps, are missing; or None."""
    if missing is None or getattr(missing, "ndim", None) != len(steps) + 1:
        return check.flags("missing", missing, steps), None
    features = xs.shape[-1] if isinstance(xs, jax.Array) and xs.ndim > len(steps) else 1
    flags = check.flags("missing", missing, (*steps, features), "T, B, D")
    assert flags is not None
    if features == 1:
        return flags[..., 0], None
    if not emission.by_feature:
        raise ValueError(
            f"`missing` must be bool [T, B] = {steps}: this emission cannot leave out single features; "
            f"got {check.shaped(flags)}"
        )
    return jnp.all(flags, -1), flags


def is_emission(emission: Any) -> None:
    """Raises unless `emission` is an Emission."""
    if not isinstance(emission, Emission):
        hint = " Did you pass the factory itself? Call it: hmm.gaussian()." if callable(emission) else ""
        raise TypeError(f"`emission` must be an hmm.Emission; got {type(emission).__name__}.{hint}")


def model(params: Any, K: int | None = None) -> Params:
    """Returns a model of JAX arrays with K states, or any number if K is None; emission params are not checked."""
    if not isinstance(params, Params):
        raise TypeError(
            f"`params` must be hmm.Params(log_initial, log_transition, emission); got {type(params).__name__}"
        )
    log_initial = initial("params.log_initial", params.log_initial, K)
    log_transition = states("params.log_transition", params.log_transition, log_initial, "K, K")
    return Params(log_initial, log_transition, check.as_jax(params.emission, "params.emission"))


def steps_of(emission: Emission, states: int, xs: Any, params: Any = None) -> tuple[int, ...]:
    """Returns the steps `(T, *B)` of the observations; raises unless the emission's params have `states` states."""

    def log_obs(key):
        return emission.log_prob(emission.init(key, states, xs, None) if params is None else params, xs)

    *steps, K = jax.eval_shape(log_obs, jax.random.key(0)).shape
    if states != K:
        raise ValueError(f"`params.emission` must be of `states` = {states} states; got {K}")
    return tuple(steps)
