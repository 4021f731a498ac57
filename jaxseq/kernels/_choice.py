"""The default kernel of a cell."""

import math

import jax

from jaxseq.kernels._bptt import bptt
from jaxseq.kernels._bytes import array_bytes, sizes_are_known, step_bytes
from jaxseq.kernels._linear_choice import linear_choice
from jaxseq.kernels._plan import Plan, plan_cell, register
from jaxseq.kernels._scan import scan
from jaxseq.kernels.native import native, native_reason, native_step_bytes, native_values
from jaxseq.typing import Carry, Cell, Inputs, Kernel, Params

_FEW = 100  # rows of all steps
_CACHE = 2**20  # bytes of weights; the second-level caches of CPU cores hold one to two MiB


def choice(cell: Cell, params: Params, xs: Inputs) -> tuple[Kernel, str | None]:
    """Returns the kernel measured to be fastest for a cell on this machine, and the reason if it is not native."""
    by_algebra = linear_choice(cell, params, xs)
    if by_algebra is not None:
        return by_algebra, "many steps of a linear cell are run at once"
    if jax.default_backend() != "cpu":
        return bptt, "native loops are for a CPU"
    if not sizes_are_known((params, xs)):
        return bptt, "sizes are symbols"
    reason = native_reason(cell, params, xs)
    if reason is not None:
        return bptt, reason
    T, *batch = jax.tree.leaves(xs)[0].shape[:-1]
    rows = math.prod(batch)
    if T > 1 and array_bytes(params) > _CACHE and (rows == 1 or T * rows < _FEW):
        return bptt, "its weights are larger than a core's cache, and reading them is most of the work for so few rows"
    return (native_values if cell.backward is None and cell.linear is None else native), None


def chosen(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` by the kernel that `choice` returns."""
    kernel, _ = choice(cell, params, xs)
    return kernel(cell, params, carry, xs, reverse=reverse)


def values_alone(cell: Cell, params: Params, xs: Inputs) -> Kernel:
    """Returns the kernel for runs without gradients, as in streams: native or `scan`, differentiable in any mode."""
    kernel, _ = choice(cell, params, xs)
    return {bptt: scan, native: native_values}.get(kernel, kernel)


def chosen_values(
    cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False
) -> tuple[Carry, jax.Array]:
    """Runs `cell` by the kernel that `values_alone` returns."""
    kernel = values_alone(cell, params, xs)
    return kernel(cell, params, carry, xs, reverse=reverse)


def default(kernel: Kernel | None) -> Kernel:
    """Returns the kernel that runs a net. None returns one that chooses for each cell."""
    return chosen if kernel is None else kernel


def segment_bytes(cell: Cell, params: Params, xs: Inputs, steps: int) -> int:
    """Returns the bytes that `steps` steps hold at once in training, without their ys, with the default kernel."""
    if choice(cell, params, xs)[0] is native:
        return steps * native_step_bytes(cell, params, xs)
    step = step_bytes(cell, params, xs)
    return steps * (step.saved + 2 * step.us) + array_bytes(params)


def _plan(cell: Cell, params: Params, xs: Inputs) -> Plan:
    kernel, reason = choice(cell, params, xs)
    return plan_cell(kernel, cell, params, xs)._replace(not_native=reason)


register(chosen, _plan)
