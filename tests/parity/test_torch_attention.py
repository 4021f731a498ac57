"""PyTorch's multi-head attention by `interop.torch`: values and gradients, in float64, under masks, and back.

Flax's softmax is float32 in any dtype, so that the one here stands in its place.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jaxseq
from jaxseq import interop
from tests.nn.drawn import drawn
from tests.untyped import untyped

pytestmark = pytest.mark.usefixtures("x64")

B, T, S, E, N = 3, 6, 5, 8, 2
RANDOM = np.random.default_rng(0)
XS = RANDOM.normal(size=(B, T, E))
LENGTHS = np.array([5, 2, 1])
OPTIONS = [{}, {"bias": False}, {"kdim": 3, "vdim": 3}]


def made(**options):
    torch.manual_seed(0)
    module = torch.nn.MultiheadAttention(E, N, batch_first=True, dtype=torch.float64, **options)
    with torch.no_grad():
        for name, param in module.named_parameters():  # whose biases start at zero
            param.copy_(torch.tensor(RANDOM.normal(size=param.shape)) if "bias" in name else param)
    return module


def exact(queries, keys, values, mask: Any = None, **_):
    scores = jnp.einsum("btnf,bsnf->bnts", queries, keys) / np.sqrt(queries.shape[-1])
    return jnp.einsum("bnts,bsnf->btnf", jax.nn.softmax(jnp.where(mask, scores, -1e300)), values)


def from_attention(module):
    layer = interop.torch.from_attention(module)
    layer.attention_fn = exact
    return layer


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients(options):
    """Over keys of several lengths."""
    module = made(**options)
    memory = RANDOM.normal(size=(B, S, module.kdim))
    graph, params = nnx.split(from_attention(module))
    seen = jaxseq.lengths_to_mask(LENGTHS, S).T

    @jax.jit
    def gradients(params, xs, memory):
        def score(params, xs, memory):
            ys = nnx.merge(graph, params)(xs, memory, mask=seen[:, None, None])
            return jnp.sum(jnp.sin(ys)), ys

        return jax.value_and_grad(score, (0, 1, 2), has_aux=True)(params, xs, memory)

    (_, ys), (d_params, *d_inputs) = gradients(params, XS, memory)
    inputs = [torch.tensor(x, requires_grad=True) for x in (XS, memory)]
    want, _ = module(inputs[0], inputs[1], inputs[1], key_padding_mask=torch.tensor(~np.asarray(seen)))
    torch.sum(torch.sin(want)).backward()
    np.testing.assert_allclose(ys, want.detach().numpy(), rtol=0, atol=1e-12)
    for mine, theirs in zip(d_inputs, inputs, strict=True):
        np.testing.assert_allclose(mine, untyped(theirs.grad).numpy(), rtol=0, atol=1e-12)
    d_layer = nnx.merge(graph, d_params)
    d_layer.attention_fn = nnx.dot_product_attention
    d_module = interop.torch.to_attention(d_layer)
    for (name, mine), theirs in zip(d_module.named_parameters(), module.parameters(), strict=True):
        np.testing.assert_allclose(
            mine.detach().numpy(), untyped(theirs.grad).numpy(), rtol=0, atol=1e-12, err_msg=name
        )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_back_to_the_bit(options):
    module = made(**options)
    again = interop.torch.to_attention(interop.torch.from_attention(module))
    assert sorted(again.state_dict()) == sorted(module.state_dict())
    for name, value in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_causal_and_bfloat16():
    module = torch.nn.MultiheadAttention(E, N, batch_first=True, dtype=torch.bfloat16)
    layer = interop.torch.from_attention(module)
    assert layer.query.kernel.dtype == jnp.bfloat16
    assert torch.equal(interop.torch.to_attention(layer).in_proj_weight, module.in_proj_weight)
    module = made()
    layer, hides = from_attention(module), torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
    want, _ = module(*[torch.tensor(XS)] * 3, attn_mask=hides)
    got = layer(jnp.asarray(XS), mask=np.tri(T, dtype=bool)[None, None])
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=0, atol=1e-12)
    got = interop.torch.from_attention(module)(jnp.asarray(XS), is_causal=True)  # Flax's own
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=0, atol=1e-6)


def changed(part, name, value, **options):
    module = torch.nn.MultiheadAttention(E, N, **options)
    setattr(part(module), name, value)
    return module


FAULTS = {
    "`module` must be a torch.nn.MultiheadAttention": lambda: torch.nn.Linear(2, 2),
    "`kdim` 3 with `vdim` 8": lambda: torch.nn.MultiheadAttention(E, N, kdim=3),
    "`module.in_proj_weight` must be an array; got a meta": lambda: torch.nn.MultiheadAttention(E, N, device="meta"),
    "`module`: only some of its products have a bias": lambda: changed(lambda module: module.out_proj, "bias", None),
    r"`module.q_proj_weight` must be of the shape \[8, 8\]; got \[5, 8\]": lambda: changed(
        lambda module: module, "q_proj_weight", torch.nn.Parameter(torch.ones(5, E)), kdim=3, vdim=3
    ),
    "`add_bias_kv`": lambda: torch.nn.MultiheadAttention(E, N, add_bias_kv=True),
    "`add_zero_attn`": lambda: torch.nn.MultiheadAttention(E, N, add_zero_attn=True),
}


@pytest.mark.parametrize("words", FAULTS)
def test_what_flax_has_no_equal_of_is_named(words):
    with pytest.raises((TypeError, ValueError), match=words):
        interop.torch.from_attention(FAULTS[words]())


WITHOUT_EQUAL = {
    "`qkv_features=4`": {"qkv_features": 4},
    "`out_features=4`": {"out_features": 4},
    "`normalize_qk`": {"normalize_qk": True},
    "`attention_fn`": {"attention_fn": jax.nn.dot_product_attention},
}


@pytest.mark.parametrize("words", WITHOUT_EQUAL)
def test_what_pytorch_has_no_equal_of_is_named(words):
    with pytest.raises(ValueError, match=words):
        interop.torch.to_attention(drawn(nnx.MultiHeadAttention, N, E, **WITHOUT_EQUAL[words]))
    with pytest.raises(TypeError, match=r"`layer` must be an nnx\.MultiHeadAttention"):
        interop.torch.to_attention(jnp.tanh)
