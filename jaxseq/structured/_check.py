"""The errors of structured models: observations, and log-probabilities of states and transitions, that do not fit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding

from jaxseq import check


def scores(name: str, xs: Any) -> jax.Array:
    """Returns `[T, *B, K]`, floating."""
    xs = check.floating(name, "T, B, K", xs)
    if xs.ndim < 2 or xs.shape[-1] == 0:
        raise ValueError(f"`{name}` must be [T, B, K], with at least one state; got {check.shaped(xs)}")
    return xs


def same_states(name: str, xs: jax.Array, **params: Any) -> None:
    """Raises where the scores `xs` are not of as many states as the params, which all are of as many."""
    sizes = {value.shape[-1] for value in params.values() if isinstance(value, jax.Array | np.ndarray) and value.ndim}
    if len(sizes) == 1 and sizes != {xs.shape[-1]}:
        names = ", ".join(f"`{param}`" for param in params)
        raise ValueError(
            f"`{name}` must be [T, B, K] of the K = {sizes.pop()} states that {names} are for; got {check.shaped(xs)}"
        )


def real_steps(mask: Any, scores: jax.Array, parallel: Any = False) -> jax.Array | None:
    """Returns the mask, bool `[T, *B]`, or None, by which the first step is run apart from the others.

    Where that cannot be it is all True: where T is a symbol, as there may be no second step, and where `parallel`,
    which is checked here, splits the steps over devices.
    """
    check.parallel(parallel)
    steps = scores.shape[:-1]
    mask = check.flags("mask", mask, steps)
    is_whole = isinstance(steps[0], int) and not isinstance(parallel, NamedSharding)
    return mask if mask is not None or is_whole else jnp.ones(steps, bool)


def no_nan(name: str, xs: Any) -> None:
    """Raises where observations, zeros on steps that do not count, are not numbers; traced ones are not looked at."""
    for leaf in jax.tree.leaves(xs):
        if isinstance(leaf, Tracer) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        if np.any(np.isnan(leaf)):
            raise ValueError(
                f"`{name}` hold NaN on steps that are real and observed; say which are not: missing=, or mask="
            )


def states(name: str, values: Any, like: jax.Array, axes: str = "K") -> jax.Array:
    """Returns `[K]` or `[K, K]` in the dtype of the scores `like`."""
    values = check.real(name, axes, values)
    K = like.shape[-1]
    expected = tuple(K for _ in axes.split(","))
    if values.shape != expected:
        raise ValueError(f"`{name}` must be [{axes}] = {expected}; got {check.shaped(values)}")
    return values.astype(like.dtype)


def initial(name: str, values: Any, K: int | None = None) -> jax.Array:
    """Returns the scores `[K]` of a chain's first state, floating; of any K where it is None."""
    values = check.floating(name, "K", values)
    if values.ndim != 1 or values.size == 0 or K not in (None, len(values)):
        expected = "[K], with at least one state" if K is None else f"[K] = {(K,)}"
        raise ValueError(f"`{name}` must be {expected}; got {check.shaped(values)}")
    return values


def transition(name: str, values: Any, like: jax.Array) -> jax.Array:
    """Returns `[K, K]`, `[T-1, K, K]` or `[T-1, *B, K, K]` in the dtype of the scores `like`."""
    values = check.real(name, "K, K", values)
    T, *batch, K = like.shape
    steps = max(T - 1, 0)
    allowed = {(K, K), (steps, K, K), (steps, *batch, K, K)}
    if values.shape not in allowed:
        raise ValueError(
            f"`{name}` must be [K, K] = {(K, K)}, from row to column, or one for each step but the first, "
            f"[T-1, K, K] = {(steps, K, K)} or [T-1, B, K, K]; got {check.shaped(values)}"
        )
    return values.astype(like.dtype)
