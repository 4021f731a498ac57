"""Runs a matrix algebra step by step. Its gradient stores only the states at some borders."""

import functools
import math
from typing import Any

import jax

from jaxseq.recurrences._cut import cut, cut_flags, joined
from jaxseq.recurrences._start import Start, entered
from jaxseq.typing import Carry


def in_steps(element: Any, carry: Carry, reverse: bool) -> tuple[Carry, Any]:
    """Runs the steps of an element one by one. Returns the last carry and what is observed, `[T, B, ...]`.

    Of T states, the gradient stores the √T at the borders of segments. It recomputes the states of one segment at a
    time.
    """
    T = jax.tree.leaves(element)[0].shape[0]
    length = max(1, math.isqrt(T)) if isinstance(T, int) else T  # a symbol is not split
    reset, initial = (None, None) if element.start is None else element.start
    parts = cut(element._replace(start=None), length), None if reset is None else cut_flags(reset, length)

    def step(carry, of_step, initial):
        element, reset = of_step
        return element.step(entered(None if reset is None else Start(reset, initial), carry))

    @functools.partial(jax.checkpoint, prevent_cse=False)  # the loop separates the passes
    def run(carry, part, initial):
        return jax.lax.scan(lambda carry, of_step: step(carry, of_step, initial), carry, part, reverse=reverse)

    carry, observed = jax.lax.scan(lambda carry, part: run(carry, part, initial), carry, parts, reverse=reverse)
    return carry, joined(observed, T)
