"""Batches that ask for memory, drawn as training goes: adding, copying, and parity since the last reset."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SYMBOLS, KINDS = 10, 8
BLANK, DELIMITER = KINDS, KINDS + 1
RESET_RATE = 0.1


class Batch(NamedTuple):
    """B sequences, time leading."""

    xs: jax.Array  # [T, B, D]
    targets: jax.Array  # [S, B, K], of the last S steps; copy: one-hot
    reset: jax.Array | None = None  # bool [T, B]


def adding(key: jax.Array, T: int, B: int) -> Batch:
    """Draws a value and a marker at each step, and the sum of the two values that are marked."""
    keys = jax.random.split(key, 3)
    values = jax.random.uniform(keys[0], (T, B))
    first = jax.random.randint(keys[1], (B,), 0, T // 2)
    second = jax.random.randint(keys[2], (B,), T // 2, T)
    markers = (jax.nn.one_hot(first, T) + jax.nn.one_hot(second, T)).T
    return Batch(jnp.stack([values, markers], axis=-1), jnp.sum(values * markers, axis=0)[None, :, None])


def copy(key: jax.Array, T: int, B: int) -> Batch:
    """Draws ten symbols, blanks and a delimiter, one-hot, and the symbols."""
    symbols = jax.random.randint(key, (SYMBOLS, B), 0, KINDS)
    ids = jnp.full((T + 2 * SYMBOLS, B), BLANK).at[:SYMBOLS].set(symbols).at[T + SYMBOLS - 1].set(DELIMITER)
    return Batch(jax.nn.one_hot(ids, KINDS + 2), jax.nn.one_hot(symbols, KINDS))


def parity(key: jax.Array, T: int, B: int) -> Batch:
    """Draws random bits, the parity of those since the last reset, and the resets."""
    key_bits, key_reset = jax.random.split(key)
    bits = jax.random.bernoulli(key_bits, 0.5, (T, B))
    reset = jax.random.bernoulli(key_reset, RESET_RATE, (T, B))
    ones = jnp.cumsum(bits, axis=0)
    before = jax.lax.cummax(jnp.where(reset, ones - bits, 0), axis=0)  # the ones of the pieces that are over
    return Batch(bits[..., None].astype(float), (ones - before)[..., None] % 2.0, reset)
