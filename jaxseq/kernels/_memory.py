"""What a training step holds in memory, from the shapes of what a cell's own functions return.

Of T steps, in segments of K, with the bytes of one step in lower case:

    bptt      T (saved + 3 ys) + 2 K us + 2 params                 K < T: JAX keeps a segment's ys apart from the net's
              T (5/4 saved + 2 ys + xs) + 2 T us + 2 params        all at once: xs are laid out transposed too
    remat     2 T ys + T/K carry + K (saved + 2 us) + params       and T xs more where K does not divide T
    scan      T (saved + 2 ys + 2 us) + params

Twice, because the values and their cotangents live at once; the quarter is what XLA was seen to lay out once more.
On top come the arguments, xs and params, and the gradients of params.
"""

import jax

from jaxseq.kernels._bptt import bptt
from jaxseq.kernels._plan import array_bytes, segments
from jaxseq.kernels._remat import segment_of
from jaxseq.kernels._scan import scan
from jaxseq.kernels._step_bytes import step_bytes
from jaxseq.typing import Cell, Kernel, Params


def peak_bytes(cell: Cell, params: Params, xs: jax.Array, *, kernel: Kernel | None = None) -> int:
    """Predicts the bytes that a training step holds at most: arguments, temporaries, and the gradients of params.

    The step is the gradient of a loss of all ys; nothing is compiled or run. On CPUs it was within 20 % of what XLA
    reports for the LSTM, GRU and RNN at every size of the benchmarks; tests/test_kernel_choice.py holds five to that.

    Args:
      cell: a Cell; for a net add those of its cells, whose saved values live at once.
      params: its params; shapes are enough (`jax.eval_shape`).
      xs: the inputs `[T, B, D]`, or their shape and dtype.
      kernel: `kernels.bptt`, `kernels.scan` or a `kernels.remat(…)`; None: what `jaxseq.unroll` takes.

    Raises:
      TypeError: not a Cell, or another kernel.

    >>> cell = jaxseq.lstm(64)
    >>> params = cell.init(jax.random.key(0), 16)
    >>> xs = jax.ShapeDtypeStruct([4096, 32, 16], jnp.float32)
    >>> from jaxseq.kernels import bptt, remat
    >>> [peak_bytes(cell, params, xs, kernel=kernel) >> 20 for kernel in (bptt, remat())]
    [300, 77]
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"peak_bytes takes a Cell; got {type(cell).__name__}")
    T, weights, inputs = xs.shape[0], array_bytes(params), array_bytes(xs)
    recomputed = segment_of(kernel, cell, params, xs)
    if kernel not in (None, bptt, scan) and recomputed is None:
        raise TypeError(f"peak_bytes knows kernels.bptt, kernels.scan and kernels.remat(…); got {kernel}")
    by_jax = kernel is scan or cell.backward is None
    step = step_bytes(cell, params, xs, by_jax)
    K = segments(cell, params, xs).steps if recomputed is None else recomputed
    if recomputed is not None and K < T:
        held = 2 * T * step.ys + T // K * step.carry + K * (step.saved + 2 * step.us) + weights
        held += inputs if T % K else 0
    elif by_jax:
        held = T * (step.saved + 2 * step.ys + 2 * step.us) + weights
    else:
        held = T * (step.saved + 2 * step.ys) + 2 * min(K, T) * step.us + 2 * weights
        held += T * step.ys if K < T else T * step.saved // 4 + inputs
    return inputs + 2 * weights + held
