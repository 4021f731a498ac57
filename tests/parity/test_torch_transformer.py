"""PyTorch's Transformer, its attention and its causal convolutions on the same weights: values and gradients, float64.

PyTorch keeps the projections of queries, keys and values as one matrix `in_proj_weight [3 H, H]`, transposed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxseq import interop, nn
from tests.nn.drawn import drawn

pytestmark = pytest.mark.usefixtures("x64")

B, T, S, H, N, WIDE = 3, 6, 5, 8, 2, 12
RANDOM = np.random.default_rng(0)
XS, MEMORY = RANDOM.normal(size=(B, T, H)), RANDOM.normal(size=(B, S, H))
MASK = np.arange(T) < np.array([[6], [4], [1]])
MEMORY_MASK = np.arange(S) < np.array([[5], [2], [3]])
# Off the CPU attention is jax.nn.dot_product_attention, whose softmax is float32, whatever it is given.
SOFTMAX = 1e-11 if jax.default_backend() == "cpu" else 1e-5


def as_torch(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", ["encoder", "causal encoder", "decoder"])
def test_the_transformer(kind, norm):
    causal, memory_features = kind != "encoder", H if kind == "decoder" else None
    options = {"layers": 2, "heads": N, "hidden": WIDE, "positions": None, "norm": norm}
    layer = drawn(nn.Transformer, H, H, causal=causal, memory_features=memory_features, **options)
    graph, params = nnx.split(layer)

    def score(params, xs, memory):
        made = nnx.merge(graph, params)
        seen = made.remember(memory, mask=MEMORY_MASK) if kind == "decoder" else None
        ys = made(xs, mask=MASK, memory=seen)
        return jnp.sum(jnp.sin(ys)), ys

    grad = jax.jit(jax.value_and_grad(score, (1, 2), has_aux=True))
    (_, ys), gradients = grad(params, jnp.asarray(XS), jnp.asarray(MEMORY))

    module = interop.torch.to_transformer(layer)
    xs, memory = as_torch(XS).requires_grad_(), as_torch(MEMORY).requires_grad_()
    hides = torch.triu(torch.ones(T, T, dtype=torch.bool), 1) if causal else None
    padding = torch.tensor(~MASK)
    if kind == "decoder":
        masks = {"tgt_key_padding_mask": padding, "memory_key_padding_mask": torch.tensor(~MEMORY_MASK)}
        out = module(xs, memory, tgt_mask=hides, **masks)
    else:
        out = module(xs, mask=hides, src_key_padding_mask=padding)
    real = torch.tensor(MASK)[..., None]
    torch.sum(torch.sin(out * real)).backward()
    np.testing.assert_allclose(ys, (out * real).detach().numpy(), rtol=0, atol=SOFTMAX)
    assert xs.grad is not None
    np.testing.assert_allclose(gradients[0], (xs.grad * real).numpy(), rtol=0, atol=SOFTMAX)
    if kind == "decoder":
        assert memory.grad is not None
        np.testing.assert_allclose(gradients[1], memory.grad.numpy(), rtol=0, atol=SOFTMAX)


@pytest.mark.some(3)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu", torch.nn.GELU(approximate="tanh")], ids=str)
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_from_and_back(kind, activation, bias):
    """Other epsilons, activations and none of the biases; one layer of PyTorch is one block."""
    options = {"activation": activation, "layer_norm_eps": 1e-3, "bias": bias, "batch_first": True, "dropout": 0.0}
    make = torch.nn.TransformerEncoderLayer if kind == "encoder" else torch.nn.TransformerDecoderLayer
    torch.manual_seed(0)
    module = make(H, N, WIDE, dtype=torch.float64, **options)
    layer = interop.torch.from_transformer(module, causal=False)
    memory = layer.remember(jnp.asarray(MEMORY)) if kind == "decoder" else None
    want = module(as_torch(XS), as_torch(MEMORY)) if kind == "decoder" else module(as_torch(XS))
    np.testing.assert_allclose(layer(jnp.asarray(XS), memory=memory), want.detach().numpy(), rtol=0, atol=SOFTMAX)
    again = interop.torch.to_transformer(layer).state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(again[f"layers.0.{name}"], value)


FAULTS = {
    "`module` must be one of": lambda: torch.nn.Linear(2, 2),
    "`norm_first=True` without a `norm`": lambda: torch.nn.TransformerEncoderLayer(H, N, norm_first=True),
    "`activation` silu": lambda: torch.nn.TransformerEncoderLayer(H, N, activation=torch.nn.functional.silu),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_has_no_equal_is_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.torch.from_transformer(FAULTS[words](), causal=False)


WITHOUT_EQUAL = {"positions='rotary'": {"positions": "rotary"}, "kv_heads": {"kv_heads": 1}, "activation": {}}


@pytest.mark.parametrize("option", WITHOUT_EQUAL)
def test_what_pytorch_has_no_equal_of_is_named(option):
    options = {"positions": None, "activation": jax.nn.silu if option == "activation" else jax.nn.relu}
    layer = drawn(nn.Transformer, H, H, layers=1, heads=N, causal=True, **{**options, **WITHOUT_EQUAL[option]})
    with pytest.raises(ValueError, match=f"`{option}"):
        interop.torch.to_transformer(layer)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_query_attention(kv_heads):
    from jaxseq.nn._flax import given
    from jaxseq.nn.attention._block import SelfAttention, Shape

    layer = drawn(lambda rngs: SelfAttention(Shape(H, 4, kv_heads, 1), H, given(None, None, rngs)))
    got = layer(jnp.asarray(XS), layer.of(jnp.asarray(XS), None), jnp.tri(T, dtype=bool)[None].repeat(B, 0), None)

    def heads(part, count):
        projected = as_torch(XS) @ as_torch(part.kernel[...]) + as_torch(part.bias[...])
        return projected.reshape(B, T, count, H // 4).transpose(1, 2)

    parts = heads(layer.query, 4), heads(layer.key, kv_heads), heads(layer.value, kv_heads)
    found = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True)
    found = found.transpose(1, 2).reshape(B, T, H)
    assert layer.out.bias is not None
    want = found @ as_torch(layer.out.kernel[...]) + as_torch(layer.out.bias[...])
    np.testing.assert_allclose(got, want, rtol=0, atol=SOFTMAX)


@pytest.mark.parametrize("weight_norm", [True, False])
def test_the_causal_convolution(weight_norm):
    layer = drawn(nn.TCN, H, [H], width=3, weight_norm=weight_norm)
    convs = []
    with torch.no_grad():
        for ours in layer.convs:
            theirs = torch.nn.Conv1d(H, H, 3, dtype=torch.float64)
            kernel = as_torch(ours.kernel[...])
            if weight_norm:  # over width and inputs, a norm for each output
                kernel = kernel * as_torch(ours.scale[...]) / torch.linalg.vector_norm(kernel, dim=(0, 1))
            theirs.weight.copy_(kernel.flip(0).permute(2, 1, 0))  # ours has the present first
            assert theirs.bias is not None
            theirs.bias.copy_(as_torch(ours.bias[...]))
            convs.append(theirs)
        hidden = xs = as_torch(XS).transpose(1, 2)
        for conv in convs:
            hidden = torch.relu(conv(torch.nn.functional.pad(hidden, (2, 0))))
        want = torch.relu(hidden + xs).transpose(1, 2)
    np.testing.assert_allclose(layer(jnp.asarray(XS)), want.numpy(), rtol=0, atol=1e-10)
