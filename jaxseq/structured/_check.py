"""Checks of structured models: of observations, and of log-probabilities of states and transitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding

from jaxseq import check


def scores(name: str, xs: Any) -> jax.Array:
    """Returns scores `[T, *B, K]` after checking that they are floating."""
    xs = check.floating(name, "T, B, K", xs)
    if xs.ndim < 2 or xs.shape[-1] == 0:
        raise ValueError(f"`{name}` must be [T, B, K], with at least one state; got {check.shaped(xs)}")
    return xs


def same_states(name: str, xs: jax.Array, **params: Any) -> None:
    """Raises unless the scores `xs` are for as many states as the params."""
    sizes = {value.shape[-1] for value in params.values() if isinstance(value, jax.Array | np.ndarray) and value.ndim}
    if len(sizes) == 1 and sizes != {xs.shape[-1]}:
        names = ", ".join(f"`{param}`" for param in params)
        raise ValueError(
            f"`{name}` must be [T, B, K] with the K = {sizes.pop()} states of {names}; got {check.shaped(xs)}"
        )


def real_steps(mask: Any, scores: jax.Array, parallel: Any = False) -> jax.Array | None:
    """Returns the mask, bool `[T, *B]`, or None, with which the first step is run separately; checks `parallel` too.

    The first step cannot be separate if T is symbolic, as there may be no second step, or if `parallel` splits the
    steps over devices. Then the mask is all True instead of None.
    """
    check.parallel(parallel)
    steps = scores.shape[:-1]
    mask = check.flags("mask", mask, steps)
    is_whole = isinstance(steps[0], int) and not isinstance(parallel, NamedSharding)
    return mask if mask is not None or is_whole else jnp.ones(steps, bool)


def no_nan(name: str, xs: Any) -> None:
    """Raises if observations are NaN; unobserved steps must be zeros already. Traced arrays are not checked."""
    for leaf in jax.tree.leaves(xs):
        if isinstance(leaf, Tracer) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        if np.any(np.isnan(leaf)):
            raise ValueError(
                f"`{name}` hold NaN on steps that are real and observed; mark missing ones with missing= or mask="
            )


def states(name: str, values: Any, like: jax.Array, axes: str = "K") -> jax.Array:
    """Returns `[K]` or `[K, K]` in the dtype of the scores `like`, after checking the shape."""
    values = check.real(name, axes, values)
    K = like.shape[-1]
    expected = tuple(K for _ in axes.split(","))
    if values.shape != expected:
        raise ValueError(f"`{name}` must be [{axes}] = {expected}; got {check.shaped(values)}")
    return values.astype(like.dtype)


def initial(name: str, values: Any, K: int | None = None) -> jax.Array:
    """Returns the scores `[K]` of a chain's first state, floating; None for K allows any number of states."""
    values = check.floating(name, "K", values)
    if values.ndim != 1 or values.size == 0 or K not in (None, len(values)):
        expected = "[K], with at least one state" if K is None else f"[K] = {(K,)}"
        raise ValueError(f"`{name}` must be {expected}; got {check.shaped(values)}")
    return values


def transition(name: str, values: Any, like: jax.Array) -> jax.Array:
    """Returns `[K, K]`, `[T-1, K, K]` or `[T-1, *B, K, K]` in the dtype of the scores `like`, after checking it."""
    values = check.real(name, "K, K", values)
    T, *batch, K = like.shape
    steps = max(T - 1, 0)
    allowed = {(K, K), (steps, K, K), (steps, *batch, K, K)}
    if values.shape not in allowed:
        raise ValueError(
            f"`{name}` must be [K, K] = {(K, K)}, from row to column, or one matrix for each step but the first, "
            f"[T-1, K, K] = {(steps, K, K)} or [T-1, B, K, K]; got {check.shaped(values)}"
        )
    return values.astype(like.dtype)
