"""Layer normalisation without gain and bias (Ba, Kiros & Hinton 2016), over the last axis, and its backward.

n = (x - mean(x)) / √(var(x) + ε)          δx = (δn - mean(δn) - n ⊙ mean(δn ⊙ n)) / √(var(x) + ε)
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5


def normalise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns n, and 1 / √(var + ε) `[..., 1]`, which the backward also needs."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return centred * scale, scale


def normalise_back(d: jax.Array, n: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns the cotangent of x from `d`, the cotangent of n."""
    return scale * (d - jnp.mean(d, axis=-1, keepdims=True) - n * jnp.mean(d * n, axis=-1, keepdims=True))
