"""Pooling as a fold: what a pool keeps of the steps so far, and how the steps after them are added.

    value(merge(of(ys[:, :n]), of(ys[:, n:])))  =  value(of(ys))        for every n

    last       is there a real step?  y_n
    ends       last of ys, last of ys in reverse
    mean       n,  Σ y
    max        is there a real step?  max y
    attention  m = max s,  Σ e^(s - m),  Σ e^(s - m) y            (the online softmax: Milakov & Gimelshein 2018)

Here y_n is the last real step, n the number of real steps, and s the scores. Sums are float32 at least.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq._lengths import last_valid
from jaxseq._promote import widen
from jaxseq.masking import choose, keep

Mask = jax.Array | None


class Fold(NamedTuple):
    """A pool in parts.

    Attributes:
      of: `(ys [B, T, H], mask bool [B, T] or None) -> state`: what is kept of these steps, which may be none.
      merge: `(before, after) -> state`, of the steps of both, in this order.
      value: `state -> [B, F]`, the pooled vector; zeros if there was no real step.
    """

    of: Callable[[jax.Array, Mask], Any]
    merge: Callable[[Any, Any], Any]
    value: Callable[[Any], jax.Array]


def both(first: Fold, second: Fold) -> Fold:
    """Returns the fold that concatenates the vectors of two folds."""
    return Fold(
        lambda ys, mask: (first.of(ys, mask), second.of(ys, mask)),
        lambda before, after: (first.merge(before[0], after[0]), second.merge(before[1], after[1])),
        lambda state: jnp.concatenate([first.value(state[0]), second.value(state[1])], axis=-1),
    )


class Found(NamedTuple):
    """Whether a row has a real step, bool `[B]`, and what was found, `[B, H]`."""

    some: jax.Array
    value: jax.Array


def _last_of(ys, mask):
    if mask is None:
        last = jnp.sum(ys[..., -1:, :], axis=-2)  # zeros if T is 0
    else:
        last = last_valid(jnp.moveaxis(ys, -2, 0), jnp.moveaxis(mask, -1, 0))
    return Found(_some(ys, mask), last)


def _first_of(ys, mask):
    return _last_of(jnp.flip(ys, -2), None if mask is None else jnp.flip(mask, -1))


def _later(before, after):
    return Found(before.some | after.some, choose(after.some, after.value, before.value))


LAST = Fold(_last_of, _later, lambda state: state.value)
FIRST = Fold(_first_of, lambda before, after: _later(after, before), LAST.value)
ENDS = both(LAST, FIRST)


class Sum(NamedTuple):
    """The number of real steps, int32 `[B]`, and the sum of their outputs, `[B, H]`."""

    steps: jax.Array
    total: jax.Array


def _sum_of(ys, mask):
    return Sum(jnp.sum(_flags(ys, mask), axis=-1, dtype=jnp.int32), jnp.sum(_wide(keep(mask, ys)), axis=-2))


MEAN = Fold(
    _sum_of,
    lambda before, after: Sum(before.steps + after.steps, before.total + after.total),
    lambda state: state.total / jnp.maximum(state.steps, 1).astype(state.total.dtype)[..., None],
)


def _max_of(ys, mask):
    return Found(_some(ys, mask), jnp.max(ys, axis=-2, where=_flags(ys, mask)[..., None], initial=-jnp.inf))


MAX = Fold(
    _max_of,
    lambda before, after: Found(before.some | after.some, jnp.maximum(before.value, after.value)),
    lambda state: keep(state.some, state.value),
)


class Weighted(NamedTuple):
    """The greatest score `[B]`, and relative to it the sums of the weights `[B]` and the weighted outputs `[B, H]`."""

    greatest: jax.Array
    weights: jax.Array
    total: jax.Array


def weighted(ys: jax.Array, scores: jax.Array, mask: Mask) -> Weighted:
    """Returns the state of attention over outputs `[B, T, H]` with scores `[B, T]`."""
    scores = _wide(scores)
    greatest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, where=_flags(ys, mask), initial=-jnp.inf))
    weights = keep(mask, jnp.exp(keep(mask, scores - _finite(greatest)[..., None])))
    total = jnp.einsum(
        "...t,...th->...h", weights.astype(ys.dtype), keep(mask, ys), preferred_element_type=weights.dtype
    )
    return Weighted(greatest, jnp.sum(weights, axis=-1), total)


def _weighted_merge(before, after):
    greatest = jnp.maximum(before.greatest, after.greatest)
    old, new = (jnp.exp(part.greatest - _finite(greatest)) for part in (before, after))
    total = before.total * old[..., None] + after.total * new[..., None]
    return Weighted(greatest, before.weights * old + after.weights * new, total)


def _weighted_value(state):
    return state.total / jnp.where(state.weights == 0, 1, state.weights)[..., None]


def attention(scores: Callable[[jax.Array], jax.Array]) -> Fold:
    """Returns the fold that weights outputs `[B, T, H]` by the softmax of `scores(ys)`, `[B, T]`."""

    def of(ys, mask):
        ys = keep(mask, ys)
        return weighted(ys, scores(ys), mask)

    return Fold(of, _weighted_merge, _weighted_value)


def _finite(greatest):
    """Returns the greatest score, or 0 where there is none."""
    return jnp.where(jnp.isneginf(greatest), 0, greatest)


def _flags(ys, mask):
    return jnp.ones_like(ys[..., 0], bool) if mask is None else mask


def _some(ys, mask):
    return jnp.any(_flags(ys, mask), axis=-1)


def _wide(x):
    return x.astype(widen(x.dtype))
