"""Kernels: ways to run a cell over time, `(cell, params, carry, xs, *, reverse) -> (carry, ys)`.

All kernels return the same values, and all except `truncated` the same gradients. They differ in speed and memory.
`native` runs loops of machine code on a CPU, by llvmlite. `associative` and `chunkwise` run many steps of a linear cell
at once, and `newton` those of any cell. Any function with this signature is a kernel. Kernels do not handle masks and
resets: `jaxseq.unroll` gives them a cell that does. `explain` describes how a net is run. `peak_bytes` predicts the
memory of a training step. If you write a kernel, `register` can tell `explain` how it makes its `Plan`.
"""

from jaxseq.kernels._associative import associative as associative
from jaxseq.kernels._bptt import bptt as bptt
from jaxseq.kernels._chunkwise import chunkwise as chunkwise
from jaxseq.kernels._cudnn import cudnn as cudnn
from jaxseq.kernels._explain import explain as explain
from jaxseq.kernels._explain import peak_bytes as peak_bytes
from jaxseq.kernels._newton import newton as newton
from jaxseq.kernels._plan import Plan as Plan
from jaxseq.kernels._plan import register as register
from jaxseq.kernels._remat import remat as remat
from jaxseq.kernels._scan import scan as scan
from jaxseq.kernels._sequence_parallel import sequence_parallel as sequence_parallel
from jaxseq.kernels._truncated import truncated as truncated
from jaxseq.kernels.native import native as native
