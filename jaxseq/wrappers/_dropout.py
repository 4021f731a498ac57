"""Dropout for recurrent nets (Gal & Ghahramani 2016): one mask for all steps of a sequence.

    x̃_t = x_t ⊙ m_x          y_t = ỹ_t ⊙ m_y          a_t = W x̃_t + U (h_{t-1} ⊙ m_h)          m ∈ {0, 1 / (1 - rate)}

m_h stands before the recurrent weights only. What a cell remembers, the c of an LSTM and the h that a GRU's update gate
keeps, is not dropped: dropped and scaled at every step with one mask, it would vanish or grow without bound.
"""

import functools

import jax

from jaxseq import check
from jaxseq._unroll import step as step_net
from jaxseq.typing import Backward, Cell, Composite, Heard
from jaxseq.wrappers._noise import (
    Noisy,
    alone,
    apart,
    beside,
    draw_inner,
    drop,
    leading,
    named_leaves,
    replace_leaves,
)


def dropout(
    cell: Cell | Composite,
    *,
    inputs: float = 0.0,
    outputs: float = 0.0,
    recurrent: float = 0.0,
    per_step: bool = False,
) -> Cell | Composite:
    """Returns `cell` with dropout, which acts only where `unroll` is given a key; params and carry are the cell's.

    What is kept is scaled by 1 / (1 - rate), so that means are those without dropout. A mask is drawn for each row of
    the batch, and holds across its resets.

    Args:
      cell: a cell or, without `recurrent`, a composite.
      inputs, outputs: the rates at which features of xs and ys are dropped; with either the result is a Composite.
      recurrent: the rate for what the recurrent weights see of the carry: its `h`, or the carry if that is an array. A
        cell of your own whose carry is an array says by its `hears` whether it remembers in it.
      per_step: draw new masks at every step instead of one for the sequence.

    Raises:
      TypeError, ValueError: a rate is not a number in [0, 1); `recurrent` for a composite: give it to the cells in it,
        or for a carry without `h`.

    >>> net = dropout(jaxseq.lstm(4), inputs=0.2, recurrent=0.3)
    >>> params = net.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]), key=jax.random.key(1))     # training
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]))                            # exact
    """
    check.net(cell)
    inputs, outputs = check.rate("inputs", inputs), check.rate("outputs", outputs)
    recurrent = check.rate("recurrent", recurrent)
    check.one_of("per_step", per_step, (True, False))
    if recurrent:
        if isinstance(cell, Composite):
            raise ValueError(
                "`recurrent` acts inside a cell; this is a Composite. Put it around the cells: "
                "stack(dropout(lstm(8), recurrent=0.3), ...)"
            )
        cell = _recurrent(cell, recurrent, bool(per_step))
    return _outside(cell, inputs, outputs, bool(per_step)) if inputs or outputs else cell


@functools.cache
def _outside(cell, inputs, outputs, per_step):
    def drop_features(key, xs, rate):
        if not rate:
            return xs
        shape = xs.shape if per_step else xs.shape[1:]
        return drop(jax.random.bernoulli(key, 1 - rate, shape), rate, xs)

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        flags = {"mask": mask, "reset": reset, "reverse": reverse}
        if key is None:
            return run(cell, params, xs, carry, key=None, **flags)
        key_inputs, key_outputs, key = jax.random.split(key, 3)
        carry, ys = run(cell, params, drop_features(key_inputs, xs, inputs), carry, key=key, **flags)
        return carry, drop_features(key_outputs, ys, outputs)

    def step(params, carry, x):
        return step_net(cell, params, carry, x)

    return Composite(cell.size, cell.init, cell.carry, unroll, None if cell.step is None else step)


@functools.cache
def _recurrent(cell, rate, per_step):
    # One mask for all steps stands beside the params, masks of each step's own beside the xs.
    of_params, of_xs = (alone, apart) if per_step else (apart, alone)

    def init(key, in_size, dtype=None):
        params = cell.init(key, in_size, dtype)
        heard(cell.carry(params), cell.hears)
        return params

    def carry(params, batch_shape=()):
        return cell.carry(of_params(params).value, batch_shape)

    def noise(key, params, xs):
        key, key_inner = jax.random.split(key)
        steps, *batch = leading(xs)
        shape = jax.eval_shape(lambda params: heard(cell.carry(params, tuple(batch))), params).shape
        keep = jax.random.bernoulli(key, 1 - rate, (steps, *shape) if per_step else shape)
        params, xs = draw_inner(cell, key_inner, params, xs)
        return (params, Noisy(xs, keep)) if per_step else (Noisy(params, keep), xs)

    def project(params, xs):
        xs, keep = of_xs(xs)
        return beside(cell.project(of_params(params).value, xs), keep, keep)

    def enter(params, carry, u):
        """What the cell is given, its h dropped for the recurrent weights; and the mask."""
        (params, keep), (u, keep_step) = of_params(params), of_xs(u)
        keep = keep_step if per_step else keep
        if keep is None:
            return (params, carry, u), None
        remembered, h = carry if isinstance(carry, Heard) else (carry, heard(carry))
        h = drop(keep, rate, h)
        return (params, Heard(remembered, h) if cell.hears else replace_leaves(remembered, {"h": h}), u), keep

    def enter_back(d_carry, keep, was_heard):
        """The cotangent of the carry before `enter`."""
        if keep is None:
            return d_carry
        if not cell.hears:
            return replace_leaves(d_carry, {"h": drop(keep, rate, heard(d_carry))})
        d_remembered, d_h = d_carry.carry, drop(keep, rate, d_carry.h)
        if was_heard:
            return Heard(d_remembered, d_h)
        return replace_leaves(d_remembered, {"h": heard(d_remembered) + d_h})

    def step(params, carry, u):
        given, _ = enter(params, carry, u)
        return cell.step(*given)

    if cell.backward is None:
        return Cell(cell.size, init, carry, project, step, None, noise, cell.hears)
    cell_fwd, cell_bwd, cell_collect = cell.backward

    def fwd(params, carry, u):
        given, keep = enter(params, carry, u)
        new, y, saved = cell_fwd(*given)
        was_heard = () if isinstance(carry, Heard) else None  # of the structure, not of the values
        return new, y, (saved, keep if per_step else None, was_heard)

    def bwd(params, saved, d_carry, d_y):
        (params, keep), (saved, keep_step, was_heard) = of_params(params), saved
        d_carry, d_u = cell_bwd(params, saved, d_carry, d_y)
        d_carry = enter_back(d_carry, keep_step if per_step else keep, was_heard is not None)
        return d_carry, beside(d_u, None, keep_step)

    def collect(params, saved, d_us):
        params, keep = of_params(params)
        return beside(cell_collect(params, saved[0], of_xs(d_us).value), None, keep)

    return Cell(cell.size, init, carry, project, step, Backward(fwd, bwd, collect), noise, cell.hears)


def heard(carry, hears=False):
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
