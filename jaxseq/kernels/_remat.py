"""Backpropagation through time in little memory: only the carries at segment borders are kept (Chen et al. 2016).

The backward pass recomputes one segment at a time from the carry that entered it, so a training step keeps
T / segment carries and one segment's saved values instead of T of them; a segment of about √T balances the two.
"""

import functools

import jax

from jaxseq import check
from jaxseq.kernels._bptt import bptt
from jaxseq.kernels._segments import by_segments
from jaxseq.typing import Kernel


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
        def run(carry, xs, _is_first):
            return bptt(cell, params, carry, xs, reverse=reverse)

        return by_segments(run, carry, xs, segment, reverse)

    kernel.__name__ = kernel.__qualname__ = f"remat({segment})"
    return jax.jit(kernel, static_argnames=("cell", "reverse"))
