"""Runs time segment by segment: the loop that `bptt`, `remat` and `truncated` share."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.errors import InconclusiveDimensionOperation

from jaxseq.kernels._wide import widened
from jaxseq.typing import Carry, Inputs, Params


def by_segments(
    run: Callable[[Params, Carry, Inputs, jax.Array | bool], tuple[Carry, jax.Array]],
    params: Params,
    carry: Carry,
    xs: Inputs,
    segment: int,
    reverse: bool,
) -> tuple[Carry, jax.Array]:
    """Applies `run(params, carry, xs, is_first) -> (carry, ys)` to the segments of `xs` in turn.

    Segments have `segment` steps, counted from the first step processed. The last may be shorter. Gradients of 16-bit
    params are summed over the segments in float32.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    if holds_all(segment, T):
        return run(params, carry, xs, True)
    wide, narrow = widened(params)
    count, rest = divmod(T, segment)
    if not isinstance(rest, int):
        raise _unknown(segment, T)
    border = rest if reverse else T - rest
    early, late = jax.tree.map(lambda x: x[:border], xs), jax.tree.map(lambda x: x[border:], xs)
    whole, short = (late, early) if reverse else (early, late)
    whole = jax.tree.map(lambda x: x.reshape(count, segment, *x.shape[1:]), whole)
    is_first = jnp.arange(count) == (count - 1 if reverse else 0)
    carry, ys = jax.lax.scan(
        lambda carry, part: run(narrow(wide), carry, *part), carry, (whole, is_first), reverse=reverse
    )
    ys = ys.reshape(count * segment, *ys.shape[2:])
    if rest == 0:
        return carry, ys
    carry, ys_short = run(narrow(wide), carry, short, False)
    return carry, jnp.concatenate([ys_short, ys] if reverse else [ys, ys_short])


def even(T: int, steps: int) -> int:
    """Returns the length nearest to `steps` that divides T, between half and double of it, or `steps` if none does."""
    steps = max(steps, 1)
    divisors = (n for n in range(steps // 2 + 1, 2 * steps) if T % n == 0)
    return min(divisors, key=lambda n: abs(n - steps), default=steps)


def holds_all(segment: int, T: int) -> bool:
    """Returns whether a segment holds all T steps.

    Raises:
      ValueError: T is a symbol of `jax.export`, and the answer is not known.
    """
    try:
        return segment >= T
    except InconclusiveDimensionOperation:
        raise _unknown(segment, T) from None


def _unknown(segment, T):
    return ValueError(
        f"`xs` must have a fixed number of steps to be cut into segments of {segment}; got {T}, a symbol. Export "
        f"for a fixed T or one that {segment} divides, T = {segment}*n with n >= 2, or unroll without segments, with "
        "kernel=jaxseq.kernels.bptt"
    )
