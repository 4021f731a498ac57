"""The convolutional LSTM."""

import numpy as np

import jaxseq
from tests import reference
from tests.forms.entry import cell_entry
from tests.forms.stock import hard_sigmoid
from tests.reference import Form, sigmoid


def conv_lstm(inputs, channels, window, stride=1, dilation=1, padding="same", gate=sigmoid):
    """One spatial axis; the convolution is a loop over pixels and the window's places, outside the image zeros.

    That of the inputs has the stride, the dilation and the padding: "same" gives inputs / stride pixels, rounded up,
    and pads as much as the last of them needs, half of it before the first.
    """
    reach = (window - 1) * dilation
    pixels = -(-inputs // stride) if padding == "same" else -(-(inputs - reach) // stride)
    before = max((pixels - 1) * stride + reach + 1 - inputs, 0) // 2 if padding == "same" else 0

    def pairs(inputs, before=(window - 1) // 2, stride=1, dilation=1):
        for pixel in range(pixels):
            for place in range(window):
                source = pixel * stride + place * dilation - before
                if 0 <= source < inputs:
                    yield pixel, place, source

    of_x, of_h = list(pairs(inputs, before, stride, dilation)), list(pairs(pixels))

    def convolve(image, w, pairs):
        out = np.zeros((pixels, w.shape[-1]))
        for pixel, place, source in pairs:
            out[pixel] += image[source] @ w[place]
        return out

    def convolve_back(image, w, d, pairs):
        d_image, d_w = np.zeros_like(image), np.zeros_like(w)
        for pixel, place, source in pairs:
            d_image[source] += w[place] @ d[pixel]
            d_w[place] += np.outer(image[source], d[pixel])
        return d_image, d_w

    def step(p, carry, x):
        x = x.reshape(inputs, -1)
        h, c = (leaf.reshape(pixels, channels) for leaf in carry)
        a_i, a_f, a_g, a_o = np.split(convolve(x, p["w_x"], of_x) + p["b"] + convolve(h, p["w_h"], of_h), 4, axis=1)
        w_i, w_f, w_o = p["w_c"]
        a_i, a_f, g = a_i + w_i * c, a_f + w_f * c, np.tanh(a_g)
        i, f = gate.f(a_i), gate.f(a_f)
        c_new = f * c + i * g
        a_o = a_o + w_o * c_new
        o = gate.f(a_o)
        h_new = o * np.tanh(c_new)
        return (h_new.ravel(), c_new.ravel()), h_new.ravel(), (x, h, c, a_i, a_f, a_o, i, f, g, o, c_new)

    def back(p, cache, d_carry, d_y):
        x, h, c, a_i, a_f, a_o, i, f, g, o, c_new = cache
        w_i, w_f, w_o = p["w_c"]
        d_h_new, d_c_new = (leaf.reshape(pixels, channels) for leaf in (d_carry[0] + d_y, d_carry[1]))
        d_a_o = d_h_new * np.tanh(c_new) * gate.derivative(a_o)
        d_c_new = d_c_new + d_h_new * o * (1 - np.tanh(c_new) ** 2) + d_a_o * w_o
        d_a_i, d_a_f = d_c_new * g * gate.derivative(a_i), d_c_new * c * gate.derivative(a_f)
        d_a = np.concatenate([d_a_i, d_a_f, d_c_new * i * (1 - g**2), d_a_o], axis=1)
        d_x, d_w_x = convolve_back(x, p["w_x"], d_a, of_x)
        d_h, d_w_h = convolve_back(h, p["w_h"], d_a, of_h)
        d_c = d_c_new * f + d_a_i * w_i + d_a_f * w_f
        d_p = {"w_x": d_w_x, "w_h": d_w_h, "b": d_a.sum(0), "w_c": np.stack([d_a_i * c, d_a_f * c, d_a_o * c_new])}
        return d_p, (d_h.ravel(), d_c.ravel()), d_x.ravel()

    return Form(step, back)


CELLS = {
    "conv_lstm": cell_entry(jaxseq.conv_lstm((3,), 2, peephole=True), conv_lstm(3, 2, 3), 2),
    "conv_lstm_strides": cell_entry(
        jaxseq.conv_lstm((3,), 3, strides=2, peephole=True, gate=hard_sigmoid),
        conv_lstm(3, 3, 3, stride=2, gate=reference.hard_sigmoid),
        2,
    ),
}
