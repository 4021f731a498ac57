"""Dropout of what the recurrent weights of a cell see (Gal & Ghahramani 2016).

    a_t = W x_t + U (h_{t-1} ⊙ m_h)          m ∈ {0, 1 / (1 - rate)}

m_h is applied only in front of the recurrent weights. It does not drop what a cell remembers: the c of an LSTM, and the
h that a GRU's update gate keeps. Dropping and scaling memory with the same mask at every step would make it vanish or
grow without bound. So a cell that remembers in h gets both h and the dropped h, as a `Heard`.
"""

import functools

import jax

from jaxseq._around import around
from jaxseq._carry_parts import parts_of
from jaxseq.typing import Carry, Cell
from jaxseq.wrappers._drop import drop


@functools.cache
def recurrent_dropout(cell: Cell, rate: float, per_step: bool) -> Cell:
    """Returns `cell` with dropout of the h that its weights see. One mask per sequence or per step; see `dropout`."""

    def init(key, in_size, dtype=None):
        if cell.linear is not None:
            raise ValueError(
                "`recurrent` drops what the recurrent weights see of the carry, and a linear cell has no such weights. "
                "Drop its inputs or outputs"
            )
        params = cell.init(key, in_size, dtype)
        _h_of(cell.carry(params), cell.hears)
        return params

    def draw(key, params, xs):
        steps, *batch = xs.shape[:-1]
        shape = jax.eval_shape(lambda params: _h_of(cell.carry(params, tuple(batch))), params).shape
        return jax.random.bernoulli(key, 1 - rate, (steps, *shape) if per_step else shape)

    def hear(keep, _, h):
        return None if keep is None else drop(keep, rate, h)

    return around(cell, draw=draw, given="xs" if per_step else "params", hear=hear)._replace(init=init)


def _h_of(carry: Carry, hears: bool | None = False) -> jax.Array:
    """Returns the leaf of a carry that the recurrent weights see."""
    leaves = parts_of("dropout", carry)
    if "h" not in leaves:
        raise ValueError(f"`recurrent` drops the carry's `h`; this one has {', '.join(map(repr, leaves))}")
    if hears is None and leaves is not carry and not hasattr(carry, "_asdict"):
        raise ValueError(
            "`recurrent` drops what the recurrent weights see, not what is remembered. This cell's carry is one array, "
            "which may be both. Use Cell(..., hears=False) if only the weights see it. With hears=True, `step` takes a "
            "jaxseq.Heard(carry, h) and passes its h to the weights"
        )
    return leaves["h"]
