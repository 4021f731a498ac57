"""The interface of layers that read sequences, and the checks that models make of a layer."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import numpy as np
from flax import nnx

from jaxseq import check
from jaxseq.nn._flax import Given
from jaxseq.nn.recurrent._recurrent import Recurrent
from jaxseq.typing import Carry, Cell, Composite, Kernel, Shape


class Layer(Protocol):
    """A layer that reads sequences in a model: `nn.Recurrent`, `nn.TCN`, `nn.Transformer`, `nn.Blocks` or your own.

    It has the attributes `in_features`, `size` and `causal`, and the methods of `nn.Recurrent`. On padding the output
    is zero and the carry is held. A reset acts before its step. A model takes such a layer, whose `in_features` must
    match what the model feeds it, or a cell, from which it makes an `nn.Recurrent`.

    Your own layer may leave out the attributes below. Then sequences may have any length, embeddings are not scaled,
    the layer attends to no memory, and its carry cannot be rewound.

    Attributes:
      max_length: the greatest length of a sequence, in steps; None: no limit.
      embedding_scale: the factor by which models multiply embeddings, whose norm is about 1, before this layer reads
        them.
      memory_features: M, the features of a memory that the layer attends to (by `remember` and the argument `memory`),
        or None.
      rewind: `(carry, steps int [B]) -> carry`: the carry before each row's last `steps` steps; None: not available.
    """

    @property
    def in_features(self) -> int:
        """D, the features of the inputs."""
        ...

    @property
    def size(self) -> int:
        """H, the features of the outputs."""
        ...

    @property
    def causal(self) -> bool:
        """Whether outputs do not depend on later steps, so that the layer has a `step`."""
        ...

    def __call__(
        self, xs: jax.Array, carry: Any = None, *, mask: Any = None, reset: Any = None, key: Any = None
    ) -> jax.Array:
        """Returns the outputs of all steps, `[B, T, H]`."""
        ...

    def unroll(
        self, xs: jax.Array, carry: Any = None, *, mask: Any = None, reset: Any = None, key: Any = None
    ) -> tuple[Carry, jax.Array]:
        """Returns the last carry and the outputs of all steps, `[B, T, H]`."""
        ...

    def step(self, carry: Any, x: jax.Array, *, reset: Any = None) -> tuple[Carry, jax.Array]:
        """Returns the next carry and the output of one step, `[B, H]`. If the carry is None, a new sequence starts."""
        ...

    def initial_carry(self, batch_shape: Shape = ()) -> Carry:
        """Returns the initial carry."""
        ...


_LEFT_OUT = {"max_length": None, "embedding_scale": 1.0, "memory_features": None, "rewind": None}


def asked(layer: Layer, name: str) -> Any:
    """Returns a layer's attribute, or its default if the layer leaves it out."""
    return getattr(layer, name, _LEFT_OUT[name])


def layer_of(
    cell: Cell | Composite | Layer, in_features: int, *, kernel: Kernel | None, given: Given, name: str = "cell"
) -> Layer:
    """Returns the recurrent layer of a cell, or a layer as it is, after checking it; errors name `name`."""
    if not isinstance(cell, nnx.Module):
        check.net(cell, name)
        net = cast("Cell | Composite", cell)
        return cast("Layer", Recurrent(net, in_features, kernel=kernel, **given._asdict()))
    check_layer(cell, name, "a Cell, a Composite, or a layer")
    layer = cast("Layer", cell)
    if layer.in_features != in_features:
        raise ValueError(
            f"`{name}` must be a layer for the {in_features} features that the model feeds it; got {layer.in_features}"
        )
    if given.dtype is not None and getattr(layer, "dtype", given.dtype) is None:
        raise ValueError(
            f"`dtype` does not apply to a finished layer; pass it to the layer: {type(cell).__name__}(..., "
            f"dtype={given.dtype})"
        )
    if kernel is not None:
        raise ValueError(f"`kernel` applies to a Cell or a Composite; {type(cell).__name__} has no kernel")
    return layer


def check_layer(layer: Any, name: str, kinds: str = "a layer") -> None:
    """Raises unless the argument `name`, which should be `kinds`, has all that a layer must have."""
    names = ("in_features", "size", "causal", "__call__", "unroll", "step", "initial_carry")
    missing = [name for name in names if not hasattr(layer, name)]
    if missing:
        raise TypeError(
            f"`{name}` must be {kinds} such as nn.TCN; {type(layer).__name__} has no "
            + ", ".join(f"`{name}`" for name in missing)
        )


def causal(layer: Layer, name: str = "cell") -> None:
    """Raises unless the layer passed as `name` is causal, so that it can predict the next step."""
    if not layer.causal:
        raise ValueError(
            f"`{name}` must be causal; this one reads later steps, as bidirectional does, and would see the steps that "
            "it has to predict"
        )


def checked_carry(carry: Carry, initial_carry: Callable[[Shape], Carry], batch: Shape) -> Carry:
    """Returns `carry` as JAX arrays; raises unless it is like the initial carry of this batch."""
    carry = check.as_jax(carry, "carry")
    expected = jax.eval_shape(lambda: initial_carry(batch))
    is_array = lambda leaf: isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
    told = lambda leaf: check.shaped(leaf) if is_array(leaf) else type(leaf).__name__
    got, expected = (jax.tree.map(told, tree) for tree in (carry, expected))
    if got != expected:
        wanted, given = check.brief(expected), check.brief(got)
        raise ValueError(f"`carry` must be what this layer returned for this batch, {wanted}; got {given}")
    return carry


def some_steps(name: str, steps: int) -> None:
    """Raises unless there is at least one step."""
    if steps == 0:
        raise ValueError(f"`{name}` must hold at least one step to continue from; got none")
