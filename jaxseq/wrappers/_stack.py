"""Deep recurrent nets (El Hihi & Bengio 1995; Graves 2013): each layer reads the outputs of the one below.

    y^0 = x,    y^l = unroll(cell^l, y^{l-1}),    y = y^N

Each layer runs over the whole sequence before the next one starts, so its projection is a single matmul. JAX traces and
lowers equal layers only once.
"""

import jax

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._unroll import step as step_net
from jaxseq.typing import Cell, Composite


def stack(*cells: Cell | Composite) -> Composite:
    """Returns the net that feeds each layer's outputs to the next. Params and carry are tuples, one entry per layer.

    It has a `step` if every layer has one.

    Args:
      cells: one or more cells or composites, in order from the inputs to the outputs.

    Raises:
      TypeError, ValueError: an argument is neither a cell nor a composite, or there is none.

    >>> net = stack(jaxseq.lstm(8), jaxseq.gru(4))
    >>> params = net.init(jax.random.key(0), 3)
    >>> (first, second), ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]))
    >>> first.c.shape, second.shape, ys.shape
    ((2, 8), (2, 4), (5, 2, 4))
    """
    if not cells:
        raise ValueError("`cells` must be at least one cell; got none")
    if isinstance(cells[0], list) or type(cells[0]) is tuple:
        raise TypeError("`cells` must be separate arguments; got one list or tuple. Write stack(*cells).")
    for place, cell in enumerate(cells):
        check.net(cell, f"cells[{place}]")
    return _stack(*cells)


@factory
def _stack(*cells):
    def init(key, in_size, dtype=None):
        sizes = [in_size, *(cell.size for cell in cells[:-1])]
        keys = jax.random.split(key, len(cells))
        return tuple(cell.init(key, size, dtype) for cell, key, size in zip(cells, keys, sizes, strict=True))

    def carry(params, batch_shape=()):
        return tuple(cell.carry(layer, batch_shape) for cell, layer in zip(cells, params, strict=True))

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        keys = [None] * len(cells) if key is None else jax.random.split(key, len(cells))
        last = []
        for cell, layer, start, key in zip(cells, params, carry, keys, strict=True):
            end, xs = run(cell, layer, xs, start, mask=mask, reset=reset, reverse=reverse, key=key)
            last.append(end)
        return tuple(last), xs

    def step(params, carry, x):
        after = []
        for cell, layer, before in zip(cells, params, carry, strict=True):
            new, x = step_net(cell, layer, before, x)
            after.append(new)
        return tuple(after), x

    causal = all(cell.step is not None for cell in cells)
    return Composite(cells[-1].size, init, carry, unroll, step if causal else None)
