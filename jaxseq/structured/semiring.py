"""Sums over paths in a semiring (Goodman 1999; Mohri 2002): one recurrence, several algorithms.

    v_t = v_{t-1} ⊗ E_t            v_t[j] = ⊕_i v_{t-1}[i] ⊗ E_t[i, j]

Scores are logarithms, so ⊗ is +, its one is 0 and its zero -inf. ⊕ is log Σ exp, for the sum over all paths (the
forward algorithm), or max, for the best one (Viterbi). `run` is the recurrence over time, for any linear step
v ↦ v ⊗ E_t; each v_t is kept with its largest entry at 0, and what was taken off beside it, so that numbers stay exact
at any T.

In parallel, time is cut into about √T blocks. As E_1 ⊗ … ⊗ E_n is associative, each block's product is formed at once
with those of the others, by starting it from each of the K states; the blocks are put together, and then all run again
from what enters them. That takes 3 √T steps, and K + 1 times the work: it pays where K is small, or the machine wide.

Where time is split over the devices of a mesh, each device's stretch is a block: it forms the product of its own, one
exchange brings all of them, of K by K numbers a row, to all devices, and each runs its stretch from what enters it.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq import _meshes, check
from jaxseq._eager import eager


@jax.tree_util.register_static
class Semiring(NamedTuple):
    """`sum`: `(x, axis) -> ⊕ of x along the axis`; ⊗ is +, one 0, zero -inf."""

    sum: Callable[[jax.Array, int], jax.Array]


def log_sum(x: jax.Array, axis: int) -> jax.Array:
    """Returns log Σ exp x along an axis; -inf where all are, or where there is none, and the gradient there is 0.

    Where one is NaN it is NaN.
    """
    x = check.real("x", "...", x)
    _axes(axis, x)
    largest = jnp.max(x, axis, keepdims=True, initial=-jnp.inf)
    largest = jax.lax.stop_gradient(jnp.where(jnp.isneginf(largest), 0, largest))
    total = jnp.sum(jnp.exp(x - largest), axis)
    is_none = total == 0
    return jnp.where(is_none, -jnp.inf, jnp.log(jnp.where(is_none, 1, total)) + jnp.squeeze(largest, axis))


def _largest(x, axis):
    return jnp.max(x, axis, initial=-jnp.inf)


log = Semiring(log_sum)
maximum = Semiring(_largest)


class Messages(NamedTuple):
    """`v` `[T, *B, K]` after each step, its largest entry at 0; `[T, *B]`, what each step took off; and the last v."""

    v: jax.Array
    scale: jax.Array
    last: jax.Array


def scaled(v: jax.Array, axis: int | tuple[int, ...] = -1) -> tuple[jax.Array, jax.Array]:
    """Returns `v` with its largest entry along `axis` at 0, and that entry; -inf alone stays, and gives -inf."""
    v = check.real("v", "..., K", v)
    if any(v.shape[one] == 0 for one in _axes(axis, v)):
        raise ValueError(f"`v` must have an entry along `axis` {axis}; got {check.shaped(v)}")
    largest = jax.lax.stop_gradient(jnp.max(v, axis))
    return v - jnp.expand_dims(jnp.where(jnp.isneginf(largest), 0, largest), axis), largest


def run(
    semiring: Semiring,
    move: Callable[[jax.Array, Any], jax.Array],
    start: jax.Array,
    steps: Any,
    mask: jax.Array | None = None,
    *,
    reverse: bool = False,
    parallel: bool | NamedSharding = False,
) -> Messages:
    """Runs `v_t = move(v_{t-1}, steps[t])` over time.

    Args:
      semiring: `log` or `maximum`: that in which `move` is linear.
      move: `(v [*B, K], step) -> v`; it must take further axes of v in front of the batch's, and, in parallel, between
        the batch's and K, by `jax.vmap`.
      start: `v_0` `[*B, K]`.
      steps: a pytree of arrays `[T, ...]`; in parallel `[T, *B, ...]`, with 1s for batch axes where all rows are alike.
      mask: bool `[T, *B]`: on a False step v is held; None: all are real.
      reverse: run from the last step to the first; results stay in the order of `steps`.
      parallel: in blocks of time, side by side; a `NamedSharding(mesh, PartitionSpec(axis))` says how time is split
        over devices, whose number divides T.

    Returns:
      `Messages`, those of a False step held, and 0 taken off.

    Raises:
      TypeError, ValueError: an argument does not fit, or `move` does not return a v like the one it is given.
    """
    if not isinstance(semiring, Semiring):
        raise TypeError(f"`semiring` must be a Semiring, such as semiring.log; got {check.short(semiring)}")
    check.function_taking("move", move, 2)
    check.direction(reverse)
    check.parallel(parallel)
    start, steps = check.floating("start", "B, K", start), check.as_jax(steps, "steps")
    if start.ndim < 1 or start.shape[-1] == 0:
        raise ValueError(f"`start` must be [B, K], with at least one state; got {check.shaped(start)}")
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(steps)}
    if len(lengths) != 1 or lengths == {()}:
        shapes = check.short(jax.tree.map(check.shaped, steps))
        raise ValueError(f"`steps` must be arrays [T, ...], at least one, and all of one T; got {shapes}")
    mask = check.flags("mask", mask, (*lengths.pop(), *start.shape[:-1]))

    def compiled(start, steps, mask):
        return _run(semiring, move, start, steps, mask, reverse, parallel)

    return eager(compiled, start, steps, mask)


def _run(semiring, move, start, steps, mask, reverse, parallel):
    def body(v, step):
        mask, inputs = step
        new, scale = scaled(_moved(move, v, inputs))
        if mask is not None:
            new, scale = jnp.where(mask[..., None], new, v), jnp.where(mask, scale, 0)
        return new, (new, scale)

    T = jax.tree.leaves(steps)[0].shape[0]
    if isinstance(parallel, NamedSharding):
        return _in_stretches(parallel, semiring, move, body, start, steps, mask, T, reverse)
    if not parallel or T < 4:
        last, (v, scale) = _meshes.scan(body, start, (mask, steps), reverse=reverse)
        return Messages(v, scale, last)
    if reverse:
        steps, mask = jax.tree.map(lambda x: x[::-1], (steps, mask))
    v, scale = _in_blocks(semiring, move, body, start, steps, mask, T)
    return Messages(v[::-1], scale[::-1], v[-1]) if reverse else Messages(v, scale, v[-1])


def _moved(move, v, step):
    """What `move` returns, which is like v."""
    shapes = lambda: f"a v {check.shaped(v)} and a step of `steps`, {check.short(jax.tree.map(check.shaped, step))}"
    try:
        new = move(v, step)
    except Exception as error:  # a user's function, whatever it raises: it is told what it was given, and raised on
        error.add_note(f"`move` was given {shapes()}")
        raise
    if jnp.shape(new) != v.shape or jnp.result_type(new) != v.dtype:
        raise ValueError(f"`move` must return a v like that of `start`; of {shapes()}, it made {check.shaped(new)}")
    return new


def _axes(axis, x):
    """The axes as a tuple."""
    try:
        axes = tuple(map(operator.index, axis if isinstance(axis, tuple) else (axis,)))
    except TypeError:
        raise TypeError(f"`axis` must be an int, or a tuple of them; got {check.short(axis)}") from None
    if not all(-x.ndim <= one < x.ndim for one in axes):
        raise ValueError(f"`axis` must be one of the {x.ndim} axes of {check.shaped(x)}; got {check.short(axis)}")
    return axes


def _in_blocks(semiring, move, body, start, steps, mask, T):
    length = math.isqrt(T - 1) + 1
    count = -(-T // length)
    if count * length > T and mask is None:
        mask = jnp.ones((T, *start.shape[:-1]), bool)
    mask, steps = jax.tree.map(lambda x: _blocks(x, count, length), (mask, steps))

    products = _product(move, (count, *start.shape), start.dtype, (mask, steps))
    _, entering = _meshes.scan(_entering(semiring), start, products)
    _, messages = _meshes.scan(body, entering, (mask, steps))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(count * length, *x.shape[2:])[:T], messages)


def _in_stretches(sharding, semiring, move, body, start, steps, mask, T, reverse):
    """The messages of time that is split over devices, each with a stretch of it."""
    (axis, *_), mesh = sharding.spec, sharding.mesh
    if T % mesh.shape[axis]:
        raise ValueError(
            f"time must be of a number of steps that the {mesh.shape[axis]} devices of `parallel` divide; got {T}. Pad "
            "them, and give a mask"
        )

    def of_device(start, mask, steps):
        product = _product(move, start.shape, start.dtype, (mask, steps), reverse)
        products = jax.lax.all_gather(product, axis, to="invarying")
        last, entering = jax.lax.scan(_entering(semiring), start, products, reverse=reverse)
        own = jax.lax.dynamic_index_in_dim(entering, jax.lax.axis_index(axis), keepdims=False)
        return last, _meshes.scan(body, own, (mask, steps), reverse=reverse)[1]

    whole, split = PartitionSpec(), PartitionSpec(axis)
    run = jax.shard_map(
        of_device,
        mesh=_meshes.mesh_here(mesh, axis),
        in_specs=(whole, split, split),
        out_specs=(whole, split),
        axis_names={axis},
    )
    last, (v, scale) = run(start, mask, steps)
    return Messages(v, scale, last)


def _product(move, shape, dtype, steps, reverse=False):
    """E_1 ⊗ … ⊗ E_n of blocks of steps `[n, *shape[:-1], K, K]`, each with its largest entry at 0."""

    def multiply(product, step):
        mask, inputs = step
        new = jax.vmap(lambda v: _moved(move, v, inputs), -2, -2)(product)
        new, _ = scaled(new, (-2, -1))
        return new if mask is None else jnp.where(mask[..., None, None], new, product), None

    unit = jnp.where(jnp.eye(shape[-1], dtype=bool), 0.0, -jnp.inf).astype(dtype)  # starts in each of the states
    unit = jnp.broadcast_to(unit, (*shape, shape[-1]))
    return _meshes.scan(multiply, unit, steps, reverse=reverse)[0]


def _entering(semiring):
    """The body of the loop over the products of blocks that gives what enters each of them."""

    def enter_next(v, product):
        return scaled(semiring.sum(v[..., None] + product, -2))[0], v

    return enter_next


def _blocks(x, count, length):
    """`[T, ...]` as `[length, count, ...]`, padded with zeros, which in a mask are False."""
    x = jnp.pad(x, [(0, count * length - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    return jnp.swapaxes(x.reshape(count, length, *x.shape[1:]), 0, 1)
