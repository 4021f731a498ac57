"""Bidirectional recurrent nets (Schuster & Paliwal 1997): each step sees the whole sequence.

→y = unroll(forward, x)        ←y = unroll(backward, x, reverse)
y = [→y, ←y]  or  →y + ←y  or  ½ (→y + ←y)  or  →y ⊙ ←y
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq.typing import Carry, Cell, Composite, Params


class Bidirectional(NamedTuple):
    """The params or the carries of the two directions. The last carry of `backward` belongs to the first step."""

    forward: Params | Carry
    backward: Params | Carry


def bidirectional(
    forward: Cell | Composite, backward: Cell | Composite | None = None, *, merge: str = "concat"
) -> Composite:
    """Returns the net that reads every sequence in both directions. Params and carry are `Bidirectional`.

    With masks, each sequence is reversed within its own steps; with resets, within its own borders. It has no `step`.

    Args:
      forward, backward: the nets of the two directions. A `backward` of None: the same as `forward`, with its own
        params.
      merge: "concat": the features of `forward`, then those of `backward`. If the sizes are equal: "sum", "mean", or
        "mul" (the product).

    Raises:
      TypeError, ValueError: an argument is neither a cell nor a composite, `merge` is unknown, or the sizes cannot be
        merged.

    >>> net = bidirectional(jaxseq.lstm(4))
    >>> params = net.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]), mask=jaxseq.lengths_to_mask([5, 3], 5))
    >>> carry.backward.c.shape, ys.shape
    ((2, 4), (5, 2, 8))
    """
    check.net(forward, "forward")
    if backward is None:
        backward = forward
    check.net(backward, "backward")
    check.one_of("merge", merge, tuple(_MERGES))
    if merge != "concat" and forward.size != backward.size:
        raise ValueError(f"`merge` {merge!r} needs outputs of equal sizes; got {forward.size} and {backward.size}")
    return _bidirectional(forward, None if backward is forward else backward, merge)


_MERGES = {
    "concat": lambda ys, zs: jnp.concatenate([ys, zs], axis=-1),
    "sum": lambda ys, zs: ys + zs,
    "mean": lambda ys, zs: (ys + zs) / 2,
    "mul": lambda ys, zs: ys * zs,
}


@factory
def _bidirectional(forward, backward, merge):
    backward = forward if backward is None else backward

    def init(key, in_size, dtype=None):
        keys = jax.random.split(key)
        return Bidirectional(forward.init(keys[0], in_size, dtype), backward.init(keys[1], in_size, dtype))

    def carry(params, batch_shape=()):
        return Bidirectional(forward.carry(params.forward, batch_shape), backward.carry(params.backward, batch_shape))

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        keys = (None, None) if key is None else jax.random.split(key)
        flags = {"mask": mask, "reset": reset}
        ahead, ys = run(forward, params.forward, xs, carry.forward, reverse=reverse, key=keys[0], **flags)
        back, zs = run(backward, params.backward, xs, carry.backward, reverse=not reverse, key=keys[1], **flags)
        return Bidirectional(ahead, back), _MERGES[merge](ys, zs)

    size = forward.size + backward.size if merge == "concat" else forward.size
    return Composite(size, init, carry, unroll)
