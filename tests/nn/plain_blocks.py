"""The residual blocks as plain loops in NumPy: one row, one step after the other, one head at a time.

Each takes the params of a block as nested dicts of arrays and its sizes, and returns the outputs of `xs` `[T, H]`.
"""

import math

import numpy as np

gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return np.log1p(np.exp(x))


def rms(x, scale, epsilon):
    return scale * x / np.sqrt(np.mean(x**2) + epsilon)


def layer(x, scale, epsilon):
    return scale * (x - x.mean()) / np.sqrt(x.var() + epsilon)


def by_head(norm, x, scale, heads, epsilon):
    parts = zip(np.split(x, heads), np.split(scale, heads), strict=True)
    return np.concatenate([norm(part, own, epsilon) for part, own in parts])


def linear(x, p):
    return x @ p["kernel"] + p.get("bias", 0)


def blockwise(x, p):
    blocks = p["blocks"]["kernel"]
    return np.concatenate([part @ block for part, block in zip(np.split(x, len(blocks)), blocks, strict=True)])


def conv(us, p):
    w, b = p["params"]["w"], p["params"]["b"]
    return [b + sum(w[k] * us[t - k] for k in range(len(w)) if t >= k) for t in range(len(us))]


def mlp(x, p, activation):
    return linear(activation(linear(x, p["gate"])) * linear(x, p["up"]), p["down"])


def residual(xs, p, mix, norm, epsilon, activation=None):
    xs = xs + np.stack(mix([norm(x, p["norm"]["scale"], epsilon) for x in xs]))
    if activation is None:
        return xs
    return np.stack([x + mlp(norm(x, p["mlp_norm"]["scale"], epsilon), p["mlp"], activation) for x in xs])


def griffin(p, xs, *, heads):
    cell = p["cell"]["params"]

    def mix(xs):
        h, ys = 0, []
        for x, u in zip(xs, conv([linear(x, p["enter"]) for x in xs], p["conv"]), strict=True):
            r, i = (
                sigmoid(np.concatenate([part @ w for part, w in zip(np.split(u, heads), cell[name], strict=True)]) + b)
                for name, b in (("w_r", cell["b_r"]), ("w_i", cell["b_i"]))
            )
            a = np.exp(-8 * softplus(cell["lam"]) * r)
            h = a * h + np.sqrt(1 - a**2) * i * u
            ys.append(linear(gelu(linear(x, p["gate"])) * h, p["out"]))
        return ys

    return residual(xs, p, mix, rms, 1e-6, gelu)


def mamba(p, xs):
    cell = p["cell"]["params"]
    W, N = cell["a_log"].shape

    def mix(xs):
        h, ys = np.zeros((W, N)), []
        entered = [linear(x, p["enter"]) for x in xs]
        for both, u in zip(entered, conv([both[:W] for both in entered], p["conv"]), strict=True):
            u = silu(u)
            dt = softplus(u @ cell["w_1"] @ cell["w_2"] + cell["b_dt"])
            b, c = u @ cell["w_b"], u @ cell["w_c"]
            h = np.exp(-dt[:, None] * np.exp(cell["a_log"])) * h + np.outer(dt * u, b)
            ys.append(linear((h @ c + cell["d"] * u) * silu(both[W:]), p["out"]))
        return ys

    return residual(xs, p, mix, rms, 1e-5)


def mamba2(p, xs, *, heads, groups, state):
    cell = p["cell"]["params"]
    W = len(p["out_norm"]["scale"])
    V = W // heads

    def mix(xs):
        S, ys = np.zeros((heads, state, V)), []
        entered = [linear(x, p["enter"]) for x in xs]
        for x, u in zip(entered, conv([x[W : len(x) - heads] for x in entered], p["conv"]), strict=True):
            u = silu(u)
            v, b, c = u[:W].reshape(heads, V), *u[W:].reshape(2, groups, state)
            dt = softplus(x[len(x) - heads :] + cell["b_dt"])
            y = []
            for head in range(heads):
                group = head // (heads // groups)
                S[head] = np.exp(-np.exp(cell["a_log"][head]) * dt[head]) * S[head]
                S[head] += np.outer(b[group], dt[head] * v[head])
                y.append(c[group] @ S[head] + cell["d"][head] * v[head])
            y = np.concatenate(y) * silu(x[:W])
            ys.append(linear(by_head(rms, y, p["out_norm"]["scale"], groups, 1e-5), p["out"]))
        return ys

    return residual(xs, p, mix, rms, 1e-5)


def gated_delta_net(p, xs, *, heads, key_heads, key_size):
    cell, scale = p["cell"]["params"], p["out_norm"]["scale"]
    V, K = len(scale), key_size
    keys = key_heads * K

    def unit(x):
        return x / np.sqrt(np.sum(x**2) + 1e-6)

    def mix(xs):
        S, ys = np.zeros((heads, K, V)), []
        entered = [linear(x, p["enter"]) for x in xs]
        convolved = conv([both[: 2 * keys + heads * V] for both in entered], p["conv"])
        for x, both, u in zip(xs, entered, convolved, strict=True):
            u, (b, a) = silu(u), np.split(linear(x, p["gates"]), 2)
            q, k = u[:keys].reshape(key_heads, K), u[keys : 2 * keys].reshape(key_heads, K)
            v, z = u[2 * keys :].reshape(heads, V), both[-heads * V :].reshape(heads, V)
            y = []
            for head in range(heads):
                of = head // (heads // key_heads)
                beta, key = sigmoid(b[head]), unit(k[of])
                alpha = np.exp(-np.exp(cell["a_log"][head]) * softplus(a[head] + cell["b_a"][head]))
                S[head] = alpha * (np.eye(K) - beta * np.outer(key, key)) @ S[head] + beta * np.outer(key, v[head])
                y.append(rms(unit(q[of]) @ S[head] / np.sqrt(K), scale, 1e-6) * silu(z[head]))
            ys.append(linear(np.concatenate(y), p["out"]))
        return ys

    return residual(xs, p, mix, rms, 1e-6, silu)


def memory(gates, q, k, v):
    """The mLSTM without a scale of its exponential gates: all sums in the open. `gates` are i and f before them."""
    heads, K = q[0].shape
    C, n, ys = np.zeros((heads, K, v[0].shape[1])), np.zeros((heads, K)), []
    for t, (i, f) in enumerate(gates):
        y = []
        for head in range(heads):
            forget, key = sigmoid(f[head]), np.exp(i[head]) * k[t][head] / np.sqrt(K)
            C[head] = forget * C[head] + np.outer(key, v[t][head])
            n[head] = forget * n[head] + key
            y.append(q[t][head] @ C[head] / max(abs(q[t][head] @ n[head]), 1))
        ys.append(np.concatenate(y))
    return ys


def mlstm(p, xs, *, heads):
    cell, W = p["cell"]["params"], len(p["skip"])

    def mix(xs):
        entered = [linear(x, p["enter"]) for x in xs]
        u, z = [both[:W] for both in entered], [both[W:] for both in entered]
        s = [silu(x) for x in conv(u, p["conv"])]
        q, k, v = ([blockwise(x, p[name]) for x in given] for name, given in (("query", s), ("key", s), ("value", u)))
        read = [np.split(np.concatenate(qkv) @ p["gates"]["kernel"], 2) for qkv in zip(q, k, v, strict=True)]
        gates = [(i + cell["b_i"], f + cell["b_f"]) for i, f in read]
        found = memory(gates, *([x.reshape(heads, -1) for x in each] for each in (q, k, v)))
        found = [by_head(layer, x, p["out_norm"]["scale"], heads, 1e-5) for x in found]
        return [linear((x + p["skip"] * s) * silu(z), p["out"]) for x, s, z in zip(found, s, z, strict=True)]

    return residual(xs, p, mix, layer, 1e-5)


def xlstm(p, xs, *, heads, key_size, cap):
    cell, W = p["cell"]["params"], len(p["out_norm"]["scale"])
    keys = heads * key_size

    def mix(xs):
        entered = [linear(x, p["enter"]) for x in xs]
        read = [np.split(linear(x, p["gates"]), 2) for x in xs]
        gates = [
            tuple(cap * np.tanh((a + cell[b]) / cap) for a, b in zip(x, ("b_i", "b_f"), strict=True)) for x in read
        ]
        places = ((0, keys), (keys, 2 * keys), (2 * keys, 2 * keys + W))
        found = memory(gates, *([x[a:b].reshape(heads, -1) for x in entered] for a, b in places))
        found = [by_head(layer, x, p["out_norm"]["scale"], heads, 1e-6) for x in found]
        return [linear(sigmoid(x[-W:]) * y, p["out"]) for x, y in zip(entered, found, strict=True)]

    return residual(xs, p, mix, rms, 1e-6, silu)


def slstm(p, xs, *, heads):
    w, b = p["cell"]["params"]["w_h"], p["cell"]["params"]["b"]
    H = xs.shape[1]

    def recurrent(h):
        """`[4, H]`, gate by gate, from blocks that have a head's gates beside one another."""
        parts = zip(np.split(h, heads), w, strict=True)
        return np.concatenate([(part @ block).reshape(4, -1) for part, block in parts], axis=1)

    def mix(xs):
        c, n, h, ys = np.zeros(H), np.zeros(H), np.zeros(H), []
        for x, s in zip(xs, conv(xs, p["conv"]), strict=True):
            s = silu(s)
            given = (("input", s), ("forget", s), ("candidate", x), ("output", x))
            i, f, g, o = np.stack([blockwise(x, p[name]) for name, x in given]) + recurrent(h) + b.reshape(4, H)
            c, n = sigmoid(f) * c + np.exp(i) * np.tanh(g), sigmoid(f) * n + np.exp(i)
            h = sigmoid(o) * c / n
            ys.append(by_head(layer, h, p["out_norm"]["scale"], heads, 1e-5))
        return ys

    return residual(xs, p, mix, layer, 1e-5, gelu)
