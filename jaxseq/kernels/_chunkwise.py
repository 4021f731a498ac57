"""Runs a linear cell in chunks of steps, each by matrix products (Yang 2023; Dao 2024).

Within a chunk, every step sees the earlier steps by scores, as in attention. It sees the steps before the chunk through
the state at the chunk's border. So the work is matrix products, and only one of `steps` states is computed. The
gradient stores only those states.
"""

import jax

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._meshes import on_meshes
from jaxseq.kernels._linear import plan_linear, refuse_nonlinear, run_linear
from jaxseq.kernels._plan import register
from jaxseq.typing import Kernel


def chunkwise(steps: int = 64) -> Kernel:
    """Returns the kernel that runs linear cells chunk by chunk. It is for cells with a matrix as their state.

    For a diagonal cell, the chunks are associative scans. Supports reverse mode, to any order.

    Args:
      steps: the number of steps in a chunk, counted from the first step processed. The last chunk is padded.

    Raises:
      TypeError, ValueError: `steps` is not a positive int. The kernel raises ValueError for a cell that is not linear.

    >>> cell = jaxseq.gla(8, heads=2, key_size=4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(cell, params, jnp.ones([100, 2, 3]), kernel=chunkwise())
    >>> ys.shape, carry.shape
    ((100, 2, 8), (2, 2, 4, 4))
    """
    return _chunkwise(check.positive_int("steps", steps))


@factory
def _chunkwise(steps):
    name = f"kernels.chunkwise({steps})"

    def kernel(cell, params, carry, xs, *, reverse=False):
        refuse_nonlinear(name, cell)
        return run_linear(cell, params, carry, xs, lambda element, carry: element.in_chunks(carry, steps), reverse)

    kernel.__name__ = kernel.__qualname__ = f"chunkwise({steps})"
    compiled = jax.jit(on_meshes(kernel), static_argnames=("cell", "reverse"))
    return register(compiled, plan_linear(compiled, name, steps, "as asked for"))
