"""Initial values of the decays of linear cells, and functions of decays that need numerical care.

Values are drawn in at least float32 and rounded once to the dtype of the params.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseq._promote import widen


def drawn(draw: Callable[[jax.Array], jax.Array], key: jax.Array, shape: tuple[int, ...], dtype=None) -> jax.Array:
    """Returns `draw` of uniform numbers in [0, 1), as params of `dtype`. None: JAX's default float."""
    dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    return draw(jax.random.uniform(key, shape, widen(dtype))).astype(dtype)


def log_uniform(low: float, high: float) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from uniform numbers to the logarithms of log-uniform numbers in [low, high)."""
    return lambda u: math.log(low) + u * (math.log(high) - math.log(low))


def softplus_of_steps(u: jax.Array) -> jax.Array:
    """Returns numbers whose softplus is log-uniform in [0.001, 0.1), Mamba's step sizes, from uniform numbers `u`."""
    step = jnp.exp(log_uniform(1e-3, 1e-1)(u))
    return step + jnp.log(-jnp.expm1(-step))


def root_of_rest(log_a: jax.Array) -> jax.Array:
    """Returns √(1 - a²) from log a ≤ 0, exact if a is near 1.

    At a = 1 the derivative is infinite. If 1 - a² is below the smallest normal number, value and derivative are 0.
    """
    rest = -jnp.expm1(2 * log_a)
    least = jnp.finfo(rest.dtype).tiny
    return jnp.where(rest > least, jnp.sqrt(jnp.maximum(rest, least)), 0)


def held_input(z: jax.Array) -> jax.Array:
    """Returns (eᶻ - 1) / z of complex z, exact near 0, also its derivatives.

    Near 0 it is computed as exp(z/2) sinh(z/2) / (z/2).
    It is ∫₀¹ e^{zs} ds: what a decaying state takes from an input that is held for one step.
    """
    near = jnp.abs(jax.lax.stop_gradient(z)) < 1
    w = jnp.where(near, z / 2, 0)
    series = jnp.ones_like(w)
    for k in range(8, 0, -1):  # sinh(w) / w = 1 + w²/(2·3) (1 + w²/(4·5) (1 + …))
        series = 1 + w * w / (2 * k * (2 * k + 1)) * series
    far = jnp.where(near, 1, z)
    return jnp.where(near, jnp.exp(w) * series, (jnp.exp(far) - 1) / far)
