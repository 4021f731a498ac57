"""The kernel `native`: backpropagation through time as in `bptt`, with native loops.

    forward   carry_t, y_t, saved_t = fwd(carry_{t-1}, project(x_t))          projects inside the loop: no us are stored
    backward  δcarry_{t-1}, δu_t = bwd(saved_t, δcarry_t, δy_t)
    after it  δparams, δxs

On platforms other than a CPU, in `jax.export`, and for second derivatives, the loops are XLA's.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxseq._meshes import on_meshes
from jaxseq.kernels._bptt import gradients_or_blame
from jaxseq.kernels._rows import rows_are_batch
from jaxseq.kernels._segments import by_segments
from jaxseq.kernels.native._gradient import gradient_of
from jaxseq.kernels.native._plan import batch_axes, flattened, plan_native, plan_values, unflattened
from jaxseq.kernels.native._reverse import reverse_pass
from jaxseq.kernels.native._scan import scan, whole
from jaxseq.typing import Carry, Cell, Inputs, Params


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def native(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """See `jaxseq.kernels.native`."""
    return _in_segments(params, carry, xs, cell=cell, reverse=reverse)


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def native_values(
    cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False
) -> tuple[Carry, jax.Array]:
    """See `jaxseq.kernels.native.native_values`."""
    plan = plan_values(cell, params, xs)
    lead = batch_axes(cell, params, carry, xs)

    def run(params, carry, xs, _is_first) -> Any:
        last, ys = scan(cell.step, cell.project, params, carry, xs, reverse)
        return last, whole(ys)

    carry, ys = by_segments(run, *flattened(params, carry, xs, lead), plan.segment, reverse)
    return unflattened(carry, ys, lead)


@rows_are_batch
def _in_segments(params, carry, xs, *, cell, reverse):
    plan = plan_native(cell, params, xs)
    lead = batch_axes(cell, params, carry, xs)

    def run(params, carry, xs, _is_first) -> Any:
        return _loop(cell, reverse, params, carry, xs)

    carry, ys = by_segments(run, *flattened(params, carry, xs, lead), plan.segment, reverse)
    return unflattened(carry, ys, lead)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop(cell, reverse, params, carry, xs):
    last, ys = scan(cell.step, cell.project, params, carry, xs, reverse)
    return last, whole(ys)


def _forward(cell, reverse, params, carry, xs):
    wants_xs = any(leaf.perturbed for leaf in jax.tree.leaves(xs))
    params, carry, xs = jax.tree.map(lambda leaf: leaf.value, (params, carry, xs))
    last, (ys, saved) = scan(gradient_of(cell).saving, cell.project, params, carry, xs, reverse)
    return (last, whole(ys)), (params, xs, saved, _Wanted(wants_xs))


@jax.tree_util.register_static
class _Wanted(NamedTuple):
    """The parts of the gradient that are requested."""

    xs: bool


def _backward(cell, reverse, residuals, cotangents):
    (params, xs, saved, wanted), cotangents = residuals, jax.tree.map(_filled_in, cotangents)

    def run():
        return reverse_pass(gradient_of(cell), params, saved, xs, cotangents, reverse, wanted.xs)

    if cell.backward is None:
        return run()
    return gradients_or_blame(run, cell, params, xs, lambda: whole(saved), cotangents, wanted.xs)


def _filled_in(d: Any) -> jax.Array | None:
    """Returns a cotangent as an array, or None if there is no gradient."""
    if d.dtype == jax.dtypes.float0:
        return None
    aval: Any = d
    return jnp.zeros(aval.shape, aval.dtype) if isinstance(d, SymbolicZero) else d


_loop.defvjp(_forward, _backward, symbolic_zeros=True)
