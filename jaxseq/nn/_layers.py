"""Flax's own layers as the models use them: in JAX's default float unless said otherwise, ids checked."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.typing import Cell, Composite

DType = jax.typing.DTypeLike | None


def linear(
    in_features: int, out_features: int, param_dtype: DType, rngs: nnx.Rngs, *, use_bias: bool = True
) -> nnx.Linear:
    """Returns a linear layer."""
    return nnx.Linear(in_features, out_features, use_bias=use_bias, param_dtype=default_float(param_dtype), rngs=rngs)


def embedding(vocabulary: int, features: int, param_dtype: DType, rngs: nnx.Rngs) -> nnx.Embed:
    """Returns an embedding of `vocabulary` ids."""
    vocabulary = check.positive_int("vocabulary", vocabulary)
    return nnx.Embed(vocabulary, features, param_dtype=default_float(param_dtype), rngs=rngs)


def optional_embedding(vocabulary: int | None, features: int, param_dtype: DType, rngs: nnx.Rngs) -> nnx.Embed | None:
    """Returns an embedding of `vocabulary` ids; None for inputs that are floats."""
    return None if vocabulary is None else embedding(vocabulary, features, param_dtype, rngs)


def embed(layer: nnx.Embed, name: str, axes: str, ids: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Returns the embeddings of the ids called `name`, `[*axes, D]`; ids on padding may be anything."""
    ids = check.array(name, axes, ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be int ids [{axes}]; got {ids.dtype} {ids.shape}")
    if ids.ndim < axes.count(","):
        raise ValueError(f"`{name}` must be int ids [{axes}], of at least {axes.count(',')} axis; got a scalar")
    mask = check.flags("mask", mask, ids.shape, axes)
    ids = ids if mask is None else jnp.where(mask, ids, 0)
    # A wrong id becomes V, whose embedding is NaN; JAX would count from the end, or past 2³² from the start.
    V = layer.num_embeddings
    wrong = (ids < 0) | (ids > jnp.asarray(min(V - 1, jnp.iinfo(ids.dtype).max), ids.dtype))
    embedded = layer(jnp.where(wrong, V, jnp.where(wrong, 0, ids).astype(jnp.int32)))
    return embedded if V > 1 else jnp.where(wrong[..., None], jnp.nan, embedded)  # Flax repeats a single row unasked


def inputs(layer: nnx.Embed | None, xs: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the embeddings of the ids `xs`; without an embedding, `xs`."""
    return xs if layer is None else embed(layer, "xs", "B, T", xs, mask)


def causal(cell: Cell | Composite) -> None:
    """Raises unless `cell` can predict the next step."""
    check.net(cell)
    if cell.step is None:
        raise ValueError(
            "`cell` must be causal; this Composite reads ahead, as bidirectional does, and would see the steps that it "
            "has to predict"
        )


def some_steps(name: str, steps: int) -> None:
    """Raises unless there is a step to go on from."""
    if steps == 0:
        raise ValueError(f"`{name}` must hold at least one step to go on from; got none")


def default_float(param_dtype: DType) -> jax.typing.DTypeLike:
    """Returns the dtype, or JAX's default float for None."""
    return jnp.result_type(float) if param_dtype is None else param_dtype
