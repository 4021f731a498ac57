"""The inputs of CTC: frames with zeros on padding, and labels as a row of states with blanks between them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq._promote import widen
from jaxseq.structured._indices import along_first


class Target(NamedTuple):
    """A row's labels with blanks before, between and after them: S = 2 L + 1 states. All `[*B, S]`, but `last`."""

    symbols: jax.Array  # int: the symbol that the state emits
    possible: jax.Array  # bool: False for padding and for ids that are not labels
    skips: jax.Array  # bool: the blank before may be skipped, since the label before it differs
    places: jax.Array  # int: the index of the label in the user's array; -1 for blanks
    last: jax.Array  # int [*B]: the state of the blank after the last label


def frames(log_probs: Any, mask: Any, blank: Any) -> tuple[jax.Array, jax.Array | None, int]:
    """Returns the checked arguments: log-probabilities in at least float32, zero on False frames; mask and blank."""
    log_probs = check.array("log_probs", "T, B, V", log_probs)
    if not jnp.issubdtype(log_probs.dtype, jnp.floating):
        raise TypeError(f"`log_probs` must be floating [T, B, V]; got {check.shaped(log_probs)}")
    if log_probs.ndim < 2 or log_probs.shape[-1] == 0:
        raise ValueError(f"`log_probs` must be [T, B, V], with at least the blank; got {check.shaped(log_probs)}")
    mask = check.flags("mask", mask, log_probs.shape[:-1])
    blank, V = check.natural("blank", blank), log_probs.shape[-1]
    if blank >= V:
        raise ValueError(f"`blank` must be one of the V = {V} symbols of `log_probs`, 0 to {V - 1}; got {blank}")
    return masking.keep(mask, log_probs.astype(widen(log_probs.dtype))), mask, blank


def target(labels: Any, label_mask: Any, log_probs: jax.Array, blank: int) -> Target:
    """Returns the states of labels int `[L, *B]`; the mask may leave out labels at any place."""
    labels = check.integers("labels", "L, B", labels)
    _, *batch, V = log_probs.shape
    if labels.shape[1:] != tuple(batch):
        hint = " Did you pass batch-major?" if labels.shape[:-1] == tuple(batch) else ""
        raise ValueError(
            f"`labels` must be int [L, B], with the batch {tuple(batch)} of `log_probs`; "
            f"got {check.shaped(labels)}.{hint}"
        )
    return _states(labels, check.flags("label_mask", label_mask, labels.shape, "L, B"), V, blank)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _states(labels, label_mask, V, blank):
    known = (labels >= 0) & (labels <= min(V - 1, jnp.iinfo(labels.dtype).max))
    labels = jnp.where(known, labels, 0).astype(jnp.int32)
    possible = known & (labels != blank)
    L, *batch = labels.shape
    place = places = along_first(labels.shape)
    counts = jnp.full(batch, L, jnp.int32)
    if label_mask is not None:
        places, counts = to_front(label_mask)
        labels, possible = (jnp.take_along_axis(x, places, 0) for x in (labels, possible))
        possible &= place < counts[None]

    labels, possible, places = (jnp.moveaxis(x, 0, -1) for x in (labels, possible, places))
    before = jnp.concatenate([labels[..., :1], labels[..., :-1]], -1)  # the first label equals itself: nothing to skip
    return Target(
        symbols=_between(blank, labels),
        possible=_between(True, possible),
        skips=_between(False, labels != before),
        places=_between(-1, places),
        last=2 * counts,
    )


def to_front(keep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the order int `[T, *B]` that moves True entries to the front, and their number `[*B]`."""
    return jnp.argsort(~keep, axis=0, stable=True).astype(jnp.int32), jnp.sum(keep, 0, dtype=jnp.int32)


def _between(fill, xs):
    """Returns `[*B, L]` with `fill` before, between and after its entries, `[*B, 2 L + 1]`."""
    xs = jnp.concatenate([xs, jnp.full((*xs.shape[:-1], 1), fill, xs.dtype)], -1)
    return jnp.stack([jnp.full_like(xs, fill), xs], -1).reshape(*xs.shape[:-1], 2 * xs.shape[-1])[..., :-1]
