"""Backpropagation through time in little memory: only the carries at segment borders are kept (Chen et al. 2016).

The backward pass recomputes one segment at a time from the carry that entered it, so a training step keeps
T / segment carries and one segment's saved values instead of T of them. The segment that balances the two is √T times
the root of a carry's share in what a step saves.
"""

import functools

import jax

from jaxseq import check
from jaxseq.kernels._bptt import bptt
from jaxseq.kernels._segments import by_segments
from jaxseq.kernels._step_bytes import balanced_segment
from jaxseq.typing import Cell, Inputs, Kernel, Params


def remat(segment: int | None = None) -> Kernel:
    """Returns the kernel that runs `bptt` segment by segment and recomputes each segment in the backward pass.

    Args:
      segment: steps in a segment, counted from the first step processed; the last may be short. None: as many as hold
        the least memory.

    Raises:
      TypeError, ValueError: `segment` is neither None nor a positive int.
    """
    return _remat(None if segment is None else check.positive_int("segment", segment))


@functools.cache
def _remat(segment):
    def kernel(cell, params, carry, xs, *, reverse=False):
        @functools.partial(jax.checkpoint, prevent_cse=False)  # loops keep the recomputation apart
        def run(carry, xs, _is_first):
            return bptt(cell, params, carry, xs, reverse=reverse)

        return by_segments(run, carry, xs, _steps(segment, cell, params, xs), reverse)

    kernel.__name__ = kernel.__qualname__ = "remat()" if segment is None else f"remat({segment})"
    compiled = jax.jit(kernel, static_argnames=("cell", "reverse"))
    _SEGMENTS[compiled] = segment
    return compiled


def segment_of(kernel: Kernel | None, cell: Cell, params: Params, xs: Inputs) -> int | None:
    """Returns the steps in a segment of a kernel that `remat` returned, of any other kernel None."""
    return _steps(_SEGMENTS[kernel], cell, params, xs) if kernel in _SEGMENTS else None


def _steps(segment, cell, params, xs):
    return balanced_segment(cell, params, xs) if segment is None else segment


_SEGMENTS: dict[Kernel | None, int | None] = {}
