"""What is told of a net before it runs: how, in words, and in how many bytes."""

import jax

from jaxseq import check
from jaxseq.kernels._bytes import array_bytes
from jaxseq.kernels._choice import default
from jaxseq.kernels._plan import plan_net
from jaxseq.typing import Cell, Composite, Kernel, Params


def explain(cell: Cell | Composite, params: Params, xs: jax.Array, *, kernel: Kernel | None = None) -> str:
    """Says how `jaxseq.unroll` runs a net on this machine, a line for each of its cells.

    What depends on sizes, dtype and platform is which kernel runs a cell where none is asked for, and into how many
    segments time is cut (docs/performance.md). Masks and resets are left out: their few bytes count only next to a
    threshold. The cells of a composite are told apart by where their carries stand in the net's.

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


def peak_bytes(cell: Cell | Composite, params: Params, xs: jax.Array, *, kernel: Kernel | None = None) -> int:
    """Predicts the bytes that a training step holds at most: arguments, temporaries, and the gradients of params.

    The step is the gradient of a loss of all ys; nothing is compiled or run. On CPUs it was within 20 % of what XLA
    reports for the LSTM, GRU and RNN at every size of the benchmarks; tests/test_kernel_choice.py holds some to that.
    The bytes of a net's layers are added up, as those between its passes live at once: it was within 10 % for nets of
    two and three layers in steps of hundreds of MiB, and up to half too much in steps of 10 to 100 MiB, where what one
    layer no longer needs is a part worth counting. Of steps of 1 or 2 MiB, one cell's too, it says up to 60 % too much.

    Args:
      cell: a Cell or a Composite.
      params: its params; shapes are enough (`jax.eval_shape`).
      xs: the inputs `[T, B, D]`, or their shape and dtype.
      kernel: as for `jaxseq.unroll`. Of one of your own it is what JAX keeps between the passes, down to half of what
        XLA reports, as the passes hold more; `kernels.register` gives it a plan, with bytes of its own.

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
