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
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._around import Augmented, around
from jaxseq._factory import factory
from jaxseq.typing import AnyArray, Cell

_Tree = TypeVar("_Tree")


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


def _where(flags: AnyArray, on_true: jax.Array, on_false: Any) -> jax.Array:
    """Returns `jnp.where` of flags `[*lead]` and arrays `[*lead, ...]`."""
    return jnp.where(flags.reshape(flags.shape + (1,) * (on_true.ndim - flags.ndim)), on_true, on_false)


def choose(flags: AnyArray, on_true: Any, on_false: Any) -> Any:
    """Returns the leaves of one pytree where the flags `[*lead]` are True, and of the other one elsewhere."""
    return jax.tree.map(functools.partial(_where, flags), on_true, on_false)


def keep(mask: AnyArray | None, tree: _Tree) -> _Tree:
    """Returns the pytree with zeros on padding. If the mask is None, all steps are real."""
    if mask is None:
        return tree
    return jax.tree.map(lambda x: _where(mask, x, jnp.zeros((), x.dtype)), tree)


def _over_time(reset, initial, batch_axes):
    """Broadcasts a leaf of the initial carry `[B, ...]` over the axes of `reset` before the batch."""
    lead = reset.shape[: reset.ndim - batch_axes]
    return jnp.broadcast_to(initial, lead + initial.shape)
