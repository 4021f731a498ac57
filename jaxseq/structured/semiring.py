"""Sums over paths in a semiring (Goodman 1999; Mohri 2002): one recurrence for several algorithms.

    v_t = v_{t-1} ⊗ E_t            v_t[j] = ⊕_i v_{t-1}[i] ⊗ E_t[i, j]

Scores are logarithms, so ⊗ is +, with one 0 and zero -inf. ⊕ is log Σ exp, for the sum over all paths (the forward
algorithm), or max, for the best path (Viterbi). `run` computes the recurrence over time, for any linear step
v ↦ v ⊗ E_t. Each v_t is shifted so that its largest entry is 0, and the shift is stored with it; numbers then stay
exact for any T.

With `parallel`, time is cut into about √T blocks. Since E_1 ⊗ … ⊗ E_n is associative, the products of all blocks are
computed at once, by starting each from all K states. They are combined into the values that enter each block, and then
all blocks run again from these. This takes 3 √T sequential steps and K + 1 times the operations: it pays if K is small
or the machine is wide.

If time is split over the devices of a mesh, the steps of a device are a block. Each device computes the product of its
own block, one exchange sends all products, of K by K numbers per row, to all devices, and each device runs its steps
from the values that enter them.
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
from jaxseq.typing import AnyArray


@jax.tree_util.register_static
class Semiring(NamedTuple):
    """A semiring of scores: `sum` is `(x, axis) -> ⊕ of x along the axis`; ⊗ is +, one is 0 and zero is -inf."""

    sum: Callable[[jax.Array, int], jax.Array]


def log_sum(x: AnyArray, axis: int) -> jax.Array:
    """Returns log Σ exp x along an axis; -inf, with gradient 0, if all entries are -inf or there are none.

    If an entry is NaN, the result is NaN.
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
    """`v` `[T, *B, K]` after each step, its largest entry at 0; each step's shift, `[T, *B]`; and the last v."""

    v: jax.Array
    scale: jax.Array
    last: jax.Array


def scaled(v: AnyArray, axis: int | tuple[int, ...] = -1) -> tuple[jax.Array, jax.Array]:
    """Returns `v` shifted to a largest entry of 0 along `axis`, and that entry; all -inf stays -inf and gives -inf."""
    v = check.real("v", "..., K", v)
    if any(v.shape[one] == 0 for one in _axes(axis, v)):
        raise ValueError(f"`v` must have at least one entry along `axis` {axis}; got {check.shaped(v)}")
    largest = jax.lax.stop_gradient(jnp.max(v, axis))
    return v - jnp.expand_dims(jnp.where(jnp.isneginf(largest), 0, largest), axis), largest


def run(
    semiring: Semiring,
    move: Callable[[jax.Array, Any], jax.Array],
    start: AnyArray,
    steps: Any,
    mask: AnyArray | None = None,
    *,
    reverse: bool = False,
    parallel: bool | NamedSharding = False,
) -> Messages:
    """Runs `v_t = move(v_{t-1}, steps[t])` over time.

    Args:
      semiring: `log` or `maximum`: the semiring in which `move` is linear.
      move: `(v [*B, K], step) -> v`. It must accept further axes of v before the batch axes, and with `parallel` also
        between the batch axes and K, which `jax.vmap` adds.
      start: `v_0` `[*B, K]`.
      steps: a pytree of arrays `[T, ...]`; with `parallel` `[T, *B, ...]`, with batch axes of size 1 if rows are alike.
      mask: bool `[T, *B]`, True where a step is real; v is held on False steps. None: all steps are real.
      reverse: whether to run from the last step to the first; results keep the order of `steps`.
      parallel: whether blocks of time run in parallel; or a `NamedSharding(mesh, PartitionSpec(axis))` that splits time
        over devices, whose number must divide T.

    Returns:
      `Messages`; on False steps v is held and the shift is 0.

    Raises:
      TypeError, ValueError: an argument does not fit, or `move` does not return a v like the one it gets.
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
    """Returns the result of `move` after checking that it is like v."""
    shapes = lambda: f"a v {check.shaped(v)} and a step of `steps`, {check.short(jax.tree.map(check.shaped, step))}"
    try:
        new = move(v, step)
    except Exception as error:  # whatever the user's function raises gets a note and is raised again
        error.add_note(f"`move` was given {shapes()}")
        raise
    if jnp.shape(new) != v.shape or jnp.result_type(new) != v.dtype:
        raise ValueError(
            f"`move` must return a v like that of `start`; for {shapes()}, it returned {check.shaped(new)}"
        )
    return new


def _axes(axis, x):
    """Returns the axes as a tuple."""
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
            f"the number of steps must be a multiple of the {mesh.shape[axis]} devices of `parallel`; got {T}. Pad the "
            "sequences, and give a mask"
        )

    def of_device(start, mask, steps):
        product = _product(move, start.shape, start.dtype, (mask, steps), reverse)
        products = jax.lax.all_gather(product, axis, to="invarying")
        last, entering = jax.lax.scan(_entering(semiring), start, products, reverse=reverse)
        own = jax.lax.dynamic_index_in_dim(entering, jax.lax.axis_index(axis), keepdims=False)
        return last, _meshes.scan(body, own, (mask, steps), reverse=reverse)[1]

    whole, split = PartitionSpec(), PartitionSpec(axis)
    run = _meshes.map_over(axis, mesh, of_device, (whole, split, split), (whole, split))
    last, (v, scale) = run(start, mask, steps)
    return Messages(v, scale, last)


def _product(move, shape, dtype, steps, reverse=False):
    """E_1 ⊗ … ⊗ E_n of blocks of steps `[n, *shape[:-1], K, K]`, each with its largest entry at 0."""

    def multiply(product, step):
        mask, inputs = step
        new = jax.vmap(lambda v: _moved(move, v, inputs), -2, -2)(product)
        new, _ = scaled(new, (-2, -1))
        return new if mask is None else jnp.where(mask[..., None, None], new, product), None

    unit = jnp.where(jnp.eye(shape[-1], dtype=bool), 0.0, -jnp.inf).astype(dtype)  # one start for each state
    unit = jnp.broadcast_to(unit, (*shape, shape[-1]))
    return _meshes.scan(multiply, unit, steps, reverse=reverse)[0]


def _entering(semiring):
    """The body of the loop over the products of blocks that gives what enters each of them."""

    def enter_next(v, product):
        return scaled(semiring.sum(v[..., None] + product, -2))[0], v

    return enter_next


def _blocks(x, count, length):
    """Returns `[T, ...]` as `[length, count, ...]`, padded with zeros, which are False in a mask."""
    x = jnp.pad(x, [(0, count * length - x.shape[0])] + [(0, 0)] * (x.ndim - 1))
    return jnp.swapaxes(x.reshape(count, length, *x.shape[1:]), 0, 1)
