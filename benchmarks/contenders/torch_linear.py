"""PyTorch: a diagonal recurrence and the delta rule in loops of Python, Mamba-2 in chunks, with PyTorch's gradients.

Each form takes params by the names of ours, with `requires_grad` set, and `xs [T, B, D]`; it returns `ys [T, B, H]`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn.functional import pad, softplus  # pyright: ignore[reportMissingImports]

from benchmarks import measure

_CHUNK = 64

torch.set_num_threads(measure.cores())


def min_gru(p, xs):
    """A step at a time, h' = (1 - z) h + z n."""
    z, n = (xs @ p.w_x + p.b).chunk(2, -1)
    z = z.sigmoid()
    h, ys = torch.zeros_like(n[0]), []
    for keep, new in zip(1 - z, z * n, strict=True):
        h = keep * h + new
        ys.append(h)
    return torch.stack(ys)


def mamba2(p, xs):
    """In chunks of 64 steps, S' = α S + k vᵀ: scores within a chunk, and the state from one to the next (Dao 2024)."""
    T, B = xs.shape[:2]
    heads = len(p.d)
    dt = softplus(xs @ p.w_dt + p.b_dt)
    v = (xs @ p.w_v).reshape(T, B, heads, -1)
    steps = (-p.a_log.exp() * dt)[..., None], (xs @ p.w_b)[:, :, None], dt[..., None] * v, (xs @ p.w_c)[:, :, None]
    S = torch.zeros(B, heads, p.w_b.shape[1], v.shape[-1])
    later = torch.ones(_CHUNK, _CHUNK).tril(-1)
    lower, seen = later + torch.eye(_CHUNK), []
    for log_decay, k, new, q in zip(*map(_in_chunks, steps), strict=True):  # [B, heads, 64, ·]
        sums, since = lower @ (later * log_decay), lower @ log_decay
        seen.append((lower * sums.exp() * (q @ k.mT)) @ new + (since.exp() * q) @ S)
        S = since[..., -1:, :].exp() * S + (sums[..., -1:, :].mT.exp() * k).mT @ new
    seen = torch.stack(seen).movedim(3, 1).flatten(0, 1)[:T]
    return (seen + p.d[:, None] * v).flatten(2)


def gated_delta_net(p, xs):
    """A step at a time, S' = α (I - β k kᵀ) S + β k vᵀ."""
    heads = len(p.a_log)
    q, k, v = ((xs @ w).unflatten(-1, (heads, -1)) for w in (p.w_q, p.w_k, p.w_v))
    q, k = (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6) for x in (q, k))
    decay = (-p.a_log.exp() * softplus(xs @ p.w_a + p.b_a)).exp()
    beta = (xs @ p.w_b).sigmoid()
    S, ys = torch.zeros(*xs.shape[1:2], heads, k.shape[-1], v.shape[-1]), []
    for a, b, q_t, k_t, v_t in zip(decay, beta, q, k, v, strict=True):
        S = a[..., None, None] * S
        S = S + k_t[..., None] * (b[..., None] * (v_t - torch.einsum("bhk,bhkv->bhv", k_t, S)))[..., None, :]
        ys.append(torch.einsum("bhk,bhkv->bhv", q_t, S))
    return torch.stack(ys).flatten(2) / k.shape[-1] ** 0.5


def _in_chunks(x):
    """`[T, B, heads, ·]` as `[chunks, B, heads, 64, ·]`, filled up with zeros."""
    x = pad(x, [0, 0] * (x.ndim - 1) + [0, -len(x) % _CHUNK])
    return x.unflatten(0, (-1, _CHUNK)).movedim(1, 3)


FORMS = {"min_gru": min_gru, "mamba2": mamba2, "gated_delta_net": gated_delta_net}


def call(name: str, params: Any, xs: Any, training: bool) -> Callable[[], Any]:
    """Returns the call of a cell's form: of `(loss, (d_params, d_xs))` as in `benchmarks.linear`, or of `ys`."""
    form = FORMS[name]
    leaves = [torch.from_numpy(np.array(leaf)).requires_grad_(training) for leaf in (*params, xs)]

    def train():
        loss = form(type(params)(*leaves[:-1]), leaves[-1]).square().mean()
        *d_params, d_xs = torch.autograd.grad(loss, leaves)
        return loss.detach(), (type(params)(*d_params), d_xs)

    @torch.inference_mode()
    def infer():
        return form(type(params)(*leaves[:-1]), leaves[-1])

    return train if training else infer
