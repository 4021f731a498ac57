"""Features of several heads, concatenated: `[..., heads · F]`."""

import jax

from jaxseq import check


def by_head(a: jax.Array, heads: int) -> jax.Array:
    """Returns `[..., heads · F]` as `[..., heads, F]`."""
    return a.reshape(*a.shape[:-1], heads, a.shape[-1] // heads)


def flat(a: jax.Array) -> jax.Array:
    """Returns `[..., heads, F]` as `[..., heads · F]`."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def size_of_heads(size: int, heads: int) -> tuple[int, int]:
    """Returns `size` and `heads`, after checking that `heads` divides `size`."""
    size, heads = check.positive_int("size", size), check.positive_int("heads", heads)
    if size % heads:
        raise ValueError(f"`heads` must divide `size`; got {heads} heads of {size} features")
    return size, heads


def same_size(name: str, size: int, in_size: int) -> int:
    """Returns the number of input features, after checking that it is `size`. Errors name the cell `name`."""
    in_size = check.positive_int("in_size", in_size)
    if in_size != size:
        raise ValueError(
            f"`{name}({size})` needs inputs with {size} features, its own size; got {in_size}. "
            "Put a layer of that size before it."
        )
    return in_size
