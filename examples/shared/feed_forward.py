"""A net that is pointwise in time, as a Composite: without it, linear recurrences one after the other would be one.

jaxseq.stack(*[jaxseq.residual(part) for part in (jaxseq.lru(64), mlp(64), jaxseq.lru(64), mlp(64))])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

import jaxseq


class MlpParams(NamedTuple):
    """`w_1 [H, 2H]`, `b_1 [2H]`, `w_2 [2H, H]`."""

    w_1: jax.Array
    b_1: jax.Array
    w_2: jax.Array


@jaxseq.factory
def mlp(size: int) -> jaxseq.Composite:
    """Returns the net gelu(x W_1 + b_1) W_2, which carries nothing."""

    def init(key, in_size, dtype=None):
        keys, draw = jax.random.split(key), jaxseq.initializers.glorot_uniform()
        w_1, w_2 = draw(keys[0], (in_size, 2 * size), dtype), draw(keys[1], (2 * size, size), dtype)
        return MlpParams(w_1, jnp.zeros_like(w_1[0]), w_2)

    def carry(params, batch_shape=()):
        return ()

    def unroll(run, params, xs, carry, *, mask, reset, reverse, key):
        return carry, jaxseq.masking.keep(mask, step(params, carry, xs)[1])

    def step(params, carry, x):
        return carry, jax.nn.gelu(x @ params.w_1 + params.b_1) @ params.w_2

    return jaxseq.Composite(size, init, carry, unroll, step)
