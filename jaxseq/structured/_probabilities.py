"""Messages of a chain in probability space: matrix products instead of log-sums (Rabiner 1989).

    forward    p_t = (p_{t-1} P) ⊙ o_t / n_t           P = exp(transition), o_t = exp(scores_t), n_t the largest entry
    backward   p_{t-1} = (p_t ⊙ o_t) Pᵀ / n_t

Without exponentials and logarithms in the loop this is several times as fast. But floats have a limited range: a state
whose probability relative to the most probable one is too small becomes 0, though later observations may leave only
that state. The result is therefore used only if no entry has vanished: each is well within the range, or is 0 because
no path leads there.

A small product is written as a sum, which XLA fuses with the operations around it; this is up to five times as fast on
a CPU. For larger products the loop is machine code on a CPU, like the loops of cells.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq import _meshes
from jaxseq._promote import expand_rank
from jaxseq.kernels.native import scan_rows
from jaxseq.structured.semiring import Messages, scaled

_SMALL_TABLE, _SMALL_STEP = 32, 4096  # limits of a small product: states, and multiplications in a step


def run_or(
    exactly: Callable[[], Messages],
    start: jax.Array,
    scores: jax.Array,
    follows: jax.Array | None,
    transition: jax.Array,
    mask: jax.Array | None,
    *,
    reverse: bool = False,
) -> Messages:
    """Returns the messages in logarithms, from probabilities; or the result of `exactly` if an entry has vanished.

    Args:
      exactly: computes the messages without loss of range; called only if needed.
      start: `[*B, K]`, with a largest entry of 0.
      scores: `[T, *B, K]`.
      follows: bool `[T, *B]`, False where no transition leads into the step. None: True everywhere.
      transition: `[K, K]`.
      mask: bool `[T, *B]`; messages are held on False steps.
      reverse: whether to compute backward messages.
    """
    smallest = float(jnp.finfo(scores.dtype).tiny) ** 0.8
    observed, taken_off = scaled(scores)
    likeliest = jnp.max(transition)
    likeliest = jnp.where(jnp.isneginf(likeliest), 0, likeliest)

    def move(p, observed, follows, table, product):
        moved = product(p * observed, table.T) if reverse else product(p, table)
        moved = moved if follows is None else jnp.where(follows[..., None], moved, p)
        return moved if reverse else moved * observed

    table = jnp.exp(transition - likeliest)

    def body(product, table, p, step):
        mask, observed, follows = step
        new = move(p, observed, follows, table, product)
        largest = jax.lax.stop_gradient(jnp.max(new, -1))
        largest = jnp.where(largest >= smallest, largest, 1)
        new = new / largest[..., None]
        if mask is not None:
            new, largest = jnp.where(mask[..., None], new, p), jnp.where(mask, largest, 1)
        return new, (new, largest)

    first, steps = jnp.exp(start), (mask, jnp.exp(observed), follows)
    if _is_small(start):
        small = functools.partial(body, _sum_of_products, table)
        last, (p, largest) = _meshes.scan(small, first, steps, reverse=reverse)
    else:
        large = functools.partial(body, jnp.matmul)
        last, (p, largest) = scan_rows(large, table, first, steps, reverse=reverse)

    def none_vanished():
        """Returns whether each entry that a path leads to is nonzero."""
        before = jnp.concatenate([p, first[None]])[1:] if reverse else jnp.concatenate([first[None], p])[:-1]
        possible = (before, 0), (scores, -jnp.inf), (transition, -jnp.inf)
        was_there, observable, passable = ((~(x <= least)).astype(p.dtype) for x, least in possible)
        reached = move(was_there, observable, follows, passable, jnp.matmul) > 0
        all_kept = (is_there == reached) if mask is None else (is_there == reached) | ~mask[..., None]
        return jnp.all(all_kept) & jnp.all((first >= smallest) | jnp.isneginf(start))

    scale = jnp.log(largest) + taken_off + (likeliest if follows is None else jnp.where(follows, likeliest, 0))
    scale = scale if mask is None else jnp.where(mask, scale, 0)
    messages = Messages(_log(p, smallest), scale, _log(last, smallest))

    is_there = ~(p < smallest)  # NaN counts as there
    all_there = jnp.all(is_there if mask is None else is_there | ~mask[..., None]) & jnp.all(first >= smallest)
    unless_vanished = lambda: jax.lax.cond(in_all_rows(none_vanished()), lambda: messages, exactly)
    return jax.lax.cond(in_all_rows(all_there), lambda: messages, unless_vanished)


def _is_small(p):
    *batch, K = p.shape
    rows = math.prod(batch)
    return isinstance(rows, int) and rows * K * K <= _SMALL_STEP and K <= _SMALL_TABLE


def _sum_of_products(p, table):
    return jnp.sum(p[..., None] * expand_rank(table, p[..., None]), -2)


def _log(p, smallest):
    vanished = p < smallest
    return jnp.where(vanished, -jnp.inf, jnp.log(jnp.where(vanished, 1, p)))


@jax.custom_batching.custom_vmap
def in_all_rows(counts: jax.Array) -> jax.Array:
    """Returns the flag; under `jax.vmap`, one flag for all rows, so that a `cond` on it runs only one branch."""
    return counts


@in_all_rows.def_vmap
def _(axis_size, in_batched, counts):
    return in_all_rows(jnp.all(counts, 0)), False
