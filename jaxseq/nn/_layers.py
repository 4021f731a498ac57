"""Flax's own layers as the models use them: in JAX's default float unless said otherwise, ids checked."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseq import check
from jaxseq.nn._recurrent import Recurrent
from jaxseq.typing import Carry, Cell, Composite, Kernel, Shape

DType = jax.typing.DTypeLike | None


class Layer(Protocol):
    """What reads sequences in a model: `nn.Recurrent`, `nn.TCN`, `nn.Transformer`, or a module of your own.

    It has the attributes `in_features`, `size` and `causal`, and the methods of `nn.Recurrent`: on padding the output
    is zero and the carry held, and a reset comes before its step. A model is given a cell, from which it makes an
    `nn.Recurrent`, or such a layer, for as many features as the model feeds it.
    """

    @property
    def in_features(self) -> int:
        """D, of the inputs."""
        ...

    @property
    def size(self) -> int:
        """H, of the outputs."""
        ...

    @property
    def causal(self) -> bool:
        """Whether an output depends on no later step, and there is a `step`."""
        ...

    def __call__(
        self, xs: jax.Array, carry: Any = None, *, mask: Any = None, reset: Any = None, key: Any = None
    ) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`."""
        ...

    def unroll(
        self, xs: jax.Array, carry: Any = None, *, mask: Any = None, reset: Any = None, key: Any = None
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry, and the outputs of all steps `[B, T, H]`."""
        ...

    def step(self, carry: Any, x: jax.Array, *, reset: Any = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry, and the output of one step `[B, H]`."""
        ...

    def initial_carry(self, batch_shape: Shape = ()) -> Carry:
        """Returns the carry that sequences start from."""
        ...


def layer_of(
    cell: Cell | Composite | Layer, in_features: int, *, kernel: Kernel | None, param_dtype: DType, rngs: nnx.Rngs
) -> Layer:
    """Returns the recurrent layer of a cell; a layer as it is."""
    if not isinstance(cell, nnx.Module):
        net = cast("Cell | Composite", cell)
        return Recurrent(net, in_features, kernel=kernel, param_dtype=param_dtype, rngs=rngs)
    names = ("in_features", "size", "causal", "__call__", "unroll", "step", "initial_carry")
    missing = [name for name in names if not hasattr(cell, name)]
    if missing:
        raise TypeError(
            f"`cell` must be a Cell, a Composite, or a layer such as nn.TCN; {type(cell).__name__} has no "
            + ", ".join(f"`{name}`" for name in missing)
        )
    layer = cast("Layer", cell)
    if layer.in_features != in_features:
        raise ValueError(
            f"`cell` must be a layer for the {in_features} features that the model feeds it; got {layer.in_features}"
        )
    if kernel is not None:
        raise ValueError(f"`kernel` is of a Cell or a Composite; {type(cell).__name__} runs time by itself")
    return layer


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


def check_ids(name: str, axes: str, ids: jax.Array) -> jax.Array:
    """Returns the ids called `name` as an array of ints."""
    ids = check.array(name, axes, ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be int ids [{axes}]; got {ids.dtype} {ids.shape}")
    if ids.ndim < axes.count(","):
        raise ValueError(f"`{name}` must be int ids [{axes}], of at least {axes.count(',')} axis; got a scalar")
    return ids


def embed(
    layer: nnx.Embed, reader: Layer | None, name: str, axes: str, ids: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Returns the embeddings of the ids called `name`, `[*axes, D]`, as large as the layer that reads them wants them.

    Ids on padding may be anything.
    """
    ids = check_ids(name, axes, ids)
    mask = check.flags("mask", mask, ids.shape, axes)
    ids = ids if mask is None else jnp.where(mask, ids, 0)
    # A wrong id becomes V, whose embedding is NaN; JAX would count from the end, or past 2³² from the start.
    V = layer.num_embeddings
    wrong = (ids < 0) | (ids > jnp.asarray(min(V - 1, jnp.iinfo(ids.dtype).max), ids.dtype))
    embedded = layer(jnp.where(wrong, V, jnp.where(wrong, 0, ids).astype(jnp.int32)))
    if V == 1:  # Flax repeats a single row unasked
        embedded = jnp.where(wrong[..., None], jnp.nan, embedded)
    scale = getattr(reader, "embedding_scale", 1.0)
    return embedded if scale == 1 else embedded * jnp.asarray(scale, embedded.dtype)


def inputs(layer: nnx.Embed | None, reader: Layer | None, xs: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Returns the embeddings of the ids `xs`; without an embedding, `xs`."""
    return xs if layer is None else embed(layer, reader, "xs", "B, T", xs, mask)


def causal(layer: Layer, name: str = "cell") -> None:
    """Raises unless the layer of the argument `name` can predict the next step."""
    if not layer.causal:
        raise ValueError(
            f"`{name}` must be causal; this one reads ahead, as bidirectional does, and would see the steps that it "
            "has to predict"
        )


def dropout(key: jax.Array | None, rate: float, xs: jax.Array) -> jax.Array:
    """Returns `xs` with a share of `rate` zero, and the others larger for it; without a key as it is."""
    if key is None or rate == 0:
        return xs
    return jnp.where(jax.random.bernoulli(key, 1 - rate, xs.shape), xs / (1 - rate), 0)


def check_carry(carry: Carry, initial_carry: Callable[[Shape], Carry], batch: Shape) -> None:
    """Raises unless `carry` is like the one that sequences of this batch start from, which is not made for that."""
    expected = jax.eval_shape(lambda: initial_carry(batch))
    got, expected = (jax.tree.map(check.shaped, tree) for tree in (carry, expected))
    if got != expected:
        raise ValueError(f"`carry` must be what this layer returned for this batch, {expected}; got {got}")


def some_steps(name: str, steps: int) -> None:
    """Raises unless there is a step to go on from."""
    if steps == 0:
        raise ValueError(f"`{name}` must hold at least one step to go on from; got none")


def default_float(param_dtype: DType) -> jax.typing.DTypeLike:
    """Returns the dtype, or JAX's default float for None."""
    return jnp.result_type(float) if param_dtype is None else param_dtype
