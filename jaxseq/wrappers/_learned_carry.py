"""A learned initial carry: the carry at the start of a sequence is a parameter, shared by all rows of the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._around import around
from jaxseq._factory import factory
from jaxseq.typing import Carry, Cell, Params


class LearnedCarry(NamedTuple):
    """The params of the cell, and its initial carry `[...]`, without batch axes.

    The carry is stored in the dtype of the params. Complex numbers are stored as two real ones, `[..., 2]`, so that
    every optimiser accepts them.
    """

    params: Params
    carry: Carry


def learned_carry(cell: Cell) -> Cell:
    """Returns `cell` with a learned initial carry, which starts as the cell's own. Its params are `LearnedCarry`.

    Every sequence starts from it: if `unroll` gets no carry, and after each reset.

    Raises:
      TypeError: `cell` is not a Cell. In a composite, wrap the cells inside it.

    >>> cell = learned_carry(jaxseq.gru(4))
    >>> params = cell.init(jax.random.key(0), 3)
    >>> def loss(params):
    ...     carry, ys = jaxseq.unroll(cell, params, jnp.ones([5, 2, 3]))
    ...     return jnp.sum(ys)
    >>> jax.grad(loss)(params).carry.shape
    (4,)
    """
    check.inside("learned_carry", cell)
    return _learned_carry(cell)


@factory
def _learned_carry(cell):
    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        floats = [leaf.dtype for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return LearnedCarry(params, jax.tree.map(lambda leaf: _kept(leaf, *floats[:1]), cell.carry(params)))

    def carry(params, batch_shape=()):
        start = jax.tree.map(_taken, params.carry, jax.eval_shape(cell.carry, params.params))
        if not batch_shape:  # a copy, so that donating a carry does not delete the params
            return jax.tree.map(jnp.copy, start)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), start)

    return around(cell, init=init, carry=carry)


def _kept(leaf, dtype=None):
    """Returns a part of the carry as a param of `dtype`. None: its own dtype."""
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    return leaf if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.astype(dtype)


def _taken(param, like):
    """Returns the part of the carry from its param, in the dtype of the cell's own carry."""
    if not jnp.issubdtype(like.dtype, jnp.complexfloating):
        return param.astype(like.dtype)
    wide = param.astype(jnp.finfo(like.dtype).dtype)
    return jax.lax.complex(wide[..., 0], wide[..., 1])
