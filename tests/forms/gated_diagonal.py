"""The minimal GRU and LSTM, the RG-LRU and Mamba: diagonal recurrences whose decays depend on x."""

import numpy as np

import jaxseq
from tests.forms.complex_step import by_head, dot, flat, plain_form, sigma, softplus
from tests.forms.entry import SIZE, cell_entry


def min_gru(size, candidate=lambda a: a):
    def step(p, carry, x):
        (h,) = carry
        u_z, u_n = np.split(dot(x, p["w_x"]) + p["b"], 2, axis=-1)
        z = sigma(u_z)
        h = (1 - z) * h + z * candidate(u_n)
        return (h,), h

    return plain_form(step, size)


def min_lstm(size):
    def step(p, carry, x):
        (h,) = carry
        u_f, u_i, u_n = np.split(dot(x, p["w_x"]) + p["b"], 3, axis=-1)
        f, i = sigma(u_f), sigma(u_i)
        h = f / (f + i) * h + i / (f + i) * u_n
        return (h,), h

    return plain_form(step, size)


def rg_lru(size, heads=1):
    def step(p, carry, x):
        (h,) = carry
        r = sigma(flat(dot(by_head(x, heads), p["w_r"])) + p["b_r"])
        i = sigma(flat(dot(by_head(x, heads), p["w_i"])) + p["b_i"])
        log_a = -8 * softplus(p["lam"]) * r
        h = np.exp(log_a) * h + np.sqrt(-np.expm1(2 * log_a)) * i * x
        return (h,), h

    return plain_form(step, size)


def mamba(size):
    def step(p, carry, x):
        (h,) = carry  # [H, N]
        dt = softplus(dot(dot(x, p["w_1"]), p["w_2"]) + p["b_dt"])
        decay = np.exp(-dt[..., None] * np.exp(p["a_log"]))
        h = decay * h + (dt * x)[..., None] * dot(x, p["w_b"])[..., None, :]
        y = np.sum(h * dot(x, p["w_c"])[..., None, :], axis=-1) + p["d"] * x
        return (h,), y

    return plain_form(step, size)


CELLS = {
    "min_gru": cell_entry(jaxseq.min_gru(SIZE), min_gru(SIZE)),
    "min_lstm": cell_entry(jaxseq.min_lstm(SIZE), min_lstm(SIZE)),
    "rg_lru": cell_entry(jaxseq.rg_lru(3), rg_lru(3)),
    "mamba": cell_entry(jaxseq.mamba(3, state=2, rank=2), mamba(3), [np.zeros((3, 2))]),
}
