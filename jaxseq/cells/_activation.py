"""Activations of gates and candidates, and their backward, for the hand-written backward passes.

The derivatives of tanh, sigmoid and relu follow from the output, so a step saves only the output. For any other
activation it also saves the pre-activation.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]

_BACK_FROM_OUTPUT: dict[Activation, Callable[[jax.Array, jax.Array], jax.Array]] = {
    jnp.tanh: lambda d, y: d * (1 - y * y),
    jax.lax.tanh: lambda d, y: d * (1 - y * y),
    jax.nn.sigmoid: lambda d, y: d * y * (1 - y),
    jax.lax.logistic: lambda d, y: d * y * (1 - y),
    jax.nn.relu: lambda d, y: d * (y > 0).astype(y.dtype),
}
SIGMOIDS = (jax.nn.sigmoid, jax.lax.logistic)


def sigmoid(a: jax.Array) -> jax.Array:
    """Returns σ(a) = ½ tanh(½ a) + ½. On CPUs tanh vectorises; the form with the exponential does not."""
    return 0.5 * jnp.tanh(0.5 * a) + 0.5


def gated(gate: Activation, a: jax.Array) -> jax.Array:
    """Returns gate(a). The sigmoid is computed as above."""
    return sigmoid(a) if gate in SIGMOIDS else gate(a)


def remember(activation: Activation, a: jax.Array) -> jax.Array | None:
    """Returns what `activation_back` needs in addition to the output: the pre-activation `a`, or None."""
    return None if activation in _BACK_FROM_OUTPUT else a


def activation_back(activation: Activation, d: jax.Array, y: jax.Array, a: jax.Array | None) -> jax.Array:
    """Returns the cotangent of the pre-activation, from `d`, that of the output `y`, and `a` from `remember`."""
    if a is None:
        return _BACK_FROM_OUTPUT[activation](d, y)
    return jax.vjp(activation, a)[1](d.astype(a.dtype))[0]
