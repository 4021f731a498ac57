"""What a loop hands to each of its steps, from what the steps made."""

import jax
import jax.numpy as jnp


def handed_to_steps(first: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """Returns what a loop handed to each step: `first` to the first one, then what the step before left in `after`."""
    if reverse:
        return jnp.concatenate([after, first[None]])[1:]
    return jnp.concatenate([first[None], after])[:-1]
