"""More forms for tests/reference.py: layer-normalised and convolutional cells, the sLSTM, and wrappers of a form."""

import numpy as np

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


def conv_lstm(pixels, channels, window):
    """One spatial axis, zero padding; the convolution is a loop over pixels and the window's places."""

    def pairs():
        for pixel in range(pixels):
            for place in range(window):
                source = pixel + place - (window - 1) // 2
                if 0 <= source < pixels:
                    yield pixel, place, source

    def convolve(image, w):
        out = np.zeros((pixels, w.shape[-1]))
        for pixel, place, source in pairs():
            out[pixel] += image[source] @ w[place]
        return out

    def convolve_back(image, w, d):
        d_image, d_w = np.zeros_like(image), np.zeros_like(w)
        for pixel, place, source in pairs():
            d_image[source] += w[place] @ d[pixel]
            d_w[place] += np.outer(image[source], d[pixel])
        return d_image, d_w

    def step(p, carry, x):
        x = x.reshape(pixels, -1)
        h, c = (leaf.reshape(pixels, channels) for leaf in carry)
        a_i, a_f, a_g, a_o = np.split(convolve(x, p["w_x"]) + p["b"] + convolve(h, p["w_h"]), 4, axis=1)
        w_i, w_f, w_o = p["w_c"]
        i, f, g = sigma(a_i + w_i * c), sigma(a_f + w_f * c), np.tanh(a_g)
        c_new = f * c + i * g
        o = sigma(a_o + w_o * c_new)
        h_new = o * np.tanh(c_new)
        return (h_new.ravel(), c_new.ravel()), h_new.ravel(), (x, h, c, i, f, g, o, c_new)

    def back(p, cache, d_carry, d_y):
        x, h, c, i, f, g, o, c_new = cache
        w_i, w_f, w_o = p["w_c"]
        d_h_new, d_c_new = (leaf.reshape(pixels, channels) for leaf in (d_carry[0] + d_y, d_carry[1]))
        d_a_o = d_h_new * np.tanh(c_new) * o * (1 - o)
        d_c_new = d_c_new + d_h_new * o * (1 - np.tanh(c_new) ** 2) + d_a_o * w_o
        d_a_i, d_a_f = d_c_new * g * i * (1 - i), d_c_new * c * f * (1 - f)
        d_a = np.concatenate([d_a_i, d_a_f, d_c_new * i * (1 - g**2), d_a_o], axis=1)
        d_x, d_w_x = convolve_back(x, p["w_x"], d_a)
        d_h, d_w_h = convolve_back(h, p["w_h"], d_a)
        d_c = d_c_new * f + d_a_i * w_i + d_a_f * w_f
        d_p = {"w_x": d_w_x, "w_h": d_w_h, "b": d_a.sum(0), "w_c": np.stack([d_a_i * c, d_a_f * c, d_a_o * c_new])}
        return d_p, (d_h.ravel(), d_c.ravel()), d_x.ravel()

    return Form(step, back)


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


def zoneout(form, *rates):
    """The mean of zoneout: each part of the carry keeps its rate of the step before; the output is the first part."""

    def step(p, carry, x):
        new, _, cache = form.step(p, carry, x)
        new = tuple(rate * old + (1 - rate) * part for rate, old, part in zip(rates, carry, new, strict=True))
        return new, new[0], cache

    def back(p, cache, d_carry, d_y):
        d_new = (d_carry[0] + d_y, *d_carry[1:])
        d_cell = tuple((1 - rate) * d for rate, d in zip(rates, d_new, strict=True))
        d_p, d_carry, d_x = form.back(p, cache, d_cell, np.zeros_like(d_y))
        return d_p, tuple(d + rate * d_part for d, rate, d_part in zip(d_carry, rates, d_new, strict=True)), d_x

    return Form(step, back)
