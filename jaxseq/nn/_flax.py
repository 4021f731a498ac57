"""Flax's own layers as the models use them: in JAX's default float unless said otherwise."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check

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


def dropout(key: jax.Array | None, rate: float, xs: jax.Array) -> jax.Array:
    """Returns `xs` with a share of `rate` zero, and the others larger for it; without a key as it is."""
    if key is None or rate == 0:
        return xs
    return jnp.where(jax.random.bernoulli(key, 1 - rate, xs.shape), xs / (1 - rate), 0)


def default_float(param_dtype: DType) -> jax.typing.DTypeLike:
    """Returns the dtype, or JAX's default float for None."""
    return jnp.result_type(float) if param_dtype is None else param_dtype
