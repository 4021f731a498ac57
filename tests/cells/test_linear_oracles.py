"""The plain loops of the linear cells, before anything is held against them: beside other forms of their equations."""

import numpy as np

from tests import reference
from tests.forms import gated_diagonal, matrix_memories, time_invariant
from tests.forms.complex_step import dot, plain_form, sigma, softplus

T, D, H, K = 6, 3, 4, 2


def drawn(seed, **shapes):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape) for name, shape in shapes.items()}


def run(form, p, xs, *start):
    return reference.unroll(form, p, xs[:, None], tuple(part[None] for part in start)).ys[:, 0]


def test_complex_steps_give_the_gradient_that_was_derived_by_hand():
    def step(p, carry, x):
        (h,) = carry
        u_r, u_z, u_n = np.split(dot(x, p["w_x"]) + p["b"], 3, axis=-1)
        w_r, w_z, w_n = np.split(p["w_h"], 3, axis=-1)
        r, z = sigma(u_r + dot(h, w_r)), sigma(u_z + dot(h, w_z))
        h = (1 - z) * np.tanh(u_n + r * (dot(h, w_n) + p["b_hn"])) + z * h
        return (h,), h

    p = drawn(0, w_x=(D, 3 * H), w_h=(H, 3 * H), b=3 * H, b_hn=H)
    xs, d_ys = drawn(1, xs=(T, 2, D), d_ys=(T, 2, H)).values()
    carry, d_carry = drawn(2, carry=(2, H), d_carry=(2, H)).values()
    got, want = (
        reference.bptt(form, p, xs, (carry,), (d_carry,), d_ys) for form in (plain_form(step, H), reference.gru())
    )
    for name in p:
        np.testing.assert_allclose(got.params[name], want.params[name], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.xs, want.xs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.carry[0], want.carry[0], rtol=1e-12, atol=1e-12)


def test_a_complex_state_has_the_cotangents_of_its_two_parts():
    """By finite differences of the real loss Re(δ · h'), along the real axis and along the imaginary one."""
    form = time_invariant.lru(H)
    modes = {"b_re": (D, K), "b_im": (D, K), "c_re": (K, H), "c_im": (K, H)}
    p = drawn(0, nu=K, theta=K, gamma=K, **modes, w_d=(D, H))
    x, d_y, re, im, d_re, d_im = drawn(1, x=D, d_y=H, re=K, im=K, d_re=K, d_im=K).values()
    h, d = re + 1j * im, d_re + 1j * d_im

    def loss(h):
        (after,), y, _ = form.step(p, (h,), x)
        return np.sum((d * after).real) + np.sum(d_y * y)

    _, (d_h,), _ = form.back(p, form.step(p, (h,), x)[2], (d,), d_y)
    for direction in (np.eye(K)[0], 1j * np.eye(K)[1]):
        slope = (loss(h + 1e-6 * direction) - loss(h - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(slope, np.sum((d_h * direction).real), rtol=1e-8)


def test_the_time_invariant_ones_are_convolutions():
    """y_t = Re Σ_s λ^(t-s) (x_s B̄) C + x_t w_d, in complex numbers."""
    modes = {"b_re": (D, K), "b_im": (D, K), "c_re": (K, H), "c_im": (K, H), "w_d": (D, H)}
    xs = drawn(1, xs=(T, D))["xs"]
    p = drawn(0, nu=K, theta=K, gamma=K, **modes)
    B, C = p["b_re"] + 1j * p["b_im"], p["c_re"] + 1j * p["c_im"]
    decay = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    of_lru = (decay, B * np.exp(p["gamma"]), C, time_invariant.lru(H), p)
    p = drawn(2, log_re=K, im=K, log_dt=K, **modes)
    B, C = p["b_re"] + 1j * p["b_im"], p["c_re"] + 1j * p["c_im"]
    pole, dt = -np.exp(p["log_re"]) + 1j * p["im"], np.exp(p["log_dt"])
    of_s5 = (np.exp(pole * dt), B * np.expm1(pole * dt) / pole, 2 * C, time_invariant.s5(H), p)
    for decay, B, C, form, p in (of_lru, of_s5):
        want = [
            sum((decay ** (t - s) * (xs[s] @ B)) @ C for s in range(t + 1)).real + xs[t] @ p["w_d"] for t in range(T)
        ]
        np.testing.assert_allclose(run(form, p, xs, np.zeros(K, complex)), want, rtol=1e-12)


def test_the_delta_rule_multiplies_by_a_matrix():
    """S' = α (I - β k kᵀ) S + β k vᵀ, one head, with the matrix written out."""
    p = drawn(0, w_q=(D, K), w_k=(D, K), w_v=(D, H), w_b=(D, 1), w_a=(D, 1), a_log=1, b_a=1)
    xs, S, want = drawn(1, xs=(T, D))["xs"], np.zeros((K, H)), []
    for x in xs:
        q, k = (a / np.sqrt(np.sum(a**2) + 1e-6) for a in (x @ p["w_q"], x @ p["w_k"]))
        decay, beta = np.exp(-np.exp(p["a_log"]) * softplus(x @ p["w_a"] + p["b_a"])), 2 * sigma(x @ p["w_b"])
        S = decay * (np.eye(K) - beta * np.outer(k, k)) @ S + beta * np.outer(k, x @ p["w_v"])
        want.append(q @ S / np.sqrt(K))
    form = matrix_memories.gated_delta_net(H, 1, K, negative=True)
    np.testing.assert_allclose(run(form, p, xs, np.zeros((1, K, H))), want, rtol=1e-12)


def test_the_stabiliser_leaves_the_mlstm_as_it_is():
    """C and n without it, and max(|qᵀn|, 1) below."""
    shapes = {"w_q": (D, K), "w_k": (D, K), "w_v": (D, H), "w_i": (D, 1), "w_f": (D, 1), "b_i": 1, "b_f": 1}
    p = drawn(0, **shapes, w_o=(D, H), b_o=H)
    xs, C, n, want = drawn(1, xs=(T, D))["xs"], np.zeros((K, H)), np.zeros(K), []
    for x in xs:
        q, k = x @ p["w_q"], x @ p["w_k"] / np.sqrt(K)
        f, i = sigma(x @ p["w_f"] + p["b_f"]), np.exp(x @ p["w_i"] + p["b_i"])
        C, n = f * C + i * np.outer(k, x @ p["w_v"]), f * n + i * k
        want.append(sigma(x @ p["w_o"] + p["b_o"]) * (q @ C) / max(abs(q @ n), 1))
    got = run(matrix_memories.mlstm(H, 1, K), p, xs, np.zeros((1, K, H)), np.zeros((1, K)), np.zeros(1))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_selective_state_space_is_one_memory_a_channel():
    """Mamba, and Mamba-2 of one feature a head, as loops over channels and states."""
    N = 2
    p = drawn(0, w_1=(H, 1), w_2=(1, H), b_dt=H, w_b=(H, N), w_c=(H, N), a_log=(H, N), d=H)
    xs, want = drawn(1, xs=(T, H))["xs"], np.zeros((T, H))
    for channel in range(H):
        h = np.zeros(N)
        for t, x in enumerate(xs):
            dt = np.logaddexp(0, (x @ p["w_1"] @ p["w_2"] + p["b_dt"])[channel])
            for n in range(N):
                h[n] = np.exp(-dt * np.exp(p["a_log"][channel, n])) * h[n] + dt * x[channel] * (x @ p["w_b"])[n]
            want[t, channel] = h @ (x @ p["w_c"]) + p["d"][channel] * x[channel]
    np.testing.assert_allclose(run(gated_diagonal.mamba(H), p, xs, np.zeros((H, N))), want, rtol=1e-12)
    p = drawn(2, w_v=(H, H), w_b=(H, N), w_c=(H, N), w_dt=(H, H), b_dt=H, a_log=H, d=H)
    for head in range(H):
        h = np.zeros(N)
        for t, x in enumerate(xs):
            dt, v = np.logaddexp(0, (x @ p["w_dt"] + p["b_dt"])[head]), (x @ p["w_v"])[head]
            h = np.exp(-np.exp(p["a_log"][head]) * dt) * h + dt * v * (x @ p["w_b"])
            want[t, head] = h @ (x @ p["w_c"]) + p["d"][head] * v
    np.testing.assert_allclose(run(matrix_memories.mamba2(H, H), p, xs, np.zeros((H, N, 1))), want, rtol=1e-12)
