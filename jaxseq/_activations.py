"""Activations with parameters, as other libraries have them. Equal parameters return the same function."""

import jax
import jax.numpy as jnp

from jaxseq._factory import factory
from jaxseq.cells._activation import Activation


@factory
def hard_sigmoid(alpha: float, beta: float) -> Activation:
    """Returns max(0, min(1, alpha a + beta)), ONNX's HardSigmoid. With 0.2 and 0.5 it is that of Keras 1 and 2."""
    return lambda a: jnp.clip(alpha * a + beta, 0, 1)


@factory
def leaky_relu(alpha: float) -> Activation:
    """Returns a where a >= 0, else alpha a."""
    return lambda a: jnp.where(a >= 0, a, alpha * a)


@factory
def thresholded_relu(alpha: float) -> Activation:
    """Returns a where a >= alpha, else 0."""
    return lambda a: jnp.where(a >= alpha, a, jnp.zeros((), a.dtype))


@factory
def scaled_tanh(alpha: float, beta: float) -> Activation:
    """Returns alpha tanh(beta a)."""
    return lambda a: alpha * jnp.tanh(beta * a)


@factory
def affine(alpha: float, beta: float) -> Activation:
    """Returns alpha a + beta."""
    return lambda a: alpha * a + beta


@factory
def elu(alpha: float) -> Activation:
    """Returns a where a >= 0, else alpha (exp(a) - 1)."""
    return lambda a: jax.nn.elu(a, alpha)


@factory
def clipped(function: Activation, bound: float) -> Activation:
    """Returns `function` of a, with a clipped to ±bound: ONNX's `clip`."""
    return lambda a: function(jnp.clip(a, -bound, bound))


def exact_gelu(a: jax.Array) -> jax.Array:
    """Returns a Φ(a), by the error function. JAX's gelu approximates it by default."""
    return jax.nn.gelu(a, approximate=False)
