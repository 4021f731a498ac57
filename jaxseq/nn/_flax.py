"""Options that all layers share, and Flax's own layers as the models use them.

A layer has two dtypes, as in Flax. Its params are stored in `param_dtype` (None: JAX's default float). Params and
inputs are cast to `dtype` for the computation (None: the dtype of the params).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import _meshes, check
from jaxseq._cast import cast
from jaxseq._promote import widen
from jaxseq.kernels._wide import widened
from jaxseq.typing import Initializer

DType = jax.typing.DTypeLike | None
_LECUN_NORMAL = jax.nn.initializers.lecun_normal()


class Given(NamedTuple):
    """The options that all layers take, by the names of their arguments."""

    dtype: DType
    param_dtype: jax.typing.DTypeLike
    rngs: nnx.Rngs


def given(dtype: DType, param_dtype: DType, rngs: nnx.Rngs) -> Given:
    """Returns the options that all layers take, after checking them.

    Raises:
      TypeError, ValueError: an option does not fit.
    """
    if not callable(getattr(rngs, "params", None)):
        raise TypeError(f"`rngs` must be an nnx.Rngs, such as nnx.Rngs(0); got {type(rngs).__name__}")
    if isinstance(rngs, nnx.Rngs):
        check.representable(rngs.params, "rngs.params")
        for leaf in jax.tree.leaves(rngs.params):
            if jnp.shape(leaf):
                raise ValueError(f"`rngs` must hold one key, as nnx.Rngs(0) does; got {check.shaped(leaf)}")
    dtype, param_dtype = check.float_dtype("dtype", dtype), check.float_dtype("param_dtype", param_dtype)
    return Given(dtype, jnp.result_type(float) if param_dtype is None else param_dtype, rngs)


def floats(name: str, axes: str, xs: Any, params: Any, dtype: DType) -> jax.Array:
    """Returns the inputs called `name`, cast to `dtype`; if that is None, they must have the dtype of the params."""
    return check.inputs(name, axes, cast(xs, dtype), params if dtype is None else None)


class Embed(nnx.Embed):
    """An embedding whose gradient is summed in float32 at least.

    In 16 bits, the sum over the occurrences of a frequent id would stop growing at 256 times the size of a summand.
    """

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Returns the embeddings of ids int `[...]`, as `[..., features]`; NaN for ids out of range."""
        table = self.embedding[...]
        wide = table.astype(widen(table.dtype))
        found = _meshes.rows(wide, inputs, mode="fill", fill_value=jnp.nan, out_sharding=out_sharding)
        return found.astype(self.dtype)


def linear(
    in_features: int,
    out_features: int,
    given: Given,
    *,
    use_bias: bool = True,
    kernel_init: Initializer = _LECUN_NORMAL,
) -> nnx.Linear:
    """Returns a linear layer."""
    return nnx.Linear(in_features, out_features, use_bias=use_bias, kernel_init=kernel_init, **given._asdict())


def embedding(vocabulary: int, features: int, given: Given, name: str = "vocabulary") -> Embed:
    """Returns an embedding of `vocabulary` ids; errors name the argument `name`."""
    return Embed(check.positive_int(name, vocabulary), features, **given._asdict())


def optional_embedding(vocabulary: int | None, features: int, given: Given) -> Embed | None:
    """Returns an embedding of `vocabulary` ids, or None if that is None and inputs are floats."""
    return None if vocabulary is None else embedding(vocabulary, features, given)


def dropout(key: jax.Array | None, rate: float, xs: jax.Array) -> jax.Array:
    """Returns `xs` with a fraction `rate` of its entries zero and the others scaled up; unchanged without a key."""
    if key is None or rate == 0:
        return xs
    return jnp.where(jax.random.bernoulli(key, 1 - rate, xs.shape), xs / (1 - rate), 0)


def remade(run: Callable, module: nnx.Module, *arguments: Any) -> Any:
    """Returns `run(module, *arguments)`; its intermediate values are computed again in the backward pass."""
    graph, params = nnx.split(module)
    again = jax.checkpoint(lambda params, *arguments: run(nnx.merge(graph, params), *arguments))
    return again(params, *arguments)


def scan(step: Callable, module: nnx.Module, given: Any, state: Any, xs: Any, length: int | None = None) -> tuple:
    """Runs `jax.lax.scan` of `step(module, given, state, x) -> (state, y)`; eager calls compile it once per shape.

    `step` is compared by identity, so it must be a function of a class or module, not one made at each call. Gradients
    with respect to 16-bit params are summed over steps in float32.
    """
    graph, params = nnx.split(module)
    return _scan(step, graph, length, params, given, state, xs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _scan(step, graph, length, params, given, state, xs):
    wide, narrow = widened(params)
    return _meshes.scan(lambda state, x: step(nnx.merge(graph, narrow(wide)), given, state, x), state, xs, length)
