"""Masks and resets: the one place where their meaning is spelled out.

For a step that enters with carry c, with u the projected input and c₀ the initial carry:

    s      = c₀ if reset else c            a new sequence starts at this step
    c', y' = step(s, u)
    c'     = c' if mask else s             on padding the carry is held
    y      = y' if mask else 0             and nothing comes out

On padding the cell is handed zeros, inputs and carry, and what it makes of them is dropped: a NaN there reaches neither
a value nor a gradient. A cell of your own must be finite, with finite derivatives, where x and carry are zero.
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
    """Returns the mask `[T, B]` of sequences that are padded at the end: True on each one's first `lengths` steps.

    Args:
      lengths: int `[B]`, any number of axes. A length above T marks all T steps, one below 0 none.
      T: the number of steps.

    Raises:
      TypeError, ValueError: `lengths` are not integers, or beyond those of JAX; `T` is no int of at least 0.

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
    """Returns each row's output at its last True step, `[B, H]`; zeros where a row has none.

    Of a bidirectional net this is where the backward direction starts; what it has read stands in `ys` at a row's first
    step, and in its last carry.

    Args:
      ys: `[T, B, H]`.
      mask: bool `[T, B]`, of any pattern.

    Raises:
      TypeError, ValueError: `ys` are no array of at least 2 axes; `mask` is not bool, or not of their steps.
    """
    ys = check.array("ys", "T, B, H", ys)
    if ys.ndim < 2:
        raise ValueError(f"`ys` must be [T, B, H], of at least 2 axes; got {check.shaped(ys)}")
    if mask is None:
        raise TypeError("`mask` must be bool [T, B]; got None")
    mask = check.array("mask", "T, B", mask)
    check.flags("mask", mask, ys.shape[:-1])
    steps = jnp.arange(1, ys.shape[0] + 1).reshape(-1, *[1] * (mask.ndim - 1))
    last = jnp.max(jnp.where(mask, steps, 0), axis=0, initial=0)  # counted from 1; 0: no step at all
    return jnp.sum(_where(last[None] == steps, ys, jnp.zeros_like(ys)), axis=0)


def reset_before_step(reset: jax.Array, reverse: bool) -> jax.Array:
    """Returns the flags by the step that they act before, in the direction of processing.

    A reset at t says that a sequence starts there. Run backwards, the border is crossed from t to t - 1, so the flag
    acts before step t - 1, and `reset[0]` acts on nothing.
    """
    if not reverse:
        return reset
    shift = [(-1, 1, 0)] + [(0, 0, 0)] * (reset.ndim - 1)
    return _meshes.alike(lambda reset: jax.lax.pad(reset, False, shift), reset)


@factory
def masked(cell: Cell) -> Cell:
    """Returns `cell` under masks and resets, for a kernel to run.

    Its params are `Augmented(params, initial)`, with `initial` the carry that a reset puts in place; its xs are
    `Augmented(xs, (mask, reset))`, bool `[T, B]` each, None for no mask or no reset; its carry is the cell's. Here
    `reset` acts before the step it stands at in the direction of processing (see `reset_before_step`).
    """

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        return Augmented(params, cell.carry(params))

    def carry(params, batch_shape=()):
        return cell.carry(params.value, batch_shape)

    def restart(flags, params, xs):
        """The initial carry at every step, so that its gradient comes back through `project`, summed by JAX."""
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
    """`jnp.where` with flags that lead: `[*lead]` against arrays `[*lead, ...]`."""
    return jnp.where(flags.reshape(flags.shape + (1,) * (on_true.ndim - flags.ndim)), on_true, on_false)


def choose(flags: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Returns one pytree where the leading flags are True, the other one elsewhere."""
    return jax.tree.map(functools.partial(_where, flags), on_true, on_false)


def keep(mask: jax.Array | None, tree: Any) -> Any:
    """The pytree on real steps, zeros on padding; a mask of None is all real."""
    if mask is None:
        return tree
    return jax.tree.map(lambda x: _where(mask, x, jnp.zeros((), x.dtype)), tree)


def _over_time(reset, initial, batch_axes):
    """Broadcasts a leaf of the initial carry `[B, ...]` over the axes of `reset` that lead the batch."""
    lead = reset.shape[: reset.ndim - batch_axes]
    return jnp.broadcast_to(initial, lead + initial.shape)
