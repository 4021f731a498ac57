"""The oracle: the equations in plain NumPy, float64, one step and one row at a time, forward and backward by hand.

Nothing here is fast or shared with the library. A form is a pair of functions on one row:

    step(p, carry, x) -> (carry, y, cache)             p: dict of arrays, carry: tuple of arrays, x: [D]
    back(p, cache, d_carry, d_y) -> (d_p, d_carry, d_x)

`unroll` and `bptt` run a form over `[T, B, D]` with masks and resets as plain `if`s.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Form(NamedTuple):
    step: Callable[[Any, tuple, Any], tuple[tuple, Any, Any]]
    back: Callable[[Any, Any, tuple, Any], tuple[Any, tuple, Any]]
    size: int | None = None  # of y; None: that of the carry's first part


class Activation(NamedTuple):
    """An elementwise function and its derivative, both of the pre-activation."""

    f: Callable[[Any], Any]
    derivative: Callable[[Any], Any]


def sigma(a):
    return 1 / (1 + np.exp(-a))


tanh = Activation(np.tanh, lambda a: 1 - np.tanh(a) ** 2)
sigmoid = Activation(sigma, lambda a: sigma(a) * (1 - sigma(a)))
relu = Activation(lambda a: np.maximum(a, 0), lambda a: (a > 0).astype(float))
sine = Activation(np.sin, np.cos)
hard_sigmoid = Activation(lambda a: np.clip(0.2 * a + 0.5, 0, 1), lambda a: 0.2 * (np.abs(a) < 2.5))
tanh_tanh = Activation(lambda a: np.tanh(np.tanh(a)), lambda a: (1 - np.tanh(np.tanh(a)) ** 2) * (1 - np.tanh(a) ** 2))


def rnn(activation=tanh):
    """h' = f(x W_x + b + h W_h)."""

    def step(p, carry, x):
        (h,) = carry
        a = x @ p["w_x"] + p["b"] + h @ p["w_h"]
        h_new = activation.f(a)
        return (h_new,), h_new, (x, h, a)

    def back(p, cache, d_carry, d_y):
        x, h, a = cache
        d_h_new = d_carry[0] + d_y
        d_a = d_h_new * activation.derivative(a)
        d_p = {"w_x": np.outer(x, d_a), "w_h": np.outer(h, d_a), "b": d_a}
        return d_p, (p["w_h"] @ d_a,), p["w_x"] @ d_a

    return Form(step, back)


def lstm(peephole=None, candidate=tanh, coupled=False, clip=np.inf, gate=sigmoid):
    """Gates in the order i f g o, coupled f g o; projected where p has a w_p; see the equations in the step."""

    def step(p, carry, x):
        h, c = carry
        *a_i, a_f, a_g, a_o = np.split(x @ p["w_x"] + p["b"] + h @ p["w_h"], 3 if coupled else 4)
        if peephole:
            *w_i, w_f, _ = p["w_c"]
            a_i = [a + w * c for a, w in zip(a_i, w_i, strict=True)]
            a_f = a_f + w_f * c
        f = gate.f(a_f)
        i = 1 - f if coupled else gate.f(a_i[0])
        g = candidate.f(a_g)
        c_free = f * c + i * g
        c_new = np.clip(c_free, -clip, clip)
        if peephole == "new":
            a_o = a_o + p["w_c"][-1] * c_new
        if peephole == "old":
            a_o = a_o + p["w_c"][-1] * c
        o = gate.f(a_o)
        m = o * np.tanh(c_new)
        h_new = m @ p["w_p"] if "w_p" in p else m
        return (h_new, c_new), h_new, (x, h, c, i, f, g, o, c_free, c_new, m, a_i, a_f, a_g, a_o)

    def back(p, cache, d_carry, d_y):
        x, h, c, i, f, g, o, c_free, c_new, m, a_i, a_f, a_g, a_o = cache
        d_h_new, d_c_new = d_carry
        d_h_new = d_h_new + d_y
        d_m = p["w_p"] @ d_h_new if "w_p" in p else d_h_new
        d_o = d_m * np.tanh(c_new)
        d_c_new = d_c_new + d_m * o * (1 - np.tanh(c_new) ** 2)
        d_a_o = d_o * gate.derivative(a_o)
        if peephole == "new":
            d_c_new = d_c_new + d_a_o * p["w_c"][-1]
        d_c_free = d_c_new * (np.abs(c_free) < clip)
        d_i = d_c_free * g
        d_f = d_c_free * c
        d_g = d_c_free * i
        if coupled:
            d_f = d_f - d_i
        d_a_i = [] if coupled else [d_i * gate.derivative(a_i[0])]
        d_a_f = d_f * gate.derivative(a_f)
        d_a_g = d_g * candidate.derivative(a_g)
        d_c = d_c_free * f
        if peephole:
            for d_a, w in zip([*d_a_i, d_a_f], p["w_c"], strict=False):
                d_c = d_c + d_a * w
        if peephole == "old":
            d_c = d_c + d_a_o * p["w_c"][-1]
        d_a = np.concatenate([*d_a_i, d_a_f, d_a_g, d_a_o])
        d_p = {"w_x": np.outer(x, d_a), "w_h": np.outer(h, d_a), "b": d_a}
        if peephole:
            seen_by_o = c_new if peephole == "new" else c
            d_p["w_c"] = np.stack([*(d * c for d in [*d_a_i, d_a_f]), d_a_o * seen_by_o])
        if "w_p" in p:
            d_p["w_p"] = np.outer(m, d_h_new)
        return d_p, (p["w_h"] @ d_a, d_c), p["w_x"] @ d_a

    return Form(step, back)


def gru(reset_after=True, update_writes=False, candidate=tanh, gate=sigmoid):
    """Gates in the order r z n; see the equations in the step."""

    def step(p, carry, x):
        (h,) = carry
        u_r, u_z, u_n = np.split(x @ p["w_x"] + p["b"], 3)
        w_r, w_z, w_n = np.split(p["w_h"], 3, axis=1)
        a_r, a_z = u_r + h @ w_r, u_z + h @ w_z
        r, z = gate.f(a_r), gate.f(a_z)
        if reset_after:
            m = h @ w_n + p["b_hn"]
            a_n = u_n + r * m
        else:
            m = None
            a_n = u_n + (r * h) @ w_n
        n = candidate.f(a_n)
        h_new = (1 - z) * h + z * n if update_writes else (1 - z) * n + z * h
        return (h_new,), h_new, (x, h, r, z, m, a_r, a_z, a_n, n)

    def back(p, cache, d_carry, d_y):
        x, h, r, z, m, a_r, a_z, a_n, n = cache
        w_r, w_z, w_n = np.split(p["w_h"], 3, axis=1)
        d_h_new = d_carry[0] + d_y
        if update_writes:
            d_n, d_z, d_h = d_h_new * z, d_h_new * (n - h), d_h_new * (1 - z)
        else:
            d_n, d_z, d_h = d_h_new * (1 - z), d_h_new * (h - n), d_h_new * z
        d_a_n = d_n * candidate.derivative(a_n)
        d_a_z = d_z * gate.derivative(a_z)
        d_p = {}
        if reset_after:
            d_r = d_a_n * m
            d_m = d_a_n * r
            d_h = d_h + w_n @ d_m
            d_w_n = np.outer(h, d_m)
            d_p["b_hn"] = d_m
        else:
            d_rh = w_n @ d_a_n
            d_r = d_rh * h
            d_h = d_h + d_rh * r
            d_w_n = np.outer(r * h, d_a_n)
        d_a_r = d_r * gate.derivative(a_r)
        d_h = d_h + w_r @ d_a_r + w_z @ d_a_z
        d_u = np.concatenate([d_a_r, d_a_z, d_a_n])
        d_p["w_x"] = np.outer(x, d_u)
        d_p["b"] = d_u
        d_p["w_h"] = np.concatenate([np.outer(h, d_a_r), np.outer(h, d_a_z), d_w_n], axis=1)
        return d_p, (d_h,), p["w_x"] @ d_u

    return Form(step, back)


def lstm_output_gate_sees_memory():
    """The textbooks' LSTM whose output gate is σ(W_o tanh(c') + b_o); w_x, w_h, b hold i f g, w_o [H, H] and b_o."""

    def step(p, carry, x):
        h, c = carry
        a_i, a_f, a_g = np.split(x @ p["w_x"] + p["b"] + h @ p["w_h"], 3)
        i, f, g = sigma(a_i), sigma(a_f), np.tanh(a_g)
        c_new = f * c + i * g
        o = sigma(np.tanh(c_new) @ p["w_o"] + p["b_o"])
        h_new = o * np.tanh(c_new)
        return (h_new, c_new), h_new, (x, h, c, i, f, g, o, c_new)

    def back(p, cache, d_carry, d_y):
        x, h, c, i, f, g, o, c_new = cache
        d_h_new, d_c_new = d_carry
        d_h_new = d_h_new + d_y
        t = np.tanh(c_new)
        d_a_o = d_h_new * t * o * (1 - o)
        d_t = d_h_new * o + p["w_o"] @ d_a_o
        d_c_new = d_c_new + d_t * (1 - t**2)
        d_a = np.concatenate([d_c_new * g * i * (1 - i), d_c_new * c * f * (1 - f), d_c_new * i * (1 - g**2)])
        d_p = {"w_x": np.outer(x, d_a), "w_h": np.outer(h, d_a), "b": d_a, "w_o": np.outer(t, d_a_o), "b_o": d_a_o}
        return d_p, (p["w_h"] @ d_a, d_c_new * f), p["w_x"] @ d_a

    return Form(step, back)


def lstm_matrix_peepholes():
    """The textbooks' peepholes: c W_c is added to the gates i f o, w_c [H, 3H]; all three see the memory before."""

    def step(p, carry, x):
        h, c = carry
        a_i, a_f, a_g, a_o = np.split(x @ p["w_x"] + p["b"] + h @ p["w_h"], 4)
        w_ci, w_cf, w_co = np.split(p["w_c"], 3, axis=1)
        i, f, g, o = sigma(a_i + c @ w_ci), sigma(a_f + c @ w_cf), np.tanh(a_g), sigma(a_o + c @ w_co)
        c_new = f * c + i * g
        h_new = o * np.tanh(c_new)
        return (h_new, c_new), h_new, (x, h, c, i, f, g, o, c_new)

    def back(p, cache, d_carry, d_y):
        x, h, c, i, f, g, o, c_new = cache
        w_ci, w_cf, w_co = np.split(p["w_c"], 3, axis=1)
        d_h_new, d_c_new = d_carry
        d_h_new = d_h_new + d_y
        d_c_new = d_c_new + d_h_new * o * (1 - np.tanh(c_new) ** 2)
        d_a_i = d_c_new * g * i * (1 - i)
        d_a_f = d_c_new * c * f * (1 - f)
        d_a_g = d_c_new * i * (1 - g**2)
        d_a_o = d_h_new * np.tanh(c_new) * o * (1 - o)
        d_c = d_c_new * f + w_ci @ d_a_i + w_cf @ d_a_f + w_co @ d_a_o
        d_a = np.concatenate([d_a_i, d_a_f, d_a_g, d_a_o])
        d_p = {"w_x": np.outer(x, d_a), "w_h": np.outer(h, d_a), "b": d_a}
        d_p["w_c"] = np.outer(c, np.concatenate([d_a_i, d_a_f, d_a_o]))
        return d_p, (p["w_h"] @ d_a, d_c), p["w_x"] @ d_a

    return Form(step, back)


class Readout(NamedTuple):
    """A dense layer on one row h [H] and its loss against a target, `w_y [H, K]` and `b_y [K]`.

    predict(p, h) -> y                 loss(y, target) -> number                 back(p, h, y, target) -> (d_p, d_h)
    """

    predict: Callable
    loss: Callable
    back: Callable


def _readout(link, loss):
    """Each link stands beside the loss whose gradient at the logits is y - target."""

    def predict(p, h):
        return link(h @ p["w_y"] + p["b_y"])

    def back(p, h, y, target):
        d_logits = y - target
        return {"w_y": np.outer(h, d_logits), "b_y": d_logits}, p["w_y"] @ d_logits

    return Readout(predict, loss, back)


def softmax_readout():
    """Cross-entropy; the entries of `target` add up to 1."""

    def softmax(s):
        e = np.exp(s - s.max())
        return e / e.sum()

    return _readout(softmax, lambda y, target: -np.sum(target * np.log(y)))


def sigmoid_readout():
    """Binary cross-entropy of every output."""
    return _readout(sigma, lambda y, target: -np.sum(target * np.log(y) + (1 - target) * np.log(1 - y)))


def linear_readout():
    """Half the squared error."""
    return _readout(lambda s: s, lambda y, target: np.sum((y - target) ** 2) / 2)


class Result(NamedTuple):
    carry: tuple  # of [B, H]
    ys: np.ndarray  # [T, B, H]


class Gradients(NamedTuple):
    params: dict
    carry: tuple  # of the carry passed in
    initial: tuple  # of the carry that a reset puts in place
    xs: np.ndarray


def unroll(form, p, xs, carry, initial=None, mask=None, reset=None, reverse=False):
    """Runs `form` over `xs` [T, B, D] from `carry`, a tuple of [B, ...]; `initial` alike, for resets."""
    carries, ys, _ = _run(form, p, xs, carry, initial, mask, reset, reverse)
    return Result(carries, ys)


def bptt(form, p, xs, carry, d_carry, d_ys, initial=None, mask=None, reset=None, reverse=False):
    """Gradients of Σ d_carry · carry_T + Σ d_ys · ys, by backpropagation through time."""
    _, _, tape = _run(form, p, xs, carry, initial, mask, reset, reverse)
    d_p = {name: np.zeros_like(value) for name, value in p.items()}
    d_xs = np.zeros_like(xs)
    d_first = [np.zeros_like(leaf) for leaf in carry]
    d_initial = [np.zeros_like(leaf) for leaf in carry]
    for b, steps in enumerate(tape):
        d = tuple(leaf[b] for leaf in d_carry)
        for t, was_reset, cache in reversed(steps):
            if cache is not None:
                d_p_step, d, d_xs[t, b] = form.back(p, cache, d, d_ys[t, b])
                for name in d_p_step:
                    d_p[name] += d_p_step[name]
            if was_reset:
                for total, leaf in zip(d_initial, d, strict=True):
                    total[b] += leaf
                d = tuple(np.zeros_like(leaf) for leaf in d)
        for total, leaf in zip(d_first, d, strict=True):
            total[b] = leaf
    return Gradients(d_p, tuple(d_first), tuple(d_initial), d_xs)


def _run(form, p, xs, carry, initial, mask, reset, reverse):
    T, B, _ = xs.shape
    ys = np.zeros((T, B, form.size or carry[0].shape[-1]))
    last = tuple(np.array(leaf) for leaf in carry)
    tape = []
    for b in range(B):
        row = tuple(leaf[b] for leaf in carry)
        steps = []
        for t in reversed(range(T)) if reverse else range(T):
            starts = t + 1 if reverse else t  # backwards, the border of a sequence that starts at t+1 is crossed here
            was_reset = reset is not None and starts < T and bool(reset[starts, b])
            if was_reset:
                row = tuple(leaf[b] for leaf in initial)
            cache = None
            if mask is None or mask[t, b]:
                row, ys[t, b], cache = form.step(p, row, xs[t, b])
            steps.append((t, was_reset, cache))
        for whole, leaf in zip(last, row, strict=True):
            whole[b] = leaf
        tape.append(steps)
    return last, ys, tape
