"""Kernels: ways to run a cell over time, `(cell, params, carry, xs, *, reverse) -> (carry, ys)`.

They agree on every value and, but for `truncated`, on every gradient, and differ in speed and memory. `native` has
loops of machine code on a CPU, by llvmlite. `associative` and `chunkwise` run many steps of a linear cell at once,
`newton` those of any cell. A function of your own with this signature is a kernel too. They know neither masks nor
resets: `jaxseq.unroll` hands them a cell that does. `explain` says how a net is run, `peak_bytes` predicts what a
training step holds; a kernel of your own may `register` how it makes its `Plan`.
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
