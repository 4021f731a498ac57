"""Zoneout (Krueger et al. 2017): random parts of the carry keep their value from the previous step.

    h_t = z_h ⊙ h_{t-1} + (1 - z_h) ⊙ h̃_t        c_t = z_c ⊙ c_{t-1} + (1 - z_c) ⊙ c̃_t        z ~ Bernoulli(rate)

h̃_t and c̃_t are the cell's results. Without a key, z is its mean, the rate.
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
    """Returns `cell` with zoneout: random if `unroll` gets a key, otherwise the mean. Params and carry are the cell's.

    With `h`, the outputs are the new `h`, not the cell's own outputs. Use it only for cells whose outputs are their h,
    as in this library's cells.

    Args:
      cell: a Cell whose carry is an array (the part `h`), or a NamedTuple or dict with the parts named here.
      h, c: the rates at which the entries of these parts keep their values.

    Raises:
      TypeError, ValueError: a rate is not a number in [0, 1), or `cell` is not a Cell. `init` and `unroll` raise
        ValueError if the carry has no such part, or if the outputs do not have the size of `h`.

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
                "`zoneout` cannot act on `c` of the sLSTM: its c and n are scaled by exp(-m), which differs by step"
            )
        for name in held:
            if name not in parts:
                raise ValueError(f"`zoneout` of `{name}` needs a carry with `{name}`; this one has {', '.join(parts)}")
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
        """Returns the steps z h + (1 - z) (a h + b)."""
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
    else:  # zoneout makes h part of the memory, in an LSTM too
        wrapped = around(cell, draw=draw, leave=hold, hears=True if "h" in held else None)
    return wrapped._replace(init=init)
