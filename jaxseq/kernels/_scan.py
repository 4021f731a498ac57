"""The plain loop, differentiated by JAX. It is the reference for the other kernels."""

import functools

import jax

from jaxseq._factory import named
from jaxseq._meshes import on_meshes
from jaxseq.kernels._bytes import array_bytes, step_bytes
from jaxseq.kernels._plan import Plan, register
from jaxseq.kernels._wide import widened
from jaxseq.typing import Carry, Cell, Inputs, Params


@named
@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
@on_meshes
def scan(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` by `jax.lax.scan`, with the projection outside the loop. Supports reverse and forward mode."""
    wide, narrow = widened(params)
    us = cell.project(params, xs)
    return jax.lax.scan(lambda carry, u: cell.step(narrow(wide), carry, u), carry, us, reverse=reverse)


def scan_bytes(cell: Cell, params: Params, xs: Inputs) -> int:
    """Returns the bytes of JAX's gradient of the loop: values and cotangents of ys and us, and what each step saves."""
    T, step = jax.tree.leaves(xs)[0].shape[0], step_bytes(cell, params, xs, by_jax=True)
    return T * (step.saved + 2 * step.ys + 2 * step.us) + array_bytes(params)


def _plan(cell, params, xs):
    T = jax.tree.leaves(xs)[0].shape[0]
    return Plan("kernels.scan", "JAX's gradient", T, T, "the plain loop", lambda: scan_bytes(cell, params, xs))


register(scan, _plan)
