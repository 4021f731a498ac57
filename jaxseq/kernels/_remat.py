"""Backpropagation through time in little memory: only the carries at segment borders are kept (Chen et al. 2016).

The backward pass recomputes one segment at a time from the carry that entered it, so a training step keeps
T / segment carries and one segment's saved values instead of T of them; a segment of about √T balances the two.
"""

import functools

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.kernels._bptt import bptt
from jaxseq.typing import Carry, Inputs, Kernel


def remat(segment: int) -> Kernel:
    """Returns the kernel that runs `bptt` segment by segment and recomputes each segment in the backward pass.

    Args:
      segment: steps in a segment, counted from the first step processed; the last may be short.

    Raises:
      TypeError, ValueError: `segment` is not a positive int.
    """
    return _remat(check.positive_int("segment", segment))


@functools.cache
def _remat(segment):
    def kernel(cell, params, carry, xs, *, reverse=False):
        @functools.partial(jax.checkpoint, prevent_cse=False)  # loops keep the recomputation apart
        def run(carry, xs):
            return bptt(cell, params, carry, xs, reverse=reverse)

        return _by_segments(run, carry, xs, segment, reverse)

    kernel.__name__ = kernel.__qualname__ = f"remat({segment})"
    return jax.jit(kernel, static_argnames=("cell", "reverse"))


def _by_segments(run, carry: Carry, xs: Inputs, segment: int, reverse: bool) -> tuple[Carry, jax.Array]:
    """Applies `run(carry, xs) -> (carry, ys)` to the segments of `xs` in turn."""
    T = jax.tree.leaves(xs)[0].shape[0]
    count, rest = divmod(T, segment)
    if count == 0:
        return run(carry, xs)
    border = rest if reverse else T - rest
    early, late = jax.tree.map(lambda x: x[:border], xs), jax.tree.map(lambda x: x[border:], xs)
    whole, short = (late, early) if reverse else (early, late)
    whole = jax.tree.map(lambda x: x.reshape(count, segment, *x.shape[1:]), whole)
    carry, ys = jax.lax.scan(run, carry, whole, reverse=reverse)
    ys = ys.reshape(count * segment, *ys.shape[2:])
    if rest == 0:
        return carry, ys
    carry, ys_short = run(carry, short)
    return carry, jnp.concatenate([ys_short, ys] if reverse else [ys, ys_short])
