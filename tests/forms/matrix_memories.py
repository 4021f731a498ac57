"""Mamba-2, gated linear attention, DeltaNet with and without its gate, and the mLSTM: matrices S [heads, K, V]."""

import numpy as np

import jaxseq
from tests.forms.complex_step import by_head, dot, flat, larger, log_sigma, magnitude, plain_form, sigma, softplus
from tests.forms.entry import SIZE, cell_entry


def outer(k, v):
    """k vᵀ, `[..., K]`, `[..., V]` -> `[..., K, V]`."""
    return k[..., :, None] * v[..., None, :]


def mamba2(size, heads):
    def step(p, carry, x):
        (S,) = carry
        dt = softplus(dot(x, p["w_dt"]) + p["b_dt"])
        decay = np.exp(-np.exp(p["a_log"]) * dt)
        v = by_head(dot(x, p["w_v"]), heads)
        k, q = (dot(x, p[name])[..., None, :] for name in ("w_b", "w_c"))  # one of all heads
        S = decay[..., None, None] * S + outer(k, dt[..., None] * v)
        return (S,), flat(dot(q, S) + p["d"][..., None] * v)

    return plain_form(step, size)


def gla(size, heads, key_size):
    def step(p, carry, x):
        (S,) = carry
        q, k, v = (by_head(dot(x, p[name]), heads) for name in ("w_q", "w_k", "w_v"))
        decay = by_head(sigma(dot(dot(x, p["w_1"]), p["w_2"]) + p["b"]) ** (1 / 16), heads)
        S = decay[..., None] * S + outer(k, v)
        return (S,), flat(dot(q, S) / np.sqrt(key_size))

    return plain_form(step, size)


def gated_delta_net(size, heads, key_size, gated=True, negative=False):
    def unit(a):
        return a / np.sqrt(np.sum(a * a, axis=-1, keepdims=True) + 1e-6)

    def step(p, carry, x):
        (S,) = carry
        q, k, v = (by_head(dot(x, p[name]), heads) for name in ("w_q", "w_k", "w_v"))
        q, k = unit(q), unit(k)
        beta = (2 if negative else 1) * sigma(dot(x, p["w_b"]))[..., None, None]
        if gated:
            S = np.exp(-np.exp(p["a_log"]) * softplus(dot(x, p["w_a"]) + p["b_a"]))[..., None, None] * S
        S = S - beta * outer(k, dot(k, S)) + beta * outer(k, v)
        return (S,), flat(dot(q, S) / np.sqrt(key_size))

    return plain_form(step, size)


def mlstm(size, heads, key_size):
    def step(p, carry, x):
        C, n, m = carry
        q, k, v = (by_head(dot(x, p[name]), heads) for name in ("w_q", "w_k", "w_v"))
        k = k / np.sqrt(key_size)
        write, keep = dot(x, p["w_i"]) + p["b_i"], log_sigma(dot(x, p["w_f"]) + p["b_f"])
        m_new = larger(keep + m, write)
        f, i = np.exp(keep + m - m_new), np.exp(write - m_new)
        C = f[..., None, None] * C + i[..., None, None] * outer(k, v)
        n = f[..., None] * n + i[..., None] * k
        least = larger(magnitude(np.sum(q * n, axis=-1)), np.exp(-m_new))
        y = sigma(dot(x, p["w_o"]) + p["b_o"]) * flat(dot(q, C) / least[..., None])
        return (C, n, m_new), y

    return plain_form(step, size)


MATRICES = [np.zeros((2, 3, SIZE // 2))]  # of two heads, K = 3
CELLS = {
    "mamba2": cell_entry(jaxseq.mamba2(SIZE, heads=2, state=3), mamba2(SIZE, 2), MATRICES),
    "gla": cell_entry(jaxseq.gla(SIZE, heads=2, key_size=3), gla(SIZE, 2, 3), MATRICES),
    "gated_delta_net": cell_entry(
        jaxseq.gated_delta_net(SIZE, heads=2, key_size=3), gated_delta_net(SIZE, 2, 3), MATRICES
    ),
    "delta_net_negative": cell_entry(
        jaxseq.gated_delta_net(SIZE, heads=2, key_size=3, gated=False, negative=True),
        gated_delta_net(SIZE, 2, 3, gated=False, negative=True),
        MATRICES,
    ),
    "mlstm": cell_entry(
        jaxseq.mlstm(SIZE, heads=2, key_size=3),
        mlstm(SIZE, 2, 3),
        [*MATRICES, np.zeros((2, 3)), np.zeros(2)],
    ),
}
