"""PyTorch in `benchmarks.generation`: its cells, and a cache for its attention, in a loop of Python."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

import jaxseq
from benchmarks import measure
from jaxseq import nn


def by_torch(model: nn.LanguageModel, embeddings: jax.Array, B: int, length: int) -> Callable:
    """Returns the call that writes tokens `[length, B]`; `embeddings` `[V, H]` are what the layer is fed."""
    torch.set_num_threads(measure.cores())
    step, start = (
        torch_transformer(model, B, length) if isinstance(model.recurrent, nn.Transformer) else torch_cell(model)
    )
    embedding, head = tensor(embeddings), linear(model.head)

    @torch.inference_mode()
    def write():
        token, carry, written = torch.zeros(B, dtype=torch.long), start, []
        for t in range(length):
            carry, y = step(carry, embedding[token], t)
            token = head(y).argmax(-1)
            written.append(token)
        return torch.stack(written)

    return write


def tensor(array):
    return torch.from_numpy(np.array(array))


def linear(layer):
    weight, bias = tensor(layer.kernel[...]).T.contiguous(), tensor(layer.bias[...])
    return functools.partial(torch.nn.functional.linear, weight=weight, bias=bias)


def torch_cell(model):
    params, H = model.recurrent._arrays(), model.recurrent.size
    is_lstm = isinstance(params, jaxseq.LstmParams)
    cell = (torch.nn.LSTMCell if is_lstm else torch.nn.GRUCell)(H, H)
    with torch.no_grad():
        values = params.w_x.T, params.w_h.T, params.b, jnp.zeros_like(params.b)
        for weight, value in zip(cell.parameters(), values, strict=True):
            weight.copy_(tensor(value))

    def step(carry, x, t):
        carry = cell(x, carry)
        return carry, carry[0] if is_lstm else carry

    return step, None


def torch_transformer(model, B, length):
    layer, H = model.recurrent, model.recurrent.size
    N, places = layer.blocks[0].attention.heads, tensor(layer.places.embedding[...])
    functional = torch.nn.functional

    def norm(own):
        return functools.partial(
            functional.layer_norm, normalized_shape=(H,), weight=tensor(own.scale[...]), bias=tensor(own.bias[...]),
            eps=own.epsilon,
        )  # fmt: skip

    blocks = []
    for ours in layer.blocks:
        linears = [linear(getattr(ours.attention, name)) for name in ("query", "key", "value", "out")]
        cache = torch.zeros(2, B, N, length, H // N)
        blocks.append((linears, cache, linear(ours.wide), linear(ours.narrow), *map(norm, ours.norms)))
    last_norm = norm(layer.last_norm)

    def step(carry, x, t):
        h = x + places[t]
        for (query, key, value, out), (keys, values), wide, narrow, norm_1, norm_2 in blocks:
            q, k, v = (part(norm_1(h)).view(B, N, 1, -1) for part in (query, key, value))
            keys[:, :, t], values[:, :, t] = k[:, :, 0], v[:, :, 0]
            found = functional.scaled_dot_product_attention(q, keys[:, :, : t + 1], values[:, :, : t + 1])
            h = h + out(found.reshape(B, H))
            h = h + narrow(functional.gelu(wide(norm_2(h)), approximate="tanh"))
        return carry, last_norm(h)

    return step, None
