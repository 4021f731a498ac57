"""The products that a CPU takes for attention, beside jax.nn's own and NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import DTypeLike

from jaxseq.nn.attention import _dot_product

B, T, S, F = 2, 3, 5, 4


def arrays(heads, kv_heads, dtype: DTypeLike = np.float32):
    generator = np.random.default_rng(0)
    sizes = (heads, T), (kv_heads, S), (kv_heads, S)
    return [generator.normal(size=(B, *size, F)).astype(dtype) for size in sizes]


MASKS = {
    "all": None,
    "the same in all rows": np.tri(T, S, 1, dtype=bool),
    "its own in each row": np.random.default_rng(1).random((B, T, S)) < 0.6,
    "of padding": np.array([[[1, 1, 1, 0, 0]], [[0, 1, 0, 1, 0]]], bool),
}


@pytest.mark.some(4)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (2, 2), (4, 2), (3, 1)])
def test_the_products_are_jax_s_with_the_same_gradients(heads, kv_heads, mask):
    given = arrays(heads, kv_heads)

    def run(attend):
        def loss(*given):
            seen = attend(*given, mask)
            return jnp.sum(jnp.sin(seen)), seen

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(*given)

    ours, theirs = run(_dot_product._products), run(_dot_product._of_jax)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2e-6), ours, theirs)


def test_float64_is_not_rounded_on_the_way():
    with jax.enable_x64(True):
        q, k, v = arrays(1, 1, np.float64)
        got = jax.jit(_dot_product._products)(q, k, v, None)
    scores = np.einsum("bnti,bnsi->bnts", q, k) / np.sqrt(F)
    weights = np.exp(scores)
    want = np.einsum("bnts,bnsi->bnti", weights / weights.sum(-1, keepdims=True), v)
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_scores_far_apart_and_halves_are_finite():
    q, k, v = arrays(2, 2)
    run = jax.jit(_dot_product._products)
    got = run(np.float32(1e4) * q, k, v, None)
    chosen = np.einsum("bnti,bnsi->bnts", q, k).argmax(-1)
    np.testing.assert_allclose(got, np.take_along_axis(np.asarray(v), chosen[..., None], axis=2), atol=1e-5)
    halves = run(*arrays(2, 2, jnp.bfloat16), MASKS["of padding"])
    assert halves.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(halves, np.float32), run(q, k, v, MASKS["of padding"]), atol=0.03)
