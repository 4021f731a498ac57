"""Running time segment by segment: the loop that `bptt`, `remat` and `truncated` share, and the segment of `bptt`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.typing import Carry, Cell, Inputs, Params

_CACHE = 2 * 2**20  # bytes of us in a segment; the second-level caches of CPU cores hold one to two MiB
_ROUNDS_BUFFERS = jax.__version_info__ < (0, 11)


def by_segments(
    run: Callable[[Carry, Inputs, jax.Array | bool], tuple[Carry, jax.Array]],
    carry: Carry,
    xs: Inputs,
    segment: int,
    reverse: bool,
) -> tuple[Carry, jax.Array]:
    """Applies `run(carry, xs, is_first) -> (carry, ys)` to the segments of `xs` in turn.

    Segments are of `segment` steps, counted from the first step processed; the last may be short.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    if segment >= T:
        return run(carry, xs, True)
    count, rest = divmod(T, segment)
    border = rest if reverse else T - rest
    early, late = jax.tree.map(lambda x: x[:border], xs), jax.tree.map(lambda x: x[border:], xs)
    whole, short = (late, early) if reverse else (early, late)
    whole = jax.tree.map(lambda x: x.reshape(count, segment, *x.shape[1:]), whole)
    is_first = jnp.arange(count) == (count - 1 if reverse else 0)
    carry, ys = jax.lax.scan(lambda carry, part: run(carry, *part), carry, (whole, is_first), reverse=reverse)
    ys = ys.reshape(count * segment, *ys.shape[2:])
    if rest == 0:
        return carry, ys
    carry, ys_short = run(carry, short, False)
    return carry, jnp.concatenate([ys_short, ys] if reverse else [ys, ys_short])


class Segments(NamedTuple):
    """How `bptt` cuts a sequence: the steps of a segment, and why so many."""

    steps: int
    reason: str


def plan(cell: Cell, params: Params, xs: Inputs) -> Segments:
    """Returns the segments of `bptt`, from what was measured; see docs/performance.md.

    On a CPU all us of a long sequence at once are written to main memory and read from there, and so are all δus.
    Segments are worth their own cost, adding up the gradients of the weights, where their us are larger than the
    weights, and where there are several. Their length divides T where it can.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    if jax.default_backend() != "cpu":
        return Segments(T, "short loops cost launches on an accelerator")
    us = jax.eval_shape(cell.project, params, xs)
    total, wanted = array_bytes(us), max(_CACHE, 2 * array_bytes(params))
    if not isinstance(total, int):
        return Segments(T, "sizes are symbols")
    if _ROUNDS_BUFFERS and any(leaf.dtype in (jnp.bfloat16, jnp.float16) for leaf in jax.tree.leaves(us)):
        steps, reason = math.isqrt(T), "this XLA:CPU takes 16-bit buffers to float32 and back at every step"
    elif total < 3 * wanted:
        return Segments(T, f"all us are {total / 2**20:.1f} MiB, less than three segments' worth")
    else:
        steps, reason = T * wanted // total, f"{wanted / 2**20:.1f} MiB of us at a time stay in a CPU's cache"
    steps = max(steps, 1)
    divisors = (n for n in range(steps // 2 + 1, 2 * steps) if T % n == 0)
    return Segments(min(divisors, key=lambda n: abs(n - steps), default=steps), reason)


def array_bytes(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
