"""Activations of gates and candidates, and the backward of any, for the hand-written backward passes.

The derivative of tanh, sigmoid and relu follows from the output, so that is all a step saves; for any other activation
it saves the pre-activation too.
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
    """σ(a) = ½ tanh(½ a) + ½: on CPUs tanh vectorises and the exponential's form does not."""
    return 0.5 * jnp.tanh(0.5 * a) + 0.5


def gated(gate: Activation, a: jax.Array) -> jax.Array:
    """gate(a), a sigmoid as above."""
    return sigmoid(a) if gate in SIGMOIDS else gate(a)


def remember(activation: Activation, a: jax.Array) -> jax.Array | None:
    """What `activation_back` needs beside the output: the pre-activation `a`, or None."""
    return None if activation in _BACK_FROM_OUTPUT else a


def activation_back(activation: Activation, d: jax.Array, y: jax.Array, a: jax.Array | None) -> jax.Array:
    """The cotangent of the pre-activation from `d`, that of the output `y`; `a` is what `remember` returned."""
    if a is None:
        return _BACK_FROM_OUTPUT[activation](d, y)
    return jax.vjp(activation, a)[1](d.astype(a.dtype))[0]
