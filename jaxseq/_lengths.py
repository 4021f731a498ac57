"""The mask of sequences with these lengths, and each sequence's last output."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxseq import check, masking
from jaxseq.typing import AnyArray


def lengths_to_mask(lengths: jax.typing.ArrayLike | Sequence[int], T: int) -> jax.Array:
    """Returns the mask `[T, B]` of sequences padded at the end. It is True on the first `lengths` steps of each.

    Args:
      lengths: int `[B]`, any number of axes. A length above T marks all T steps, one below 0 none.
      T: the number of steps.

    Raises:
      TypeError, ValueError: `lengths` are not integers, or larger than JAX's; `T` is not an int of at least 0.

    >>> lengths_to_mask([2, 0], 3).astype(int).tolist()
    [[1, 0], [1, 0], [0, 0]]
    """
    lengths = check.array_like("lengths", "B", lengths)
    if lengths.size == 0:
        lengths = lengths.astype(int)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"`lengths` must be integers; got {lengths.dtype}")
    return jnp.arange(check.natural("T", T)).reshape(T, *[1] * lengths.ndim) < lengths[None]


def last_valid(ys: AnyArray, mask: AnyArray) -> jax.Array:
    """Returns each row's output at its last True step, `[B, H]`, or zeros if a row has none.

    In a bidirectional net the backward direction starts at this step. Its summary of the whole sequence is in `ys` at a
    row's first step, and in the last carry.

    Args:
      ys: `[T, B, H]`.
      mask: bool `[T, B]`, of any pattern.

    Raises:
      TypeError, ValueError: `ys` is not an array of at least 2 axes; `mask` is not bool, or has not the steps of `ys`.
    """
    ys = check.array("ys", "T, B, H", ys)
    if ys.ndim < 2:
        raise ValueError(f"`ys` must be [T, B, H], of at least 2 axes; got {check.shaped(ys)}")
    if mask is None:
        raise TypeError("`mask` must be bool [T, B]; got None")
    mask = check.array("mask", "T, B", mask)
    check.flags("mask", mask, ys.shape[:-1])
    steps = jnp.arange(1, ys.shape[0] + 1).reshape(-1, *[1] * (mask.ndim - 1))
    last = jnp.max(jnp.where(mask, steps, 0), axis=0, initial=0)  # counted from 1; 0 means no step
    return jnp.sum(masking.choose(last[None] == steps, ys, jnp.zeros_like(ys)), axis=0)
