"""Residual connections (He et al. 2016; between recurrent layers: Wu et al. 2016).

y = x + cell(x)
"""

from jaxseq import check, masking
from jaxseq._factory import factory
from jaxseq._unroll import step as step_net
from jaxseq.typing import Cell, Composite


def residual(cell: Cell | Composite) -> Composite:
    """Returns the net y = x + cell(x). Params and carry are the cell's.

    The inputs must have `cell.size` features. If they do not, put a cell of that size before it, without residual.

    Raises:
      TypeError: `cell` is neither a cell nor a composite. `init` and `unroll` raise ValueError if the sizes differ.

    >>> net = jaxseq.stack(jaxseq.gru(4), residual(jaxseq.gru(4)), residual(jaxseq.gru(4)))
    >>> carry, ys = jaxseq.unroll(net, net.init(jax.random.key(0), 3), jnp.ones([5, 2, 3]))
    >>> ys.shape
    (5, 2, 4)
    """
    check.net(cell)
    return _residual(cell)


@factory
def _residual(cell):
    def init(key, in_size, dtype=None):
        if in_size != cell.size:
            raise ValueError(
                f"`residual` adds x to the outputs, so x must have the cell's {cell.size} features; got {in_size}. "
                "Put a cell of that size before it."
            )
        return cell.init(key, in_size, dtype)

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        carry, ys = run(cell, params, xs, carry, mask=mask, reset=reset, reverse=reverse, key=key)
        return carry, ys + masking.keep(mask, xs)

    def step(params, carry, x):
        carry, y = step_net(cell, params, carry, x)
        return carry, y + x

    return Composite(cell.size, init, cell.carry, unroll, None if cell.step is None else step)
