"""A learned initial carry: the carry that sequences start from is a parameter, one for all rows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._around import around
from jaxseq._factory import factory
from jaxseq.typing import Carry, Cell, Params


class LearnedCarry(NamedTuple):
    """The params of the cell, and the carry `[...]` without batch axes that its sequences start from."""

    params: Params
    carry: Carry


def learned_carry(cell: Cell) -> Cell:
    """Returns `cell` with an initial carry that is learned, at first the cell's own; params are `LearnedCarry`.

    It stands at the start of every sequence: where `unroll` is given no carry, and after each reset.

    Raises:
      TypeError: `cell` is not a Cell; put it around the cells of a composite.

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
        return LearnedCarry(params, cell.carry(params))

    def carry(params, batch_shape=()):
        if not batch_shape:  # a copy, so that who donates a carry keeps the params
            return jax.tree.map(jnp.copy, params.carry)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params.carry)

    return around(cell, init=init, carry=carry)
