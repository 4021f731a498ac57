"""Kernels: ways to run a cell over time, `(cell, params, carry, xs, *, reverse) -> (carry, ys)`.

They agree on every value and, but for `truncated`, on every gradient, and differ in speed and memory. A function of
your own with this signature is a kernel too. They know neither masks nor resets: `jaxseq.unroll` hands them a cell that
does.
"""

from jaxseq.kernels._bptt import bptt as bptt
from jaxseq.kernels._remat import remat as remat
from jaxseq.kernels._scan import scan as scan
from jaxseq.kernels._truncated import truncated as truncated

__all__ = ["bptt", "remat", "scan", "truncated"]
