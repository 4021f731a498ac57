"""Dropout for recurrent nets (Gal & Ghahramani 2016): one mask for all steps of a sequence.

    x̃_t = x_t ⊙ m_x          y_t = ỹ_t ⊙ m_y          a_t = W x̃_t + U (h_{t-1} ⊙ m_h)          m ∈ {0, 1 / (1 - rate)}

m_x and m_y are drawn here. m_h acts inside the cell and is drawn in `_recurrent_dropout.py`.
"""

import functools
from typing import overload

import jax

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._unroll import step as step_net
from jaxseq.typing import Cell, Composite
from jaxseq.wrappers._drop import drop
from jaxseq.wrappers._recurrent_dropout import recurrent_dropout


@overload
def dropout(cell: Cell, *, recurrent: float, per_step: bool = False) -> Cell: ...
@overload
def dropout(
    cell: Cell | Composite,
    *,
    inputs: float = 0.0,
    outputs: float = 0.0,
    recurrent: float = 0.0,
    per_step: bool = False,
) -> Cell | Composite: ...
def dropout(
    cell: Cell | Composite,
    *,
    inputs: float = 0.0,
    outputs: float = 0.0,
    recurrent: float = 0.0,
    per_step: bool = False,
) -> Cell | Composite:
    """Returns `cell` with dropout, which is active only if `unroll` gets a key. Params and carry are the cell's.

    Kept entries are scaled by 1 / (1 - rate), so the means are the same as without dropout. Each row of the batch has
    its own mask, which does not change at resets.

    Args:
      cell: a cell, or a composite if `recurrent` is 0.
      inputs, outputs: the rates at which features of xs and ys are dropped. With either, the result is a Composite.
      recurrent: the rate for what the recurrent weights see: the carry's `h`, or the carry if it is an array. If your
        own cell has an array as its carry, its `hears` must say whether that array is also the cell's memory.
      per_step: draw new masks at every step instead of once per sequence.

    Raises:
      TypeError, ValueError: a rate is not a number in [0, 1), the carry has no `h`, or `cell` is a composite with
        `recurrent` (wrap the cells inside it instead).

    >>> net = dropout(jaxseq.lstm(4), inputs=0.2, recurrent=0.3)
    >>> params = net.init(jax.random.key(0), 3)
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]), key=jax.random.key(1))     # training
    >>> carry, ys = jaxseq.unroll(net, params, jnp.ones([5, 2, 3]))                            # exact
    """
    check.net(cell)
    inputs, outputs = check.rate("inputs", inputs), check.rate("outputs", outputs)
    recurrent = check.rate("recurrent", recurrent)
    check.one_of("per_step", per_step, (True, False))
    if recurrent and isinstance(cell, Composite):
        raise ValueError(
            "`recurrent` acts inside a cell; this is a Composite. Wrap the cells inside it: "
            "stack(dropout(lstm(8), recurrent=0.3), ...)"
        )
    return _dropout(cell, inputs, outputs, recurrent, bool(per_step)) if inputs or outputs or recurrent else cell


@factory
def _dropout(cell, inputs, outputs, recurrent, per_step):
    inner = recurrent_dropout(cell, recurrent, per_step) if recurrent else cell
    return _outside(inner, inputs, outputs, per_step) if inputs or outputs else inner


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
