"""The plan of `bptt` for given sizes: the segments of time, and the memory that it holds.

With T steps in segments of K, and names in lower case for the bytes of one step, a training step holds

    T (saved + 3 ys) + 2 K us + 2 params                 K < T: JAX stores a segment's ys separately from the net's
    T (5/4 saved + 2 ys + xs) + 2 T us + 2 params        all at once: xs are also stored transposed

The factor 2 counts values and their cotangents, which are live at the same time. XLA was seen to copy the quarter.
"""

import math

import jax
import jax.numpy as jnp

from jaxseq.kernels._bytes import array_bytes, kernel_bytes, step_bytes
from jaxseq.kernels._linear import run_linear_steps
from jaxseq.kernels._plan import Plan
from jaxseq.kernels._scan import scan_bytes
from jaxseq.kernels._segments import even
from jaxseq.typing import Cell, Inputs, Params

_CACHE = 2 * 2**20  # bytes of us in a segment; the second-level caches of CPU cores hold one to two MiB
_ROUNDS_BUFFERS = jax.__version_info__ < (0, 11)


def plan_bptt(cell: Cell, params: Params, xs: Inputs) -> Plan:
    """Returns the plan of `bptt`, based on measurements; see docs/performance.md."""
    T = jax.tree.leaves(xs)[0].shape[0]
    segment, reason = _segments(T, cell, params, xs)

    def held():
        if cell.linear is not None:
            return kernel_bytes(run_linear_steps, cell, params, xs)
        if cell.backward is None:
            return scan_bytes(cell, params, xs)
        step = step_bytes(cell, params, xs)
        total = T * (step.saved + 2 * step.ys) + 2 * min(segment, T) * step.us + 2 * array_bytes(params)
        return total + (T * step.ys if segment < T else T * step.saved // 4 + array_bytes(xs))

    gradient = "JAX's gradient, for it has no backward" if cell.backward is None else "its hand-written backward"
    gradient = gradient if cell.linear is None else "the gradient of its algebra"
    return Plan("kernels.bptt", gradient, T, segment, reason, held)


def _segments(T, cell, params, xs):
    """Returns how many steps run at a time, and why.

    If a CPU computes all us of a long sequence at once, it writes them to main memory and reads them back, and all δus
    too. Segments add up the gradients of the weights, which costs time. They pay off if there are several of them and
    their us are larger than the weights. If possible, their length divides T.
    """
    if jax.default_backend() != "cpu":
        return T, "short loops cost launches on an accelerator"
    us = jax.eval_shape(cell.project, params, xs)
    total, weights = array_bytes(us), array_bytes(params)
    if not (isinstance(total, int) and isinstance(weights, int)):
        return T, "sizes are symbols"
    wanted = max(_CACHE, 2 * weights)
    if _ROUNDS_BUFFERS and any(leaf.dtype in (jnp.bfloat16, jnp.float16) for leaf in jax.tree.leaves(us)):
        return even(T, math.isqrt(T)), "this XLA:CPU takes 16-bit buffers to float32 and back at every step"
    if total < 3 * wanted:
        return T, f"the projected inputs are {total / 2**20:.1f} MiB, too few to cut"
    return even(T, T * wanted // total), f"{wanted / 2**20:.1f} MiB of projected inputs at a time stay in a CPU's cache"
