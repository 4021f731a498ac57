"""Ids as inputs: their checks and their embedding."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseq import check
from jaxseq.nn._layer import Layer, asked
from jaxseq.typing import AnyArray


def check_ids(name: str, axes: str, ids: AnyArray) -> jax.Array:
    """Returns the ids called `name` as an array of ints after checking them."""
    ids = check.array(name, axes, ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be int ids [{axes}]; got {ids.dtype} {ids.shape}")
    if ids.ndim < axes.count(","):
        raise ValueError(f"`{name}` must be int ids [{axes}], of at least {axes.count(',')} axis; got a scalar")
    return ids


def embed(
    layer: nnx.Embed, reader: Layer | None, name: str, axes: str, ids: AnyArray, mask: AnyArray | None = None
) -> jax.Array:
    """Returns the embeddings of the ids called `name`, `[*axes, D]`, scaled as the layer that reads them requires.

    Ids on padding are ignored.
    """
    ids = check_ids(name, axes, ids)
    mask = check.flags("mask", mask, ids.shape, axes)
    ids = ids if mask is None else jnp.where(mask, ids, 0)
    # An id out of range becomes V, whose embedding is NaN; JAX would wrap negative ids, and ids from 2³² on.
    V = layer.num_embeddings
    wrong = (ids < 0) | (ids > jnp.asarray(min(V - 1, jnp.iinfo(ids.dtype).max), ids.dtype))
    embedded = layer(jnp.where(wrong, V, jnp.where(wrong, 0, ids).astype(jnp.int32)))
    scale = 1.0 if reader is None else asked(reader, "embedding_scale")
    return embedded if scale == 1 else embedded * jnp.asarray(scale, embedded.dtype)


def inputs(
    layer: nnx.Embed | None, reader: Layer | None, name: str, axes: str, xs: AnyArray, mask: AnyArray | None = None
) -> jax.Array:
    """Returns the embeddings of the ids called `name`, or without an embedding `xs` itself, as a JAX array.

    The layer that reads `xs` checks all else.
    """
    if layer is not None:
        return embed(layer, reader, name, axes, xs, mask)
    return check.as_jax(xs, name) if isinstance(xs, np.ndarray) else xs
