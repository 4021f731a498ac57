"""A user's own cell, without a hand-written backward, and a user's own wrapper."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxseq
from jaxseq import Cell
from tests import reference, reference_nets
from tests.forms.entry import SIZE, Entry, cell_entry

RATE = 0.2


def own_lstm(size):
    """A user's own cell: the LSTM whose output gate sees tanh(c_t)."""

    def init(key, in_size, dtype=None):
        key_x, key_h, key_o = jax.random.split(key, 3)
        draw = jax.nn.initializers.glorot_uniform()
        return {
            "w_x": draw(key_x, (in_size, 3 * size), dtype),
            "w_h": draw(key_h, (size, 3 * size), dtype),
            "b": jnp.zeros(3 * size, dtype),
            "w_o": draw(key_o, (size, size), dtype),
            "b_o": jnp.zeros(size, dtype),
        }

    def carry(params, batch_shape=()):
        return tuple(jnp.zeros((*batch_shape, size), params["w_h"].dtype) for _ in range(2))

    def project(params, xs):
        return xs @ params["w_x"] + params["b"]

    def step(params, carry, u):
        h, c = carry
        i, f, g = jnp.split(u + h @ params["w_h"], 3, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(jnp.tanh(c) @ params["w_o"] + params["b_o"]) * jnp.tanh(c)
        return (h, c), h

    return Cell(size, init, carry, project, step)


@jaxseq.factory
def leaking(cell, rate=RATE):
    """As in docs/own_cells.md: at every step the carry leaks towards the initial one, and the output with it."""

    def start(given, params, xs):
        return cell.carry(params, xs.shape[:-1])

    def leave(given, start, before, new, y):
        return jax.tree.map(lambda new, start: (1 - rate) * new + rate * start, new, start), (1 - rate) * y

    return jaxseq.around(cell, extra=start, leave=leave)


def leaking_form(form):
    """Of a cell that starts from zeros."""

    def step(p, carry, x):
        new, y, cache = form.step(p, carry, x)
        return tuple((1 - RATE) * part for part in new), (1 - RATE) * y, cache

    def back(p, cache, d_carry, d_y):
        return form.back(p, cache, tuple((1 - RATE) * d for d in d_carry), (1 - RATE) * np.asarray(d_y))

    return reference.Form(step, back, form.size)


def leak(entry):
    form = leaking_form(entry.form)
    parts = [part[0] for part in entry.net.start(None, 1)]
    return Entry(leaking(entry.cell), reference_nets.cell(form, parts), form)


CELLS = {"own": cell_entry(own_lstm(SIZE), reference.lstm_output_gate_sees_memory(), 2)}
WRAPPERS = {"leak": leak}
