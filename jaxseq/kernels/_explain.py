"""Describes how a net will run, in words, and how many bytes it will need."""

import jax

from jaxseq import check
from jaxseq.kernels._bytes import array_bytes
from jaxseq.kernels._choice import default
from jaxseq.kernels._plan import plan_net
from jaxseq.typing import AnyArray, Cell, Composite, Kernel, Params


def explain(
    cell: Cell | Composite, params: Params, xs: AnyArray | jax.ShapeDtypeStruct, *, kernel: Kernel | None = None
) -> str:
    """Describes how `jaxseq.unroll` runs a net on this machine, with one line for each of its cells.

    The default kernel of a cell, and the number of segments of time, depend on sizes, dtype and platform
    (docs/performance.md). Masks and resets are left out: their few bytes matter only near a threshold. A cell of a
    composite is named by the place of its carry in the net's carry.

    Args:
      cell: a Cell or a Composite.
      params: its params; shapes are enough (`jax.eval_shape`).
      xs: the inputs `[T, B, D]`, or their shape and dtype.
      kernel: as for `jaxseq.unroll`.

    Raises:
      TypeError, ValueError: `cell` is neither, `kernel` takes other arguments than a kernel, or `params` and `xs` do
        not fit, as for `jaxseq.unroll`.

    >>> cell = jaxseq.lstm(128)
    >>> params = cell.init(jax.random.key(0), 64)
    >>> print(explain(cell, params, jnp.zeros([16, 8, 64])))
    lstm(128): kernels.native, by its hand-written backward; T = 16, not cut: ...
    """
    lines = [f"{part.place} {part.cell!r}: {part.plan}" for part in _parts(cell, params, xs, kernel)]
    return "\n".join(line.lstrip() for line in lines)


def peak_bytes(
    cell: Cell | Composite, params: Params, xs: AnyArray | jax.ShapeDtypeStruct, *, kernel: Kernel | None = None
) -> int:
    """Predicts the peak bytes of a training step: arguments, temporaries, and the gradients of params.

    The step is the gradient of a loss of all ys. Nothing is compiled or run. On CPUs the prediction was within 20 % of
    what XLA reports for the LSTM, GRU and RNN, at every size of the benchmarks. tests/test_kernel_choice.py checks some
    of these. The bytes of a net's layers are added up, because what they keep between the passes is alive at the same
    time. For nets of two and three layers the sum was within 10 % for steps of hundreds of MiB. For steps of 10 to
    100 MiB it was up to 50 % too large, because a layer frees a considerable part of its memory early. For steps of 1
    or 2 MiB it is up to 60 % too large, even for one cell.

    Args:
      cell: a Cell or a Composite.
      params: its params; shapes are enough (`jax.eval_shape`).
      xs: the inputs `[T, B, D]`, or their shape and dtype.
      kernel: as for `jaxseq.unroll`. For a kernel that is not registered, the result counts only what JAX keeps between
        the passes. That may be half of what XLA reports, because the passes hold more. `kernels.register` gives a
        kernel a plan with its own count of bytes.

    Raises:
      TypeError, ValueError: `cell` is neither, `kernel` takes other arguments than a kernel, or `params` and `xs` do
        not fit, as for `jaxseq.unroll`.

    >>> cell = jaxseq.lstm(64)
    >>> params = cell.init(jax.random.key(0), 16)
    >>> xs = jax.ShapeDtypeStruct([4096, 32, 16], jnp.float32)
    >>> from jaxseq.kernels import bptt, native, remat
    >>> [peak_bytes(cell, params, xs, kernel=kernel) >> 20 for kernel in (native, bptt, remat())]
    [264, 300, 75]
    """
    held = sum(part.plan.held() for part in _parts(cell, params, xs, kernel))
    return array_bytes(xs) + 2 * array_bytes(params) + held


def _parts(cell, params, xs, kernel):
    check.net(cell)
    check.kernel(kernel)
    check.representable((params, xs), ("params", "xs"))
    check.shape_of_inputs("xs", "T, B, D", xs)
    check.parameters(cell, params, xs.shape[-1])
    return plan_net(default(kernel), cell, params, xs)
