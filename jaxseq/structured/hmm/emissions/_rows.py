"""What emissions share: observations as weighted rows, their moments, normalised counts, and initial rows."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq.typing import AnyArray

PRECISE = jax.lax.Precision.HIGHEST  # variances are small differences, which a GPU's low-precision products lose


class Start(NamedTuple):
    """Observations for initial values: rows `[N, D]`, weights 1 or 0 `[N, 1]`, their mean and variance `[D]`.

    Missing features are filled with their mean.
    """

    xs: jax.Array
    weights: jax.Array
    mean: jax.Array
    variance: jax.Array


def rows(xs: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns xs `[T, B, D]` as `[N, D]`, with zeros, even for NaN, in rows without weight; and weights `[N, K]`."""
    xs, weights = (x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) for x in (xs, weights))
    return jnp.where(jnp.any(weights > 0, -1, keepdims=True), xs, jnp.zeros((), xs.dtype)), weights


def rows_seen(
    xs: jax.Array, weights: jax.Array, seen: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns the result of `rows`, and which features are seen `[N, D]`, or None."""
    xs, weights = rows(xs, weights)
    return xs, weights, None if seen is None else seen.reshape(xs.shape)


def shares(weights: jax.Array, seen: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the sums of weights `[N, K]` over rows, `[K, 1]`, and each row's share of them, `[N, K, 1]`.

    With `seen`, bool `[N, D]`, they are separate for each feature, `[K, D]` and `[N, K, D]`.
    """
    each = weights[..., None] if seen is None else jnp.where(seen[:, None], weights[..., None], 0)
    total = jnp.sum(each, 0)
    return total, each / jnp.where(total > 0, total, 1)[None]


def means(xs: jax.Array, share: jax.Array) -> jax.Array:
    """Returns means `[K, D]` of xs `[N, D]`, with shares `[N, K, 1]` or `[N, K, D]`."""
    if share.shape[-1] == 1:
        return jnp.einsum("nk,nd->kd", share[..., 0], xs, precision=PRECISE)
    return jnp.einsum("nkd,nd->kd", share, xs, precision=PRECISE)


def variances(xs: jax.Array, share: jax.Array, mean: AnyArray) -> jax.Array:
    """Returns mean squares around the means `[K, D]`; arguments as for `means`."""
    return jnp.sum(share * jnp.square(xs[:, None] - mean[None]), 0)


def log_shares(counts: jax.Array, otherwise: AnyArray) -> jax.Array:
    """Returns log(counts / their sum) along the last axis, or `otherwise` where the sum is 0."""
    total = jnp.sum(counts, -1, keepdims=True)
    return jnp.where(total > 0, jnp.log(counts) - jnp.log(jnp.where(total > 0, total, 1)), otherwise)


def begin(xs: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns observations as rows `[N, D]`, and their weights `[N, 1]`, 1 or 0, from the mask."""
    steps = xs.shape[:-1]
    if math.prod(steps) == 0:
        raise ValueError(f"`xs` must hold at least one step; got {xs.dtype} {xs.shape}")
    mask = check.flags("mask", mask, steps)
    dtype = xs.dtype if jnp.issubdtype(xs.dtype, jnp.floating) else jnp.result_type(float)
    weights = jnp.ones(steps, dtype) if mask is None else mask.astype(dtype)
    return rows(xs, weights[..., None])


def start(xs: jax.Array, mask: jax.Array | None, seen: jax.Array | None) -> Start:
    """Returns data for initial values, from observations `[T, B, D]`; `seen` tells which features are seen."""
    flat, weights = begin(xs, mask)
    seen = None if seen is None else seen.reshape(flat.shape)
    _, share = shares(weights, seen)
    mean = means(flat, share)
    flat = flat if seen is None else jnp.where(seen, flat, mean)
    return Start(flat, weights, mean[0], variances(flat, share, mean)[0])


@functools.partial(jax.jit, static_argnames="count")
def spread(key: jax.Array, xs: jax.Array, log_weights: jax.Array, variance: jax.Array, count: int) -> jax.Array:
    """Draws rows far from each other, `[count, D]` (k-means++, Arthur and Vassilvitskii 2007).

    Rows are drawn one after another, with probability ∝ weight × squared distance to the nearest row so far. No row is
    drawn twice while others are left. Distances are in units of the standard deviation.

    Args:
      key: a random key.
      xs: `[N, D]`.
      log_weights: `[N]`; a row with -inf is never drawn.
      variance: `[D]`, where 0 counts as 1.
      count: the number of rows.
    """
    tiny = jnp.finfo(xs.dtype).tiny

    def draw(distance, key):
        far = jnp.log(jnp.where(jnp.isinf(distance), 1, distance) + tiny)
        row = xs[jnp.argmax(log_weights + far + jax.random.gumbel(key, far.shape, far.dtype))]
        return jnp.minimum(distance, squared_distance(xs, row, variance)), row

    return _meshes.scan(draw, jnp.full(len(xs), jnp.inf, xs.dtype), jax.random.split(key, count))[1]


def squared_distance(xs: jax.Array, row: jax.Array, variance: jax.Array) -> jax.Array:
    """Returns the squared distance `[N]` of xs `[N, D]` from a row `[D]`, in units of the standard deviation."""
    return jnp.sum(jnp.square(xs - row[None]) / jnp.where(variance > 0, variance, 1)[None], -1)
