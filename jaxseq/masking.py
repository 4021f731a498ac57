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

from jaxseq import check
from jaxseq.typing import Backward, Cell


def lengths_to_mask(lengths: jax.typing.ArrayLike, T: int) -> jax.Array:
    """Returns the mask `[T, B]` of sequences that are padded at the end: True on each one's first `lengths` steps.

    Args:
      lengths: int `[B]`, any number of axes. A length above T marks all T steps, one below 0 none.
      T: the number of steps.

    Raises:
      TypeError: `lengths` are not integers.

    >>> lengths_to_mask([2, 0], 3).astype(int).tolist()
    [[1, 0], [1, 0], [0, 0]]
    """
    lengths = jnp.asarray(lengths)
    if lengths.size == 0:
        lengths = lengths.astype(int)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"`lengths` must be integers; got {lengths.dtype}")
    return jnp.arange(T).reshape(T, *[1] * lengths.ndim) < lengths


def last_valid(ys: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns each row's output at its last True step, `[B, H]`; zeros where a row has none.

    Of a bidirectional net this is where the backward direction starts; what it has read stands in `ys` at a row's first
    step, and in its last carry.

    Args:
      ys: `[T, B, H]`.
      mask: bool `[T, B]`, of any pattern.

    Raises:
      TypeError, ValueError: `mask` is not bool, or not of the steps of `ys`.
    """
    check.flags("mask", mask, ys.shape[:-1])
    steps = jnp.arange(1, ys.shape[0] + 1).reshape(-1, *[1] * (mask.ndim - 1))
    last = jnp.max(jnp.where(mask, steps, 0), axis=0, initial=0)  # counted from 1; 0: no step at all
    return jnp.sum(_where(last == steps, ys, jnp.zeros_like(ys)), axis=0)


def reset_before_step(reset: jax.Array, reverse: bool) -> jax.Array:
    """Returns the flags by the step that they act before, in the direction of processing.

    A reset at t says that a sequence starts there. Run backwards, the border is crossed from t to t - 1, so the flag
    acts before step t - 1, and `reset[0]` acts on nothing.
    """
    if not reverse:
        return reset
    return jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])


@functools.cache
def masked(cell: Cell) -> Cell:
    """Returns `cell` under masks and resets, for a kernel to run; its `Backward` is derived from the cell's.

    Its params are `(params, initial)`, with `initial` the carry that a reset puts in place; its xs are
    `(xs, mask, reset)`, bool `[T, B]` each, None for no mask or no reset; its carry is the cell's. Here `reset` acts
    before the step it stands at in the direction of processing (see `reset_before_step`).
    """

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        return params, cell.carry(params)

    def carry(params, batch_shape=()):
        return cell.carry(params[0], batch_shape)

    def project(params, xs):
        params, initial = params
        xs, mask, reset = xs
        us = cell.project(params, keep(mask, xs))
        if reset is None:
            return us, mask, None, None
        # The initial carry travels with us, so that its gradient comes back through `project`, summed by JAX.
        one = jax.eval_shape(lambda params: cell.carry(params, ()), params)
        restart = jax.tree.map(lambda c, leaf: _over_time(reset, c, c.ndim - leaf.ndim), initial, one)
        return us, mask, reset, restart

    def enter(carry, reset, restart):
        return carry if reset is None else choose(reset, restart, carry)

    def step(params, carry, u):
        u, mask, reset, restart = u
        start = enter(carry, reset, restart)
        carry, y = cell.step(params[0], keep(mask, start), u)
        return _hold(mask, carry, start), keep(mask, y)

    if cell.backward is None:
        return Cell(cell.size, init, carry, project, step)
    cell_fwd, cell_bwd, cell_collect, cell_project = cell.backward

    def fwd(params, carry, u):
        u, mask, reset, restart = u
        start = enter(carry, reset, restart)
        carry, y, saved = cell_fwd(params[0], keep(mask, start), u)
        return _hold(mask, carry, start), keep(mask, y), (saved, mask, reset)

    def bwd(params, saved, d_carry, d_y):
        saved, mask, reset = saved
        d_start, d_u = cell_bwd(params[0], saved, d_carry, d_y)
        d_start = _hold(mask, d_start, d_carry)
        d_u = keep(mask, d_u)
        if reset is None:
            return d_start, (d_u, None, None, None)
        zeros = jax.tree.map(jnp.zeros_like, d_start)
        return choose(reset, zeros, d_start), (d_u, None, None, choose(reset, d_start, zeros))

    def collect(params, saved, d_us):
        params, initial = params
        d_params = cell_collect(params, saved[0], d_us[0])
        return d_params, jax.tree.map(jnp.zeros_like, initial)

    backward = Backward(fwd, bwd, collect)
    if cell_project is not None:

        def project_back(params, xs, d_us):
            (params, initial), (xs, mask, reset) = params, xs
            d_params, d_xs = cell_project(params, keep(mask, xs), d_us[0])
            if reset is None:
                d_initial = jax.tree.map(jnp.zeros_like, initial)
            else:
                d_initial = jax.tree.map(lambda d, c: d.sum(range(d.ndim - c.ndim)), d_us[3], initial)
            return (d_params, d_initial), (keep(mask, d_xs), None, None)

        backward = backward._replace(project=project_back)
    direct = None if cell.direct is None else _direct(cell.direct)
    return Cell(cell.size, init, carry, project, step, backward, direct=direct)


def _direct(cell_direct):
    """The `direct` of a masked cell."""

    def direct(params):
        params, initial = params
        cell_step = cell_direct(params)

        def step(carry, x):
            x, mask, reset = x
            start = carry
            if reset is not None:  # the carry may have rows of `jax.vmap`, which the initial one has not
                start = choose(
                    reset, jax.tree.map(lambda c, like: jnp.broadcast_to(c, like.shape), initial, carry), carry
                )
            carry, y = cell_step(keep(mask, start), keep(mask, x))
            return _hold(mask, carry, start), keep(mask, y)

        return step

    return direct


def _where(flags: jax.Array, on_true: jax.Array, on_false: Any) -> jax.Array:
    """`jnp.where` with flags that lead: `[*lead]` against arrays `[*lead, ...]`."""
    return jnp.where(flags.reshape(flags.shape + (1,) * (on_true.ndim - flags.ndim)), on_true, on_false)


def choose(flags: jax.Array, on_true: Any, on_false: Any) -> Any:
    """Returns one pytree where the leading flags are True, the other one elsewhere."""
    return jax.tree.map(functools.partial(_where, flags), on_true, on_false)


def _hold(mask, new, old):
    """The new pytree on real steps, the old one on padding; a mask of None is all real."""
    return new if mask is None else choose(mask, new, old)


def keep(mask: jax.Array | None, tree: Any) -> Any:
    """The pytree on real steps, zeros on padding; a mask of None is all real."""
    if mask is None:
        return tree
    return jax.tree.map(lambda x: _where(mask, x, jnp.zeros((), x.dtype)), tree)


def _over_time(reset, initial, batch_axes):
    """Broadcasts a leaf of the initial carry `[B, ...]` over the axes of `reset` that lead the batch."""
    lead = reset.shape[: reset.ndim - batch_axes]
    return jnp.broadcast_to(initial, lead + initial.shape)
