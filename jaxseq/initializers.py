"""Initialisers: functions `(key, shape, dtype) -> array`, as in `jax.nn.initializers`, where most of them come from.

Shapes are `[in, out]`: a weight multiplies from the right, `x @ w`.

    orthogonal      QᵀQ = I, of a Gaussian matrix (Saxe et al. 2014): keeps the norm of what it multiplies
    glorot_uniform  U(±√(6 / (in + out)))  and  glorot_normal,  N(0, 2 / (in + out))  (Glorot & Bengio 2010)
    he_uniform      U(±√(6 / in))          and  he_normal,      N(0, 2 / in)          (He et al. 2015; for relu)
    fan_in_uniform  U(±1/√in)                                                         (PyTorch's habit, with in = H)
    scaled_normal   N(0, deviation²)                                                  (the textbooks' N(0, 1/√n))
    chrono          log U(1, max_length − 1): forget biases for memories of every length (Tallec & Ollivier 2018)

All are factories: `orthogonal()` is an initialiser. The same arguments give the same object, and so the same cell.
"""

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._promote import widen
from jaxseq.typing import Initializer

__all__ = [
    "chrono",
    "fan_in_uniform",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "orthogonal",
    "per_gate",
    "scaled_normal",
]


@factory
def glorot_uniform() -> Initializer:
    """Returns the initialiser of U(±√(6 / (in + out)))."""
    return jax.nn.initializers.glorot_uniform()


@factory
def glorot_normal() -> Initializer:
    """Returns the initialiser of N(0, 2 / (in + out)), truncated at two deviations."""
    return jax.nn.initializers.glorot_normal()


@factory
def he_uniform() -> Initializer:
    """Returns the initialiser of U(±√(6 / in))."""
    return jax.nn.initializers.he_uniform()


@factory
def he_normal() -> Initializer:
    """Returns the initialiser of N(0, 2 / in), truncated at two deviations."""
    return jax.nn.initializers.he_normal()


def orthogonal(scale: float = 1.0) -> Initializer:
    """Returns an initialiser of `scale` times a matrix with orthonormal columns, or rows if there are fewer rows.

    Dtypes narrower than float32 have no QR decomposition. They are drawn in float32 and cast.
    """
    return _orthogonal(check.finite("scale", scale))


@factory
def _orthogonal(scale):
    draw = jax.nn.initializers.orthogonal(scale)

    def init(key, shape, dtype=None):
        dtype = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
        # Under vmap, one by one: on the CPU a batched QR waits for threads, and two in one program wait for each other.
        one = jax.custom_batching.sequential_vmap(lambda key: draw(key, shape, widen(dtype)))
        return one(key).astype(dtype)

    return init


@factory
def fan_in_uniform() -> Initializer:
    """Returns an initialiser of U(±1/√in), where `in` is the first axis, also of a bias `[H]`."""

    def init(key, shape, dtype=None):
        bound = shape[0] ** -0.5
        return jax.nn.initializers.uniform(2 * bound)(key, shape, dtype) - bound

    return init


def scaled_normal(deviation: float) -> Initializer:
    """Returns an initialiser of N(0, `deviation`²). The argument is the standard deviation, not the variance."""
    return _scaled_normal(check.at_least_zero("deviation", deviation))


@factory
def _scaled_normal(deviation):
    return jax.nn.initializers.normal(deviation)


def chrono(max_length: int) -> Initializer:
    """Returns an initialiser of the forget gate's bias `[H]`, log U(1, `max_length` - 1).

    A unit with forget bias b remembers for about 1 + exp(b) steps. If it is the `forget_bias` of a cell, the input
    gate's bias gets the negative, as in the paper.

    Args:
      max_length: the longest dependency to cover, in steps; at least 3.

    >>> cell = jaxseq.lstm(4, forget_bias=chrono(100))
    >>> b = cell.init(jax.random.key(0), 3).b
    >>> bool(jnp.all(b[4:8] == -b[:4])), bool(jnp.all(b[4:8] <= jnp.log(99)))
    (True, True)
    """
    length = check.finite("max_length", max_length)
    if length < 3:
        raise ValueError(f"`max_length` must be at least 3 steps; got {max_length}")
    return _chrono(length)


@factory
def _chrono(max_length):

    def init(key, shape, dtype=None):
        return jnp.log(1 + jax.nn.initializers.uniform(max_length - 2)(key, shape, dtype))

    return init


def bias(start: float | Initializer, key: jax.Array, shape: tuple[int, ...], dtype=None) -> jax.Array:
    """Returns a bias of the given shape, from a number or an initialiser."""
    return start(key, shape, dtype) if callable(start) else jnp.full(shape, start, dtype)


def with_forget_bias(forget_bias: float | Initializer | None, key: jax.Array, b: jax.Array, size: int) -> jax.Array:
    """Returns the bias `b` of gates of `size` (order i f g o or f g o) with the forget gate's part replaced.

    The values of an initialiser also go, negated, to the input gate (Tallec & Ollivier 2018). None returns `b`.
    """
    if forget_bias is None:
        return b
    i, f, rest = jnp.split(b, [b.shape[0] - 3 * size, b.shape[0] - 2 * size])
    f = bias(forget_bias, key, f.shape, f.dtype)
    return jnp.concatenate([-f if callable(forget_bias) and i.size else i, f, rest])


def per_gate(initializer: Initializer, gates: int) -> Initializer:
    """Returns an initialiser of `[in, gates * H]` that draws each gate's `[in, H]` separately, with its own fans."""
    check.initializers(initializer=initializer)
    return _per_gate(initializer, check.positive_int("gates", gates))


@factory
def _per_gate(initializer, gates):
    def init(key, shape, dtype=None):
        *fan_in, columns = shape
        keys = jax.random.split(key, gates)
        one = (*fan_in, columns // gates)
        return jnp.concatenate([initializer(key, one, dtype) for key in keys], axis=-1)

    return init
