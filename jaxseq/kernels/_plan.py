"""How `bptt` runs given sizes: in which segments of time, and in what form without gradients."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxseq.typing import Cell, Inputs, Params

_CACHE = 2 * 2**20  # bytes of us in a segment; the second-level caches of CPU cores hold one to two MiB
_SMALL_STEP, _SMALL_WEIGHTS = 4096, 2**20  # numbers in a step's inputs, and bytes
_ROUNDS_BUFFERS = jax.__version_info__ < (0, 11)


class Segments(NamedTuple):
    """How `bptt` cuts a sequence: the steps of a segment, and why so many."""

    steps: int
    reason: str


def segments(cell: Cell, params: Params, xs: Inputs) -> Segments:
    """Returns the segments of `bptt`, from what was measured; see docs/performance.md.

    On a CPU all us of a long sequence at once are written to main memory and read from there, and so are all δus.
    Segments are worth their own cost, adding up the gradients of the weights, where their us are larger than the
    weights, and where there are several. Their length divides T where it can.
    """
    T = jax.tree.leaves(xs)[0].shape[0]
    if jax.default_backend() != "cpu":
        return Segments(T, "short loops cost launches on an accelerator")
    us = jax.eval_shape(cell.project, params, xs)
    total, weights = array_bytes(us), array_bytes(params)
    if not (isinstance(total, int) and isinstance(weights, int)):
        return Segments(T, "sizes are symbols")
    wanted = max(_CACHE, 2 * weights)
    if _ROUNDS_BUFFERS and any(leaf.dtype in (jnp.bfloat16, jnp.float16) for leaf in jax.tree.leaves(us)):
        steps, reason = math.isqrt(T), "this XLA:CPU takes 16-bit buffers to float32 and back at every step"
    elif total < 3 * wanted:
        return Segments(T, f"all us are {total / 2**20:.1f} MiB, less than three segments' worth")
    else:
        steps, reason = T * wanted // total, f"{wanted / 2**20:.1f} MiB of us at a time stay in a CPU's cache"
    return Segments(even(T, steps), reason)


def even(T: int, steps: int) -> int:
    """Returns the length nearest to `steps` that divides T, from half to double of it; `steps` where there is none."""
    steps = max(steps, 1)
    divisors = (n for n in range(steps // 2 + 1, 2 * steps) if T % n == 0)
    return min(divisors, key=lambda n: abs(n - steps), default=steps)


def runs_directly(cell: Cell, params: Params, xs: Inputs) -> bool:
    """Says whether `bptt` runs the cell's `direct` where nothing is differentiated.

    One product a step in place of two, and no us in memory, pays where the inputs' product is small. A large one is
    worth making of all steps at once, on all cores; so it always is on an accelerator, where operations are launches.
    """
    if cell.direct is None or cell.backward is None or jax.default_backend() != "cpu":
        return False
    numbers, weights = [math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(xs)], array_bytes(params)
    if not all(isinstance(size, int) for size in (*numbers, weights)):  # symbols
        return False
    return max(numbers) <= _SMALL_STEP and weights <= _SMALL_WEIGHTS


def array_bytes(tree: Any) -> int:
    """Returns the bytes of a pytree of arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
