"""A net that reads every sequence from its end to its start.

y = unroll(cell, x, reverse), at the steps of x
"""

from jaxseq import check
from jaxseq._factory import factory
from jaxseq.typing import Cell, Composite


def backwards(cell: Cell | Composite) -> Composite:
    """Returns the net that reads sequences backwards. Each output is at its own step; params and carry are the cell's.

    It does what `unroll(..., reverse=True)` does, as a net: for example one direction of `bidirectional`, or a layer of
    a stack. With masks, each sequence is reversed within its own steps. It has no `step`.

    Raises:
      TypeError: `cell` is neither a cell nor a composite.

    >>> net = backwards(jaxseq.gru(4))
    >>> params = net.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]))
    >>> bool(jnp.all(carry == ys[0]))                  # the last step that it reads is the first
    True
    """
    check.net(cell)
    return _backwards(cell)


@factory
def _backwards(cell):
    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        return run(cell, params, xs, carry, mask=mask, reset=reset, reverse=not reverse, key=key)

    return Composite(cell.size, cell.init, cell.carry, unroll)
