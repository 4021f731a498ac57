"""What reads sequences in a model, and what a model asks of it."""

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
    """What reads sequences in a model: `nn.Recurrent`, `nn.TCN`, `nn.Transformer`, `nn.Blocks`, or one of your own.

    It has the attributes `in_features`, `size` and `causal`, and the methods of `nn.Recurrent`: on padding the output
    is zero and the carry held, and a reset comes before its step. A model is given a cell, from which it makes an
    `nn.Recurrent`, or such a layer, for as many features as the model feeds it.

    A layer of your own may leave out what stands below `initial_carry`: then any number of steps has room, embeddings
    are read as they are, it looks at no memory, and it does not go back.
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

    @property
    def max_length(self) -> int | None:
        """The most steps of a sequence; None: any number."""
        ...

    @property
    def embedding_scale(self) -> float:
        """What models multiply embeddings by, whose norm is about 1, before this layer reads them."""
        ...

    @property
    def memory_features(self) -> int | None:
        """M, of a memory that the layer itself looks at, by `remember` and an argument `memory`; None: of none."""
        ...

    @property
    def rewind(self) -> Callable[[Any, jax.Array], Carry] | None:
        """`(carry, steps int [B]) -> carry`: the carry as it was before each row's last steps; None: it is gone."""
        ...


_LEFT_OUT = {"max_length": None, "embedding_scale": 1.0, "memory_features": None, "rewind": None}


def asked(layer: Layer, name: str) -> Any:
    """Returns what a layer says of itself, or what holds for one that leaves it out."""
    return getattr(layer, name, _LEFT_OUT[name])


def layer_of(
    cell: Cell | Composite | Layer, in_features: int, *, kernel: Kernel | None, given: Given, name: str = "cell"
) -> Layer:
    """Returns the recurrent layer of a cell; a layer as it is. `name` is the argument's."""
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
            f"`dtype` does not reach a layer that is made already: {type(cell).__name__}(..., dtype={given.dtype})"
        )
    if kernel is not None:
        raise ValueError(f"`kernel` is of a Cell or a Composite; {type(cell).__name__} runs time by itself")
    return layer


def check_layer(layer: Any, name: str, kinds: str = "a layer") -> None:
    """Raises unless the argument `name`, one of `kinds`, has what every layer has."""
    names = ("in_features", "size", "causal", "__call__", "unroll", "step", "initial_carry")
    missing = [name for name in names if not hasattr(layer, name)]
    if missing:
        raise TypeError(
            f"`{name}` must be {kinds} such as nn.TCN; {type(layer).__name__} has no "
            + ", ".join(f"`{name}`" for name in missing)
        )


def causal(layer: Layer, name: str = "cell") -> None:
    """Raises unless the layer of the argument `name` can predict the next step."""
    if not layer.causal:
        raise ValueError(
            f"`{name}` must be causal; this one reads ahead, as bidirectional does, and would see the steps that it "
            "has to predict"
        )


def checked_carry(carry: Carry, initial_carry: Callable[[Shape], Carry], batch: Shape) -> Carry:
    """Returns `carry` of JAX's arrays; raises unless it is like the one that sequences of this batch start from."""
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
    """Raises unless there is a step to go on from."""
    if steps == 0:
        raise ValueError(f"`{name}` must hold at least one step to go on from; got none")
