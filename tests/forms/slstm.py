"""The sLSTM."""

import numpy as np

import jaxseq
from tests.forms.entry import SIZE, cell_entry
from tests.reference import Form, sigma


def slstm(exponential=False):
    """Exponential input gate; w_h [heads, H / heads, 4H / heads], each head apart."""

    def heads(p, h):
        """For each head its weights, its part of h, and where its four gates stand among all."""
        count, width, _ = p["w_h"].shape
        for head in range(count):
            own = slice(head * width, (head + 1) * width)
            yield head, own, np.concatenate([np.arange(len(h))[own] + gate * len(h) for gate in range(4)])

    def step(p, carry, x):
        h, c, n, m = carry
        a = x @ p["w_x"] + p["b"]
        for head, own, columns in heads(p, h):
            a[columns] += h[own] @ p["w_h"][head]
        a_i, a_f, a_g, a_o = np.split(a, 4)
        log_f = a_f if exponential else -np.log1p(np.exp(-a_f))
        kept = np.where(n > 0, log_f + m, -np.inf)
        m_new = np.maximum(kept, a_i)
        f, i = np.exp(kept - m_new), np.exp(a_i - m_new)
        g, o = np.tanh(a_g), sigma(a_o)
        c_new, n_new = f * c + i * g, f * n + i
        h_new = o * c_new / n_new
        return (h_new, c_new, n_new, m_new), h_new, (x, h, c, n, a_i, a_f, kept, f, i, g, o, c_new, n_new)

    def back(p, cache, d_carry, d_y):
        x, h, c, n, a_i, a_f, kept, f, i, g, o, c_new, n_new = cache
        d_h_new, d_c_new, d_n_new, d_m_new = d_carry
        d_h_new = d_h_new + d_y
        d_o = d_h_new * c_new / n_new
        d_c_new = d_c_new + d_h_new * o / n_new
        d_n_new = d_n_new - d_h_new * o * c_new / n_new**2
        d_f, d_i, d_g = d_c_new * c + d_n_new * n, d_c_new * g + d_n_new, d_c_new * i
        d_kept, d_a_i = d_f * f, d_i * i
        d_m_new = d_m_new - d_kept - d_a_i
        d_kept = np.where(n > 0, d_kept + np.where(kept > a_i, d_m_new, 0), 0)
        d_a_i = d_a_i + np.where(kept > a_i, 0, d_m_new)
        d_a_f = d_kept if exponential else d_kept * (1 - sigma(a_f))
        d_a = np.concatenate([d_a_i, d_a_f, d_g * (1 - g**2), d_o * o * (1 - o)])
        d_h, d_w_h = np.zeros_like(h), np.zeros_like(p["w_h"])
        for head, own, columns in heads(p, h):
            d_h[own] = p["w_h"][head] @ d_a[columns]
            d_w_h[head] = np.outer(h[own], d_a[columns])
        d_p = {"w_x": np.outer(x, d_a), "b": d_a, "w_h": d_w_h}
        return d_p, (d_h, d_c_new * f, d_n_new * f, d_kept), p["w_x"] @ d_a

    return Form(step, back)


CELLS = {
    "slstm": cell_entry(jaxseq.slstm(SIZE, heads=2), slstm(), 4),
    "slstm_exponential": cell_entry(jaxseq.slstm(SIZE, forget="exponential"), slstm(True), 4),
}
