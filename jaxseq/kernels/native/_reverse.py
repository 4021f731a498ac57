"""The reverse pass over all steps, by the first of these three methods that is possible.

sums inside    one native loop, which reads xs and sums the gradients of weights: no δus are written
δus written    a native loop, followed by JAX's products: for weights too large for sums in each thread
XLA's loop     for a `bwd` that has no native form
"""

import functools
from typing import Any

from jaxseq.kernels._bytes import array_bytes
from jaxseq.kernels.native._gradient import Gradient
from jaxseq.kernels.native._nodes import Unsupported
from jaxseq.kernels.native._scan import scan, whole
from jaxseq.kernels.native._scan_sum import scan_and_sum
from jaxseq.typing import Params

_SUMS = 4 * 2**20  # bytes


def sums_inside(params: Params) -> bool:
    """Returns whether the loop sums gradients of weights. Each thread has its own sums, so they must be small."""
    return array_bytes(params) <= _SUMS


def reverse_pass(
    gradient: Gradient, params: Params, saved: Any, xs: Any, cotangents: tuple, reverse: bool, wants_xs: bool
) -> tuple[Params, Any, Any]:
    """Returns the gradients of params, carry and xs. The last is None unless `wants_xs`."""
    try:
        return reverse_loop(gradient, params, saved, xs, cotangents, reverse, wants_xs)
    except Unsupported:
        d_carry, d_ys = cotangents
        inputs = whole((saved, xs, d_ys))
        d_carry, d_xs, d_params = gradient.of_all(params, d_carry, inputs, reverse, wants_xs)
        return d_params, d_carry, d_xs


def reverse_loop(
    gradient: Gradient, params: Params, saved: Any, xs: Any, cotangents: tuple, reverse: bool, wants_xs: bool
) -> tuple[Params, Any, Any]:
    """Returns the same gradients, by a native loop.

    Raises:
      Unsupported: there is no native loop.
    """
    d_carry, d_ys = cotangents
    if sums_inside(params):
        by_step = functools.partial(gradient.of_step, wants_xs=wants_xs)
        at_once = functools.partial(gradient.of_all, reverse=reverse, wants_xs=wants_xs)
        try:
            d_carry, d_xs, d_params = scan_and_sum(by_step, at_once, params, d_carry, (saved, xs, d_ys), not reverse)
            return d_params, d_carry, d_xs
        except Unsupported:
            pass

    def step(params, d_carry, of_step):
        return gradient.bwd(params, of_step[0], d_carry, of_step[1])

    d_carry, d_us = scan(step, lambda params, inputs: inputs, params, d_carry, (saved, d_ys), not reverse)
    saved, d_us = whole((saved, d_us))
    d_params, d_xs = gradient.of_params(params, saved, xs, d_us)
    return d_params, d_carry, d_xs if wants_xs else None
