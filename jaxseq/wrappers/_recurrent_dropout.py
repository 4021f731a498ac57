"""Dropout of what the recurrent weights of a cell see (Gal & Ghahramani 2016).

    a_t = W x_t + U (h_{t-1} ⊙ m_h)          m ∈ {0, 1 / (1 - rate)}

m_h stands before the recurrent weights only. What a cell remembers, the c of an LSTM and the h that a GRU's update gate
keeps, is not dropped: dropped and scaled at every step with one mask, it would vanish or grow without bound. So a cell
that remembers in h is handed both, as a `Heard`.
"""

import functools

import jax

from jaxseq.typing import Backward, Carry, Cell, Heard
from jaxseq.wrappers._noise import (
    Noisy,
    alone,
    apart,
    beside,
    draw_inner,
    drop,
    leading,
    mark,
    named_leaves,
    remembered,
    replace_leaves,
    show,
    show_back,
)


@functools.cache
def recurrent_dropout(cell: Cell, rate: float, per_step: bool) -> Cell:
    """Returns `cell` with dropout of its heard h, with one mask for the sequence or one a step; see `dropout`."""
    # One mask for all steps stands beside the params, masks of each step's own beside the xs.
    of_params, of_xs = (alone, apart) if per_step else (apart, alone)

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        _h_of(cell.carry(params), cell.hears)
        return params

    def carry(params, batch_shape=()):
        return cell.carry(of_params(params).value, batch_shape)

    def noise(key, params, xs):
        key, key_inner = jax.random.split(key)
        steps, *batch = leading(xs)
        shape = jax.eval_shape(lambda params: _h_of(cell.carry(params, tuple(batch))), params).shape
        keep = jax.random.bernoulli(key, 1 - rate, (steps, *shape) if per_step else shape)
        params, xs = draw_inner(cell, key_inner, params, xs)
        return (params, Noisy(xs, keep)) if per_step else (Noisy(params, keep), xs)

    def project(params, xs):
        xs, keep = of_xs(xs)
        return beside(cell.project(of_params(params).value, xs), keep, keep)

    def enter(params, carry, u):
        """What the cell is given, with the h it hears dropped."""
        (params, keep), (u, keep_step) = of_params(params), of_xs(u)
        keep = keep_step if per_step else keep
        if keep is None:
            return params, carry, u
        h = carry.h if isinstance(carry, Heard) else _h_of(carry)
        return params, show(cell, Heard(remembered(carry), drop(keep, rate, h))), u

    def step(params, carry, u):
        return cell.step(*enter(params, carry, u))

    if cell.backward is None:
        return Cell(cell.size, init, carry, project, step, None, noise, cell.hears)
    cell_fwd, cell_bwd, cell_collect, cell_project = cell.backward

    def fwd(params, carry, u):
        new, y, saved = cell_fwd(*enter(params, carry, u))
        return new, y, (saved, of_xs(u).noise, mark(carry))

    def bwd(params, saved, d_carry, d_y):
        (params, keep), (saved, keep_step, was_heard) = of_params(params), saved
        d_carry, d_u = cell_bwd(params, saved, d_carry, d_y)
        keep = keep_step if per_step else keep
        if keep is None:
            return d_carry, d_u
        d_remembered, d_h = show_back(cell, d_carry, was_heard=True)
        d_h = drop(keep, rate, d_h)
        if was_heard is None:
            return replace_leaves(d_remembered, {"h": _h_of(d_remembered) + d_h}), beside(d_u, None, keep_step)
        return Heard(d_remembered, d_h), beside(d_u, None, keep_step)

    def collect(params, saved, d_us):
        params, keep = of_params(params)
        return beside(cell_collect(params, saved[0], of_xs(d_us).value), None, keep)

    backward = Backward(fwd, bwd, collect)
    if cell_project is not None:

        def project_back(params, xs, d_us):
            (params, keep), (xs, keep_step) = of_params(params), of_xs(xs)
            d_params, d_xs = cell_project(params, xs, of_xs(d_us).value)
            return beside(d_params, None, keep), beside(d_xs, None, keep_step)

        backward = backward._replace(project=project_back)
    return Cell(cell.size, init, carry, project, step, backward, noise, cell.hears)


def _h_of(carry: Carry, hears: bool | None = False) -> jax.Array:
    """The leaf of a carry that its recurrent weights see."""
    leaves = named_leaves("dropout", carry)
    if "h" not in leaves:
        raise ValueError(f"`recurrent` drops the carry's `h`; this one has {', '.join(map(repr, leaves))}")
    if hears is None and leaves is not carry and not hasattr(carry, "_asdict"):
        raise ValueError(
            "`recurrent` drops what the recurrent weights see, not what is remembered; this cell's carry is one array, "
            "which may be both. Say which: Cell(..., hears=False) where the weights alone see it; with hears=True "
            "`step` takes a jaxseq.Heard(carry, h), and shows h to its weights"
        )
    return leaves["h"]
