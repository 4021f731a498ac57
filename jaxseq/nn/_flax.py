"""Flax's own layers as the models use them: in JAX's default float unless said otherwise."""

import functools
from collections.abc import Callable
from typing import Any

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


def scan(step: Callable, module: nnx.Module, given: Any, state: Any, xs: Any, length: int | None = None) -> tuple:
    """`jax.lax.scan` of `step(module, given, state, x) -> (state, y)`, which also eager calls compile once for shapes.

    `step` is known by its identity: a function of a class or of a file, not one that is made at each call.
    """
    graph, params = nnx.split(module)
    return _scan(step, graph, length, params, given, state, xs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _scan(step, graph, length, params, given, state, xs):
    module = nnx.merge(graph, params)
    return jax.lax.scan(lambda state, x: step(module, given, state, x), state, xs, length=length)


def default_float(param_dtype: DType) -> jax.typing.DTypeLike:
    """Returns the dtype, or JAX's default float for None."""
    return jnp.result_type(float) if param_dtype is None else param_dtype
