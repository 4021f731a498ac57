"""Backpropagation through time in little memory: it stores only the carries at segment borders (Chen et al. 2016).

The backward pass recomputes one segment at a time from the carry at its start. A training step thus stores T / segment
carries and the saved values of one segment instead of those of T steps. With segments of K < T steps, and names in
lower case for the bytes of one step, it holds

    2 T ys + T/K carry + K (saved + 2 us) + params                 and T xs more if K does not divide T

Native loops hold neither us nor what JAX makes of params. The best K is √T times the root of the carry's share of what
a step saves.
"""

import functools
import math

import jax

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._meshes import on_meshes
from jaxseq.kernels._bytes import array_bytes, step_bytes
from jaxseq.kernels._choice import chosen, segment_bytes
from jaxseq.kernels._plan import plan_cell, register
from jaxseq.kernels._segments import by_segments, even, holds_all
from jaxseq.typing import Kernel


def remat(segment: int | None = None) -> Kernel:
    """Returns the kernel that recomputes each segment in the backward pass. The default kernel runs each segment.

    Args:
      segment: the number of steps in a segment, counted from the first step processed. The last may be shorter. None:
        the number that needs the least memory.

    Raises:
      TypeError, ValueError: `segment` is neither None nor a positive int.
    """
    return _remat(None if segment is None else check.positive_int("segment", segment))


@factory
def _remat(segment):
    plan = functools.partial(_plan, segment)

    def kernel(cell, params, carry, xs, *, reverse=False):
        @functools.partial(jax.checkpoint, prevent_cse=False)  # safe: inside a loop nothing is merged across it
        def run(params, carry, xs, _is_first):
            return chosen(cell, params, carry, xs, reverse=reverse)

        return by_segments(run, params, carry, xs, plan(cell, params, xs).segment, reverse)

    kernel.__name__ = kernel.__qualname__ = "remat()" if segment is None else f"remat({segment})"
    return register(jax.jit(on_meshes(kernel), static_argnames=("cell", "reverse")), plan)


def _plan(segment, cell, params, xs):
    whole, reason = plan_cell(chosen, cell, params, xs), "as asked for"
    T = whole.steps
    if segment is None:
        step = step_bytes(cell, params, xs)
        if not all(isinstance(size, int) for size in (T, *step)):
            got = check.shaped(jax.tree.leaves(xs)[0])
            raise ValueError(
                f"`xs` must have fixed sizes, because remat() chooses its segment by them; got {got}, with symbols. "
                "Give remat(n), for a fixed T, or export for fixed sizes"
            )
        kept = segment_bytes(cell, params, xs, 2) - segment_bytes(cell, params, xs, 1)
        segment = even(T, round(math.sqrt(T * step.carry / max(1, kept))))
        reason = "the carries of all segments and the saved values of one balance"
    if holds_all(segment, T):
        return whole._replace(kernel="kernels.remat")

    def held():
        step = step_bytes(cell, params, xs)
        total = 2 * T * step.ys + T // segment * step.carry + segment_bytes(cell, params, xs, segment)
        return total + (array_bytes(xs) if T % segment else 0)

    return whole._replace(kernel="kernels.remat", segment=segment, reason=reason, held=held)
