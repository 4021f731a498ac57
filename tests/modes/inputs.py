"""Small inputs of the calls, drawn by NumPy: nothing is compiled for them."""

import jax
import jax.numpy as jnp
import numpy as np

T, B, D, H, K, V = 3, 2, 3, 4, 3, 5


def key() -> jax.Array:
    """A key."""
    return jax.random.key(0)


def floats(*shape: int, seed: int = 0) -> jax.Array:
    """Normal numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def log_probs(*shape: int, seed: int = 0) -> jax.Array:
    """Logarithms of distributions over the last axis."""
    p = np.random.default_rng(seed).random(shape) + 0.1
    return jnp.asarray(np.log(p / p.sum(-1, keepdims=True)).astype(np.float32))


def ids(*shape: int, below: int = V, seed: int = 0) -> jax.Array:
    """Integers from 0."""
    return jnp.asarray(np.random.default_rng(seed).integers(below, size=shape).astype(np.int32))


def mask(*lead: int, last: int = T) -> jax.Array:
    """Flags `[..., last]` of which each row has its first True, and the last one False somewhere."""
    flags = np.ones((*lead, last), bool)
    flags[..., 0, -1] = False
    return jnp.asarray(flags)


def time_mask() -> jax.Array:
    """Flags `[T, B]`."""
    return mask(B).T


def resets() -> jax.Array:
    """Flags `[T, B]`, one of them True."""
    return jnp.asarray(np.arange(T * B).reshape(T, B) == B)
