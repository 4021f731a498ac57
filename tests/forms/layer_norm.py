"""The layer-normalised LSTM and GRU."""

import numpy as np

import jaxseq
from tests.forms.entry import SIZE, cell_entry
from tests.reference import Form, sigma


def normalise(x):
    """Zero mean, unit variance; and the function from its cotangent to that of x, by the Jacobian matrix."""
    deviation = np.sqrt(np.var(x) + 1e-5)
    n = (x - x.mean()) / deviation

    def back(d):
        jacobian = (np.eye(len(x)) - 1 / len(x) - np.outer(n, n) / len(x)) / deviation
        return jacobian @ d

    return n, back


def layer_norm_lstm():
    """Gates i f g o, normalised together; the memory normalised on its way out."""

    def step(p, carry, x):
        h, c = carry
        n_x, back_x = normalise(x @ p["w_x"])
        n_h, back_h = normalise(h @ p["w_h"])
        a_i, a_f, a_g, a_o = np.split(p["s_x"] * n_x + p["s_h"] * n_h + p["b"], 4)
        i, f, g, o = sigma(a_i), sigma(a_f), np.tanh(a_g), sigma(a_o)
        c_new = f * c + i * g
        n_c, back_c = normalise(c_new)
        q = p["s_c"] * n_c + p["b_c"]
        h_new = o * np.tanh(q)
        return (h_new, c_new), h_new, (x, h, c, i, f, g, o, q, (n_x, back_x), (n_h, back_h), (n_c, back_c))

    def back(p, cache, d_carry, d_y):
        x, h, c, i, f, g, o, q, (n_x, back_x), (n_h, back_h), (n_c, back_c) = cache
        d_h_new, d_c_new = d_carry
        d_h_new = d_h_new + d_y
        d_q = d_h_new * o * (1 - np.tanh(q) ** 2)
        d_c_new = d_c_new + back_c(p["s_c"] * d_q)
        d_o = d_h_new * np.tanh(q) * o * (1 - o)
        d_a = np.concatenate([d_c_new * g * i * (1 - i), d_c_new * c * f * (1 - f), d_c_new * i * (1 - g**2), d_o])
        d_x, d_h = back_x(p["s_x"] * d_a), back_h(p["s_h"] * d_a)
        d_p = {"w_x": np.outer(x, d_x), "w_h": np.outer(h, d_h), "b": d_a}
        d_p |= {"s_x": d_a * n_x, "s_h": d_a * n_h, "s_c": d_q * n_c, "b_c": d_q}
        return d_p, (p["w_h"] @ d_h, d_c_new * f), p["w_x"] @ d_x

    return Form(step, back)


def layer_norm_gru():
    """Gates r z n; r and z are normalised together, the candidate apart; the reset comes after the product."""

    def blocks(a):
        (rz, back_rz), (n, back_n) = normalise(a[: 2 * len(a) // 3]), normalise(a[2 * len(a) // 3 :])

        def back(d):
            return np.concatenate([back_rz(d[: len(rz)]), back_n(d[len(rz) :])])

        return np.concatenate([rz, n]), back

    def step(p, carry, x):
        (h,) = carry
        n_x, back_x = blocks(x @ p["w_x"])
        n_h, back_h = blocks(h @ p["w_h"])
        u_r, u_z, u_n = np.split(p["s_x"] * n_x + p["b"], 3)
        p_r, p_z, p_n = np.split(p["s_h"] * n_h, 3)
        r, z = sigma(u_r + p_r), sigma(u_z + p_z)
        m = p_n + p["b_hn"]
        n = np.tanh(u_n + r * m)
        h_new = (1 - z) * n + z * h
        return (h_new,), h_new, (x, h, r, z, n, m, (n_x, back_x), (n_h, back_h))

    def back(p, cache, d_carry, d_y):
        x, h, r, z, n, m, (n_x, back_x), (n_h, back_h) = cache
        d_h_new = d_carry[0] + d_y
        d_a_n = d_h_new * (1 - z) * (1 - n**2)
        d_a_z = d_h_new * (h - n) * z * (1 - z)
        d_a_r = d_a_n * m * r * (1 - r)
        d_u = np.concatenate([d_a_r, d_a_z, d_a_n])
        d_recurrent = np.concatenate([d_a_r, d_a_z, d_a_n * r])
        d_x, d_h = back_x(p["s_x"] * d_u), back_h(p["s_h"] * d_recurrent)
        d_p = {"w_x": np.outer(x, d_x), "w_h": np.outer(h, d_h), "b": d_u, "b_hn": d_a_n * r}
        d_p |= {"s_x": d_u * n_x, "s_h": d_recurrent * n_h}
        return d_p, (d_h_new * z + p["w_h"] @ d_h,), p["w_x"] @ d_x

    return Form(step, back)


CELLS = {
    "layer_norm_lstm": cell_entry(jaxseq.layer_norm_lstm(SIZE), layer_norm_lstm(), 2),
    "layer_norm_gru": cell_entry(jaxseq.layer_norm_gru(SIZE), layer_norm_gru()),
}
