"""Zoneout (Krueger et al. 2017): at random, parts of the carry keep their value of the step before.

    h_t = z_h ⊙ h_{t-1} + (1 - z_h) ⊙ h̃_t        c_t = z_c ⊙ c_{t-1} + (1 - z_c) ⊙ c̃_t        z ~ Bernoulli(rate)

with h̃_t, c̃_t what the cell gives. Without a key z is its mean, the rate.
"""

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._around import around
from jaxseq._carry_parts import parts_of, replace_parts
from jaxseq._factory import factory
from jaxseq.cells import SlstmCarry
from jaxseq.recurrences import Diagonal
from jaxseq.typing import Cell


def zoneout(cell: Cell, *, h: float = 0.0, c: float = 0.0) -> Cell:
    """Returns `cell` with zoneout, at random where `unroll` is given a key, in the mean without one.

    Params and carry are the cell's. With `h`, the outputs are the new `h` in place of the cell's own: give it only to
    cells whose outputs are their h, as those of the stock cells are.

    Args:
      cell: a Cell whose carry is an array, which is `h`, or a NamedTuple or dict with the parts named here.
      h, c: the rates at which each of these parts keeps its entries.

    Raises:
      TypeError, ValueError: a rate is not a number in [0, 1), `cell` not a Cell. `init` and `unroll` raise ValueError
        for a carry without the parts named, and for outputs that are not of the size of `h`.

    >>> cell = zoneout(jaxseq.lstm(4), h=0.05, c=0.5)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(cell, params, jnp.ones([5, 2, 3]), key=jax.random.key(1))
    """
    check.inside("zoneout", cell)
    h, c = check.rate("h", h), check.rate("c", c)
    return _zoneout(cell, h, c) if h or c else cell


@factory
def _zoneout(cell, h, c):
    held = {name: rate for name, rate in (("h", h), ("c", c)) if rate}

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        carry = cell.carry(params)
        parts = parts_of("zoneout", carry)
        if "c" in held and isinstance(carry, SlstmCarry):
            raise ValueError(
                "`zoneout` of `c` is not for the sLSTM: its c and n are scaled by their own step's exp(-m)"
            )
        for name in held:
            if name not in parts:
                raise ValueError(f"`zoneout` of `{name}` needs a carry with it; this one has {', '.join(parts)}")
        h = parts["h"] if "h" in held else None
        if h is not None and (h.shape != (cell.size,) or jnp.iscomplexobj(h)):
            raise ValueError(f"`zoneout` of `h` needs outputs that are h; h is {check.shaped(h)}, y ({cell.size},)")
        return params

    def draw(key, params, xs):
        steps, *batch = xs.shape[:-1]
        carry = jax.eval_shape(lambda params: cell.carry(params, tuple(batch)), params)
        shapes = {name: parts_of("zoneout", carry)[name].shape for name in held}
        keys = jax.random.split(key, len(held))
        return {
            name: jax.random.bernoulli(key, held[name], (steps, *shapes[name]))
            for name, key in zip(held, keys, strict=True)
        }

    def hold(zones, _, before, new, y):
        old, parts = parts_of("zoneout", before), parts_of("zoneout", new)
        mixed = {name: mix(zones, name, old[name], parts[name]) for name in held}
        return replace_parts(new, mixed), mixed["h"].astype(y.dtype) if "h" in held else y

    def mix(zones, name, old, new):
        if zones is None:
            return (held[name] * old + (1 - held[name]) * new).astype(new.dtype)
        return jnp.where(zones[name], old, new)

    def element(zones, _, steps):
        """The steps z h + (1 - z) (a h + b)."""
        if not isinstance(steps, Diagonal):
            raise ValueError(f"`zoneout` of `h` needs a linear cell's steps to be diagonal; got {type(steps).__name__}")
        a, b = steps.whole()
        if zones is None:
            return Diagonal(held["h"] + (1 - held["h"]) * a, (1 - held["h"]) * b)
        return Diagonal(jnp.where(zones["h"], 1, a), jnp.where(zones["h"], 0, b))

    def read(zones, read, observed):
        return observed.astype(read(observed).dtype)

    if cell.linear is not None and [*held] == ["h"]:
        wrapped = around(cell, draw=draw, leave=hold, element=element, read=read)
    else:  # an h that is held is remembered, in an LSTM too
        wrapped = around(cell, draw=draw, leave=hold, hears=True if "h" in held else None)
    return wrapped._replace(init=init)
