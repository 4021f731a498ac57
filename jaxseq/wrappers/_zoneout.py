"""Zoneout (Krueger et al. 2017): at random, parts of the carry keep their value of the step before.

    h_t = z_h ⊙ h_{t-1} + (1 - z_h) ⊙ h̃_t        c_t = z_c ⊙ c_{t-1} + (1 - z_c) ⊙ c̃_t        z ~ Bernoulli(rate)

with h̃_t, c̃_t what the cell gives. Without a key z is its mean, the rate.
"""

import functools

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq.cells import SlstmCarry
from jaxseq.typing import Backward, Cell, Heard
from jaxseq.wrappers._noise import (
    Noisy,
    apart,
    beside,
    draw_inner,
    leading,
    mark,
    named_leaves,
    remembered,
    replace_leaves,
    show,
    show_back,
)


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
    rates = {name: check.rate(name, rate) for name, rate in (("h", h), ("c", c))}
    rates = tuple((name, rate) for name, rate in rates.items() if rate)
    return _zoneout(cell, rates) if rates else cell


@functools.cache
def _zoneout(cell, rates):
    held = dict(rates)

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        carry = cell.carry(params)
        parts = named_leaves("zoneout", carry)
        if "c" in held and isinstance(carry, SlstmCarry):
            raise ValueError(
                "`zoneout` of `c` is not for the sLSTM: its c and n are scaled by their own step's exp(-m)"
            )
        for name in held:
            if name not in parts:
                raise ValueError(f"`zoneout` of `{name}` needs a carry with it; this one has {', '.join(parts)}")
        if "h" in held and parts["h"].shape != (cell.size,):
            raise ValueError(f"`zoneout` of `h` needs outputs that are h; h is {parts['h'].shape}, y ({cell.size},)")
        return params

    def noise(key, params, xs):
        key, key_inner = jax.random.split(key)
        steps, *batch = leading(xs)
        carry = jax.eval_shape(lambda params: cell.carry(params, tuple(batch)), params)
        shapes = {name: named_leaves("zoneout", carry)[name].shape for name in held}
        keys = jax.random.split(key, len(held))
        zones = {
            name: jax.random.bernoulli(key, held[name], (steps, *shapes[name]))
            for name, key in zip(held, keys, strict=True)
        }
        params, xs = draw_inner(cell, key_inner, params, xs)
        return params, Noisy(xs, zones)

    def project(params, xs):
        xs, zones = apart(xs)
        return beside(cell.project(params, xs), zones, zones)

    def mix(zones, name, old, new):
        if zones is None:
            return (held[name] * old + (1 - held[name]) * new).astype(new.dtype)
        return jnp.where(zones[name], old, new)

    def hold(zones, carry, new, y):
        old = named_leaves("zoneout", remembered(carry))
        parts = named_leaves("zoneout", new)
        mixed = {name: mix(zones, name, old[name], parts[name]) for name in held}
        return replace_leaves(new, mixed), mixed.get("h", y)

    def step(params, carry, u):
        u, zones = apart(u)
        new, y = cell.step(params, show(cell, carry), u)
        return hold(zones, carry, new, y)

    hears = True if "h" in held else cell.hears  # an h that is held is remembered, in an LSTM too
    if cell.backward is None:
        return Cell(cell.size, init, cell.carry, project, step, None, noise, hears)
    cell_fwd, cell_bwd, cell_collect, cell_project = cell.backward

    def fwd(params, carry, u):
        u, zones = apart(u)
        new, y, saved = cell_fwd(params, show(cell, carry), u)
        return *hold(zones, carry, new, y), (saved, zones, mark(carry))

    def bwd(params, saved, d_carry, d_y):
        saved, zones, was_heard = saved
        d_parts = dict(named_leaves("zoneout", d_carry))
        if "h" in held:
            d_parts["h"], d_y = d_parts["h"] + d_y, jnp.zeros_like(d_y)
        d_new, d_old = {}, {}
        for name in held:
            zero = jnp.zeros_like(d_parts[name])
            d_new[name] = mix(zones, name, zero, d_parts[name])
            d_old[name] = mix(zones, name, d_parts[name], zero)
        d_before, d_u = cell_bwd(params, saved, replace_leaves(d_carry, d_new), d_y)
        d_before = show_back(cell, d_before, was_heard is not None)
        d_remembered = remembered(d_before)
        parts = named_leaves("zoneout", d_remembered)
        d_remembered = replace_leaves(d_remembered, {name: parts[name] + d_old[name] for name in held})
        d_before = Heard(d_remembered, d_before.h) if isinstance(d_before, Heard) else d_remembered
        return d_before, beside(d_u, None, zones)

    def collect(params, saved, d_us):
        return cell_collect(params, saved[0], apart(d_us).value)

    backward = Backward(fwd, bwd, collect)
    if cell_project is not None:

        def project_back(params, xs, d_us):
            xs, zones = apart(xs)
            d_params, d_xs = cell_project(params, xs, apart(d_us).value)
            return d_params, beside(d_xs, None, zones)

        backward = backward._replace(project=project_back)
    return Cell(cell.size, init, cell.carry, project, step, backward, noise, hears)
