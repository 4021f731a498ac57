"""The backward of a cell that has none by hand: JAX's, of one step, which is done again from carry and input."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import _cotangents
from jaxseq.kernels._wide import widened
from jaxseq.kernels.native._scan import of_rows
from jaxseq.typing import Backward, Cell


def backward_of(cell: Cell) -> Backward:
    """Returns the cell's own backward, or one by JAX, for rows and steps that lead as `[T, B, ...]`.

    JAX's `bwd` gives for δu also what came in, from which `collect` takes the gradient of the weights.
    """
    return _Derived(cell).functions() if cell.backward is None else cell.backward


class _Derived:
    def __init__(self, cell):
        self.cell = cell

    def functions(self):
        return Backward(self.fwd, self.bwd, self.collect, self.project)

    def fwd(self, params, carry, u):
        after, y = self.cell.step(params, carry, u)
        return after, y, (carry, u)

    def bwd(self, params, saved, d_carry, d_y):
        d_before, d_u = _cotangents.pull_back(lambda *step: self.cell.step(params, *step), saved, (d_carry, d_y))
        return d_before, (d_u, (d_carry, d_y))

    def collect(self, params, saved, d_us):
        """The sum of all steps' gradients, in float32 at least."""
        wide, narrow = widened(params)
        rows = jax.tree.unflatten(jax.tree.structure(params), [0 if flag else None for flag in of_rows(params)])

        def add(total, of_step):
            saved, d_results = of_step
            step = jax.vmap(self.cell.step, (rows, 0, 0))
            (d_params,) = _cotangents.pull_back(lambda params: step(narrow(params), *saved), (wide,), d_results)
            return _cotangents.add(total, d_params), None

        start = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if _is_float(leaf) else None, wide)
        total, _ = jax.lax.scan(add, start, (saved, d_us[1]))
        return jax.tree.map(
            lambda d, leaf: None if d is None else d.astype(leaf.dtype), total, params, is_leaf=_is_none
        )

    def project(self, params, xs, d_us):
        return _cotangents.pull_back(self.cell.project, (params, xs), d_us[0])


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_none(leaf):
    return leaf is None
