"""A matrix algebra step by step, with the states at some borders alone kept for its gradient."""

import functools
import math
from typing import Any

import jax

from jaxseq.recurrences._cut import cut, cut_flags, joined
from jaxseq.recurrences._start import Start, entered
from jaxseq.typing import Carry


def in_steps(element: Any, carry: Carry, reverse: bool) -> tuple[Carry, Any]:
    """Runs the steps of an element one by one; returns the last carry and what is observed, `[T, B, ...]`.

    Of T states the gradient keeps √T, those at the borders of segments, and makes a segment's once more.
    """
    T = jax.tree.leaves(element)[0].shape[0]
    length = max(1, math.isqrt(T)) if isinstance(T, int) else T  # a symbol is not cut
    reset, initial = (None, None) if element.start is None else element.start
    parts = cut(element._replace(start=None), length), None if reset is None else cut_flags(reset, length)

    def step(carry, of_step, initial):
        element, reset = of_step
        return element.step(entered(None if reset is None else Start(reset, initial), carry))

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop keeps the passes apart
    def run(carry, part, initial):
        return jax.lax.scan(lambda carry, of_step: step(carry, of_step, initial), carry, part, reverse=reverse)

    carry, observed = jax.lax.scan(lambda carry, part: run(carry, part, initial), carry, parts, reverse=reverse)
    return carry, joined(observed, T)
