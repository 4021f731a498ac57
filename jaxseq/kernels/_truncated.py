"""Truncated backpropagation through time (Williams & Peng 1990): gradients stop at segment borders.

    forward   unchanged: the carry that leaves a segment enters the next one
    backward  δcarry = 0 for a segment's initial carry that the segment before it returned

The carry that is passed in goes to the first segment and keeps its gradient.
"""

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._meshes import on_meshes
from jaxseq.kernels._bytes import kernel_bytes, step_bytes
from jaxseq.kernels._choice import chosen
from jaxseq.kernels._plan import plan_cell, register
from jaxseq.kernels._segments import by_segments, holds_all
from jaxseq.typing import Kernel


def truncated(segment: int) -> Kernel:
    """Returns the kernel that stops gradients at segment borders. The default kernel runs each segment.

    The initial carry gets its gradient from the first segment only. A cotangent of the last carry reaches only the last
    segment.

    Args:
      segment: the number of steps in a segment, counted from the first step processed. The last may be shorter.

    Raises:
      TypeError, ValueError: `segment` is not a positive int.

    >>> cell = jaxseq.rnn(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> def last(xs):
    ...     carry, ys = jaxseq.unroll(cell, params, xs, kernel=truncated(2))
    ...     return jnp.sum(carry)
    >>> jnp.any(jax.grad(last)(jnp.ones([6, 3])) != 0, axis=-1).tolist()
    [False, False, False, False, True, True]
    """
    return _truncated(check.positive_int("segment", segment))


@factory
def _truncated(segment):
    def kernel(cell, params, carry, xs, *, reverse=False):
        def run(params, carry, xs, is_first):
            carry = jax.tree.map(lambda leaf: jnp.where(is_first, leaf, jax.lax.stop_gradient(leaf)), carry)
            return chosen(cell, params, carry, xs, reverse=reverse)

        return by_segments(run, params, carry, xs, segment, reverse)

    def plan(cell, params, xs):
        whole = plan_cell(chosen, cell, params, xs)
        reason = "no gradient crosses a border"
        if holds_all(segment, whole.steps):
            reason = f"not truncated, as a segment has {segment} steps"

        def held():
            step = step_bytes(cell, params, xs)
            return kernel_bytes(compiled, cell, params, xs) + min(segment, whole.steps) * (step.saved + 2 * step.us)

        return whole._replace(kernel="kernels.truncated", segment=segment, reason=reason, held=held)

    kernel.__name__ = kernel.__qualname__ = f"truncated({segment})"
    compiled = jax.jit(on_meshes(kernel), static_argnames=("cell", "reverse"))
    return register(compiled, plan)
