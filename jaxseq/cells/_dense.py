"""The matrix products of a recurrent layer: forward, backward, and the gradients of the weights.

Products accumulate in at least float32 and are returned in that wide dtype. A bfloat16 cell thus computes its gates in
float32, and casts what it stores: the projected inputs, the saved values and the carry.
For float32 and float64, every cast here is the identity.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank, widen


def wide(x: Any) -> Any:
    """Returns the arrays in the dtype that is used for sums over them."""
    return jax.tree.map(lambda leaf: leaf.astype(widen(leaf.dtype)), x)


def dense(x: jax.Array, w: jax.Array, b: jax.Array | None = None) -> jax.Array:
    """Returns x w + b: `[..., in]`, `[in, out]`, `[out]` -> `[..., out]`, wide."""
    product = jnp.matmul(x, w, preferred_element_type=widen(w.dtype))
    return product if b is None else product + expand_rank(wide(b), product)


def dense_back(d: jax.Array, w: jax.Array) -> jax.Array:
    """Returns d wᵀ, the cotangent of x from that of x w: `[..., out]`, `[in, out]` -> `[..., in]`, wide.

    wᵀ is transposed in memory, once for a whole loop: XLA:CPU is up to a third slower with a transposed view.
    """
    return dense(d, jax.lax.optimization_barrier(w.T))


def dense_weight(x: jax.Array, d: jax.Array) -> jax.Array:
    """Returns Σ xᵀ d over all leading axes, the gradient of w: `[..., in]`, `[..., out]` -> `[in, out]`."""
    lead = tuple(range(x.ndim - 1))
    product = jax.lax.dot_general(x, d, ((lead, lead), ((), ())), preferred_element_type=widen(x.dtype))
    return product.astype(x.dtype)


def affine_back(params: Any, xs: jax.Array, d_us: jax.Array) -> tuple[Any, jax.Array]:
    """Returns the gradients of `xs w_x + b` with respect to params and xs. Gradients of other params are zero.

    JAX's own gradient swaps the factors of Σ xᵀ d, for which XLA:CPU transposes all of d, not x.
    """
    zeros = jax.tree.map(jnp.zeros_like, params)
    d_params = zeros._replace(w_x=dense_weight(xs, d_us), b=total(d_us, params.b.dtype))
    return d_params, dense_back(d_us, params.w_x).astype(xs.dtype)


def total(d: jax.Array, dtype, features: int = 1) -> jax.Array:
    """Returns Σ d over all axes but the last `features`: the gradient of a bias, `[..., out]` -> `[out]` in `dtype`."""
    return d.sum(range(d.ndim - features), dtype=widen(dtype)).astype(dtype)
