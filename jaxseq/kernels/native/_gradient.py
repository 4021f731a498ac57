"""The gradient of a cell: of one step, for a native loop, and of all steps, for JAX.

    δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    δparams += collect(saved_t, δu_t) + δparams of the projection        δx_t = δx of the projection

A cell without its own backward gets JAX's gradient of a step that is recomputed from its carry and input.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import _cotangents
from jaxseq.kernels._rows import of_rows
from jaxseq.kernels._wide import widened
from jaxseq.typing import Backward, Cell


class Gradient:
    """The hand-written gradient of a cell."""

    def __init__(self, cell: Cell, backward: Backward):
        self.cell, self.backward = cell, backward

    def fwd(self, params: Any, carry: Any, u: Any) -> Any:
        """Returns a step's carry, its output, and what it saves."""
        return self.backward.fwd(params, carry, u)

    def saving(self, params: Any, carry: Any, u: Any) -> Any:
        """Returns a step in the form for a scan. Its outs are the output and what it saves."""
        after, y, saved = self.fwd(params, carry, u)
        return after, (y, saved)

    def bwd(self, params: Any, saved: Any, d_carry: Any, d_y: jax.Array) -> Any:
        """Returns the cotangents of a step's carry, and the cotangents of its input for `of_params`."""
        return self.backward.bwd(params, saved, d_carry, d_y)

    def of_params(self, params: Any, saved: Any, xs: Any, d_us: Any) -> Any:
        """Returns the cotangents of params and xs, for any leading axes of steps and rows."""
        if self.backward.project is None:
            d_params, d_xs = _cotangents.pull_back(self.cell.project, (params, xs), d_us)
        else:
            d_params, d_xs = self.backward.project(params, xs, d_us)
        return _cotangents.add(self.backward.collect(params, saved, d_us), d_params), d_xs

    def of_step(self, params: Any, d_carry: Any, inputs: Any, wants_xs: bool) -> Any:
        """Returns the cotangents of the carry, x and params of one step."""
        saved, x, d_y = inputs
        d_before, d_u = self.bwd(params, saved, d_carry, d_y)
        d_params, d_x = self.of_params(params, saved, x, d_u)
        return d_before, d_x if wants_xs else None, d_params

    def of_all(self, params: Any, d_carry: Any, inputs: Any, reverse: bool, wants_xs: bool) -> Any:
        """Returns the cotangents of the carry, xs and params of all steps."""
        saved, xs, d_ys = inputs

        def step(d_carry, of_step):
            return self.bwd(params, of_step[0], d_carry, of_step[1])

        d_carry, d_us = jax.lax.scan(step, d_carry, (saved, d_ys), reverse=not reverse)
        d_params, d_xs = self.of_params(params, saved, xs, d_us)
        return d_carry, d_xs if wants_xs else None, d_params


class _ByJax(Gradient):
    """The gradient of a cell that has no backward. The δu of its `bwd` also contains the step's cotangents."""

    def __init__(self, cell):
        self.cell = cell

    def fwd(self, params, carry, u):
        after, y = self.cell.step(params, carry, u)
        return after, y, (carry, u)

    def bwd(self, params, saved, d_carry, d_y):
        d_before, d_u = _cotangents.pull_back(lambda *step: self.cell.step(params, *step), saved, (d_carry, d_y))
        return d_before, (d_u, (d_carry, d_y))

    def of_params(self, params, saved, xs, d_us):
        """Returns the cotangents of all steps, summed in at least float32."""
        wide, narrow = widened(params)
        rows = jax.tree.unflatten(jax.tree.structure(params), [0 if flag else None for flag in of_rows(params)])

        def add(total, of_step):
            saved, d_results = of_step
            step = jax.vmap(self.cell.step, (rows, 0, 0))
            (d_params,) = _cotangents.pull_back(lambda params: step(narrow(params), *saved), (wide,), d_results)
            return _cotangents.add(total, d_params), None

        start = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if _is_float(leaf) else None, wide)
        total, _ = jax.lax.scan(add, start, (saved, d_us[1]))
        of_step = jax.tree.map(
            lambda d, leaf: None if d is None else d.astype(leaf.dtype), total, params, is_leaf=_is_none
        )
        d_params, d_xs = _cotangents.pull_back(self.cell.project, (params, xs), d_us[0])
        return _cotangents.add(of_step, d_params), d_xs

    def of_step(self, params, d_carry, inputs, wants_xs):
        (carry, u), x, d_y = inputs
        d_step, d_before, d_u = _cotangents.pull_back(self.cell.step, (params, carry, u), (d_carry, d_y))
        d_project, d_x = _cotangents.pull_back(self.cell.project, (params, x), d_u)
        return d_before, d_x if wants_xs else None, _cotangents.add(d_step, d_project)


def gradient_of(cell: Cell) -> Gradient:
    """Returns the gradient of a cell: hand-written, or JAX's."""
    return _ByJax(cell) if cell.backward is None else Gradient(cell, cell.backward)


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_none(leaf):
    return leaf is None
