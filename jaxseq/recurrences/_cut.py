"""Splits steps into chunks. The last chunk is padded with steps that hold the carry."""

from typing import Any

import jax
import jax.numpy as jnp


def cut(element: Any, steps: int) -> Any:
    """Returns the steps `[T, ...]` of an element in chunks, `[chunks, steps, ...]`. Steps after T hold the carry.

    Raises:
      ValueError: T is a symbol of `jax.export`, and it is not known whether `steps` divides it.
    """
    T = jax.tree.leaves(element)[0].shape[0]
    if steps is T:
        return jax.tree.map(lambda leaf: leaf[None], element)
    count = -(-T // steps)
    missing = count * steps - T
    if not isinstance(missing, int):
        raise unknown(T, f"to be cut into chunks of {steps}", f" or one that {steps} divides, T = {steps}*n,")
    if missing:
        element = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, missing)] + [(0, 0)] * (leaf.ndim - 1)), element)
        element = element.hold(jnp.arange(count * steps) < T)
    return jax.tree.map(lambda leaf: leaf.reshape(count, steps, *leaf.shape[1:]), element)


def joined(chunks: Any, T: int) -> Any:
    """Returns chunks `[chunks, steps, ...]` as `[T, ...]`."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:T], chunks)


def cut_flags(flags: jax.Array, steps: int) -> jax.Array:
    """Returns flags `[T, B]` in chunks, `[chunks, steps, B]`, False after T."""
    T = flags.shape[0]
    if steps is T:
        return flags[None]
    flags = jnp.pad(flags, [(0, -T % steps)] + [(0, 0)] * (flags.ndim - 1))
    return flags.reshape(-1, steps, *flags.shape[1:])


def unknown(T: Any, why: str, other: str = "") -> ValueError:
    """Returns the error for a number of steps T that is a symbol of `jax.export`."""
    return ValueError(
        f"`xs` must have a fixed number of steps {why}; got {T}, a symbol. Export for a fixed T{other} or unroll with "
        "kernel=jaxseq.kernels.bptt"
    )
