"""Running time segment by segment: the loop that `bptt`, `remat` and `truncated` share, and the segment of `bptt`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq.typing import Carry, Cell, Inputs, Params

_CACHE = 2 * 2**20  # bytes of us in a segment; the second-level caches of CPU cores hold one to two MiB


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


def steps_in_cache(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the steps whose us a CPU's cache holds, all of them where there is nothing to gain by segments.

    All us of a long sequence at once are written to main memory, read from there, and so are all δus. Segments are
    worth their own cost, adding up the gradients of the weights, where their us are larger than the weights, and where
    there are several. Their length divides T where it can.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    if T == 0 or jax.default_backend() != "cpu":
        return max(T, 1)
    total = _bytes(jax.eval_shape(cell.project, params, xs))
    segment = max(_CACHE, 2 * _bytes(params))
    if total < 3 * segment:
        return T
    steps = max(1, T * segment // total)
    return max(
        (n for n in range(steps // 2 + 1, 2 * steps) if T % n == 0), key=lambda n: -abs(n - steps), default=steps
    )


def _bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
