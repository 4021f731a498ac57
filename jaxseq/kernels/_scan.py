"""The plain loop, differentiated by JAX: the reference that the other kernels are held against."""

import functools

import jax

from jaxseq.typing import Carry, Cell, Inputs, Params


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def scan(cell: Cell, params: Params, carry: Carry, xs: Inputs, *, reverse: bool = False) -> tuple[Carry, jax.Array]:
    """Runs `cell` by `jax.lax.scan`, its projection hoisted; differentiable by JAX in reverse and forward mode."""
    us = cell.project(params, xs)
    return jax.lax.scan(lambda carry, u: cell.step(params, carry, u), carry, us, reverse=reverse)
