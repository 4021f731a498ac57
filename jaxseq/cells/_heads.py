"""Features of several heads, one head behind the other: `[..., heads · F]`."""

import jax

from jaxseq import check


def by_head(a: jax.Array, heads: int) -> jax.Array:
    """Returns `[..., heads · F]` as `[..., heads, F]`."""
    return a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads)


def flat(a: jax.Array) -> jax.Array:
    """Returns `[..., heads, F]` as `[..., heads · F]`."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def size_of_heads(size: int, heads: int) -> tuple[int, int]:
    """Returns both, checked: `heads` divides `size`."""
    size, heads = check.positive_int("size", size), check.positive_int("heads", heads)
    if size % heads:
        raise ValueError(f"`heads` must divide `size`; got {heads} heads of {size} features")
    return size, heads


def same_size(name: str, size: int, in_size: int) -> int:
    """Returns the features of the inputs, which the cell `name` keeps as they are."""
    in_size = check.positive_int("in_size", in_size)
    if in_size != size:
        raise ValueError(
            f"`{name}({size})` reads inputs of its own {size} features; got {in_size}. "
            "Put a layer of that size before it."
        )
    return in_size
