"""Position encodings, which tell attention the place of each step.

    sinusoidal   added to the input: sin(p ω_i) and cos(p ω_i), half of the features each     (Vaswani et al. 2017)
    rotary       rotates pairs of features of queries and keys by the angle p ω_i             (Su et al. 2021)

p is the position, from 0, and ω_i = 10000^(-i / n) for i = 0 … n - 1, where n is half the number of features.
"""

import jax
import jax.numpy as jnp

from jaxseq._promote import expand_rank


def sinusoidal(positions: jax.Array, features: int, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns the sinusoidal encoding `[..., features]` of positions int `[...]`; `features` must be even."""
    angles = _angles(positions, features // 2)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1).astype(dtype)


def rotary(xs: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns `xs` `[..., T, F]` rotated by positions int `[..., T]`; feature i is paired with feature i + F / 2."""
    angles = _angles(positions, xs.shape[-1] // 2)
    sine, cosine = jnp.sin(angles).astype(xs.dtype), jnp.cos(angles).astype(xs.dtype)
    sine, cosine = expand_rank(sine, xs), expand_rank(cosine, xs)
    one, other = jnp.split(xs, 2, axis=-1)
    return jnp.concatenate([one * cosine - other * sine, other * cosine + one * sine], axis=-1)


def _angles(positions, n):
    places = positions[..., None].astype(float)
    return places * expand_rank(10_000.0 ** -(jnp.arange(n, dtype=float) / n), places)
