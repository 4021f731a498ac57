"""The inputs of each step of a loop, rebuilt from the outputs of its steps."""

import jax
import jax.numpy as jnp


def handed_to_steps(first: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """Returns the input of each step: `first` for the first step, then the result in `after` of the previous step."""
    if reverse:
        return jnp.concatenate([after, first[None]])[1:]
    return jnp.concatenate([first[None], after])[:-1]
