"""Masks and resets. This module defines what they mean.

For a step that starts with carry c, where u is the projected input and c₀ the initial carry:

    s      = c₀ if reset else c            a new sequence starts at this step
    c', y' = step(s, u)
    c'     = c' if mask else s             on padding the carry is held
    y      = y' if mask else 0             and the output is zero

On padding the cell gets zeros as inputs and carry, and its results are dropped: a NaN there reaches neither a value nor
a gradient. If you write a cell, it must be finite, with finite derivatives, for x and carry of zeros.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import _meshes, check
from jaxseq._around import Augmented, around
from jaxseq._factory import factory
from jaxseq.typing import Cell


def lengths_to_mask(lengths: jax.typing.ArrayLike, T: int) -> jax.Array:
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


def last_valid(ys: jax.Array, mask: jax.Array) -> jax.Array:
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
    return jnp.sum(_where(last[None] == steps, ys, jnp.zeros_like(ys)), axis=0)


def reset_before_step(reset: jax.Array, reverse: bool) -> jax.Array:
    """Returns the flags at the step before which they act, in the direction of processing.

    A reset at t means that a sequence starts at t. A backward run crosses this border from t to t - 1, so the flag acts
    before step t - 1, and `reset[0]` has no effect.
    """
    if not reverse:
        return reset
    shift = [(-1, 1, 0)] + [(0, 0, 0)] * (reset.ndim - 1)
    return _meshes.alike(lambda reset: jax.lax.pad(reset, False, shift), reset)


@factory
def masked(cell: Cell) -> Cell:
    """Returns `cell` under masks and resets, for a kernel to run.

    Its params are `Augmented(params, initial)`, where `initial` is the carry after a reset. Its xs are
    `Augmented(xs, (mask, reset))`, bool `[T, B]` each; None means no mask or no reset. Its carry is the cell's. `reset`
    acts before the step at its index, in the direction of processing (see `reset_before_step`).
    """

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        return Augmented(params, cell.carry(params))

    def carry(params, batch_shape=()):
        return cell.carry(params.value, batch_shape)

    def restart(flags, params, xs):
        """Returns the initial carry at every step. Its gradient goes through `project`, and JAX sums it over steps."""
        _, reset = flags
        if reset is None:
            return None
        one = jax.eval_shape(lambda params: cell.carry(params, ()), params.value)
        return jax.tree.map(lambda c, leaf: _over_time(reset, c, c.ndim - leaf.ndim), params.extra, one)

    def start(flags, restart, carry):
        _, reset = flags
        return carry if reset is None else choose(reset, restart, carry)

    def enter(flags, restart, carry):
        return keep(flags[0], start(flags, restart, carry))

    def leave(flags, restart, before, new, y):
        mask, _ = flags
        if mask is None:
            return new, y
        return choose(mask, new, start(flags, restart, before)), keep(mask, y)

    def inputs(flags, xs):
        return keep(flags[0], xs)

    def element(flags, params, element):
        mask, reset = flags
        element = element if mask is None else element.hold(mask)
        return element if reset is None else element.restart(reset, params.extra)

    def read(flags, read, observed):
        return keep(flags[0], read(keep(flags[0], observed)))

    functions = {"enter": enter, "leave": leave, "inputs": inputs, "extra": restart, "element": element, "read": read}
    return around(cell, given="xs", init=init, carry=carry, **functions)


def _where(flags: jax.Array, on_true: jax.Array, on_false: Any) -> jax.Array:
    """Returns `jnp.where` of flags `[*lead]` and arrays `[*lead, ...]`."""
    return jnp.where(flags.reshape(flags.shape + (1,) * (on_true.ndim - flags.ndim)), on_true, on_false)


def choose(flags: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Returns the leaves of one pytree where the flags `[*lead]` are True, and of the other one elsewhere."""
    return jax.tree.map(functools.partial(_where, flags), on_true, on_false)


def keep(mask: jax.Array | None, tree: Any) -> Any:
    """Returns the pytree with zeros on padding. If the mask is None, all steps are real."""
    if mask is None:
        return tree
    return jax.tree.map(lambda x: _where(mask, x, jnp.zeros((), x.dtype)), tree)


def _over_time(reset, initial, batch_axes):
    """Broadcasts a leaf of the initial carry `[B, ...]` over the axes of `reset` before the batch."""
    lead = reset.shape[: reset.ndim - batch_axes]
    return jnp.broadcast_to(initial, lead + initial.shape)
