"""The LRU and S5, their complex numbers written out as pairs."""

import numpy as np

import jaxseq
from tests.forms.complex_step import dot, plain_form
from tests.forms.entry import SIZE, cell_entry


def _times(a, b):
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _over(a, b):
    """a / b."""
    squared = b[0] ** 2 + b[1] ** 2
    return (a[0] * b[0] + a[1] * b[1]) / squared, (a[1] * b[0] - a[0] * b[1]) / squared


def lru(size):
    def step(p, h, x):
        modulus, phase = np.exp(-np.exp(p["nu"])), np.exp(p["theta"])
        decay = modulus * np.cos(phase), modulus * np.sin(phase)
        kept, scale = _times(decay, h), np.exp(p["gamma"])
        h = kept[0] + scale * dot(x, p["b_re"]), kept[1] + scale * dot(x, p["b_im"])
        return h, dot(h[0], p["c_re"]) - dot(h[1], p["c_im"]) + dot(x, p["w_d"])

    return plain_form(step, size, is_complex=True)


def s5(size):
    def step(p, h, x):
        pole, dt = (-np.exp(p["log_re"]), p["im"]), np.exp(p["log_dt"])
        modulus, phase = np.exp(pole[0] * dt), pole[1] * dt
        decay = modulus * np.cos(phase), modulus * np.sin(phase)
        held = _over((decay[0] - 1, decay[1]), pole)
        kept, written = _times(decay, h), _times(held, (dot(x, p["b_re"]), dot(x, p["b_im"])))
        h = kept[0] + written[0], kept[1] + written[1]
        return h, 2 * (dot(h[0], p["c_re"]) - dot(h[1], p["c_im"])) + dot(x, p["w_d"])

    return plain_form(step, size, is_complex=True)


CELLS = {
    "lru": cell_entry(jaxseq.lru(SIZE, state=3), lru(SIZE), [np.zeros(3, complex)]),
    "s5": cell_entry(jaxseq.s5(SIZE, state=3), s5(SIZE), [np.zeros(3, complex)]),
}
