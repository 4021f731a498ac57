"""Which kernel `kernel=None` takes, and why, in words."""

import jax

from jaxseq.kernels._plan import runs_directly, segments
from jaxseq.kernels._scan import scan
from jaxseq.typing import Cell, Composite, Params


def explain(cell: Cell | Composite, params: Params, xs: jax.Array) -> str:
    """Says how `jaxseq.unroll` with `kernel=None` runs a net on this machine, a line for each of its cells.

    The kernel is always `bptt`, the fastest in training at nearly every size that was measured (docs/performance.md);
    without gradients it is a plain loop. What depends on sizes, dtype and platform is into how many segments it cuts
    time, and whether it runs the cell's `direct` where nothing is differentiated. Masks and resets are left out: their
    few bytes count only next to a threshold.

    Args:
      cell: a Cell or a Composite.
      params: its params; shapes are enough (`jax.eval_shape`).
      xs: the inputs `[T, B, D]`, or their shape and dtype.

    >>> cell = jaxseq.lstm(128)
    >>> params = cell.init(jax.random.key(0), 64)
    >>> print(explain(cell, params, jnp.zeros([16, 8, 64])))
    cell of size 128: kernels.bptt, by its hand-written backward; T = 16 at once: ...
    """
    lines = []

    def run(cell, params, xs, carry=None, *, mask=None, reset=None, reverse=False, key=None):
        carry = cell.carry(params, xs.shape[1:-1]) if carry is None else carry
        if isinstance(cell, Composite):
            return cell.unroll(run, params, xs, carry, mask=mask, reset=reset, reverse=reverse, key=key)
        T, plan = xs.shape[0], segments(cell, params, xs)
        gradient = "JAX's gradient, for it has no backward" if cell.backward is None else "its hand-written backward"
        whole = plan.steps >= T
        cut = f"T = {T} at once" if whole else f"{-(-T // plan.steps)} segments of {plan.steps} steps"
        direct = "; without gradients by its `direct`" if runs_directly(cell, params, xs) else ""
        lines.append(f"cell of size {cell.size}: kernels.bptt, by {gradient}; {cut}: {plan.reason}{direct}")
        return scan(cell, params, carry, xs)

    jax.eval_shape(run, cell, params, xs)
    return "\n".join(lines)
