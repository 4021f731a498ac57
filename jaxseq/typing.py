"""The terms of the library, as types.

Axis letters mean one thing everywhere:

    T  time          B  batch, zero or more axes      D  input features
    H  hidden features, `cell.size`                   G  gate features, a multiple of H

`xs`, `us`, `ys` are whole sequences with time leading (`[T, B, ...]`); `x`, `u`, `y` are one step of them (`[B, ...]`).
`carry` is the recurrent state. Cotangents are named `d_*`.

A cell is a `Cell`: pure functions over a parameter pytree. A net that is composed of cells and works on whole sequences
is a `Composite`. A `Kernel` is one way to run a cell over time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import numpy as np

from jaxseq._factory import by_its_call

AnyArray: TypeAlias = jax.Array | np.ndarray
"""An array that a caller gives, JAX's or NumPy's. Results are JAX's. `jax.typing.ArrayLike` takes numbers too."""

Params: TypeAlias = Any
"""A pytree of arrays. The library's own cells use a NamedTuple."""

Carry: TypeAlias = Any
"""A pytree of arrays `[B, ...]`: batch axes lead in every leaf."""

Inputs: TypeAlias = Any
"""An array or a pytree of arrays: `[T, B, ...]` as `xs` and `us`, `[B, ...]` as `x` and `u`."""

Saved: TypeAlias = Any
"""A pytree of arrays that one step keeps for its backward."""

Shape: TypeAlias = tuple[int, ...]


class Augmented(NamedTuple):
    """Params, xs or us of the inner cell, together with what the cell around it needs."""

    value: Params | Inputs
    extra: Any


@by_its_call
class Backward(NamedTuple):
    """Hand-written backpropagation through one step. Weight gradients are collected outside the loop.

    Attributes:
      fwd: `(params, carry, u) -> (carry, y, saved)`: the cell's `step`, which also returns what `bwd` and `collect`
        need. A wrapper's `saved` is a plain tuple that begins with the inner cell's.
      bwd: `(params, saved, d_carry, d_y) -> (d_carry, d_u)`: takes the cotangents of the step's results and returns
        those of its arguments. A part of `u` without a gradient (a bool) gets None.
      collect: `(params, saved, d_us) -> d_params`: the gradients of the weights that `step` uses, and zeros for those
        that only `project` uses. It takes any number of leading axes, so a whole sequence costs one matmul per weight.
        A param that enters each step elementwise, such as a decay, is better part of what `project` returns.
      project: `(params, xs, d_us) -> (d_params, d_xs)`: the gradient of the cell's `project`, with zeros for the
        weights that only `step` uses. None: JAX differentiates `project`.
    """

    fwd: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array, Saved]]
    bwd: Callable[[Params, Saved, Carry, jax.Array], tuple[Carry, Inputs]]
    collect: Callable[[Params, Saved, Inputs], Params]
    project: Callable[[Params, Inputs, Inputs], tuple[Params, Inputs]] | None = None


class Element(Protocol):
    """A pytree of linear steps, in one algebra of `jaxseq.recurrences`: a sequence `[T, B, ...]` or one step."""

    def step(self, carry: Carry, /) -> tuple[Carry, Any]:
        """Returns the carry after one step, and what the step observes of it."""
        ...

    def hold(self, mask: jax.Array, /) -> "Element":
        """Returns the steps, replaced by the identity where `mask`, bool `[T, B]`, is False."""
        ...

    def restart(self, reset: jax.Array, initial: Carry, /) -> "Element":
        """Returns steps that start from `initial` where `reset`, bool `[T, B]`, is True, also on held steps."""
        ...


@by_its_call
class Linear(NamedTuple):
    """What a kernel needs from a cell whose step is linear in its carry. See `jaxseq.recurrences.linear_cell`.

    Attributes:
      element: `(params, us) -> Element`, pointwise in time.
      read: `(params, observed, us) -> ys`, pointwise in time. It need not be linear.
    """

    element: Callable[[Params, Inputs], Element]
    read: Callable[[Params, Any, Inputs], jax.Array]


@jax.tree_util.register_static
@by_its_call
class Cell(NamedTuple):
    """A recurrent cell: its equations. It is static under `jax.jit`. All arguments are passed by position.

    Projection and step are separate because a kernel may project all steps in one matmul before its loop. A cell is
    identified by its functions: make it once. A cell that is made at every call is compiled at every call. Put
    `jaxseq.factory` on the function that makes it; the cell then also prints and pickles as that call. If you replace
    `step`, also replace `backward`; `jaxseq.check_bptt` checks that they agree.

    Attributes:
      size: H, the number of features of `y`.
      init: `(key, in_size, dtype=None) -> params`. A dtype of None is JAX's default float. JAX can trace it.
      carry: `(params, batch_shape=()) -> carry`: the initial carry.
      project: `(params, xs) -> us`: the input part of the pre-activations, pointwise in time. It may be called with a
        whole sequence or with one step.
      step: `(params, carry, u) -> (carry, y)`: one step of the recurrence.
      backward: the step's hand-written gradient. None: JAX differentiates the loop.
      noise: `(key, params, xs) -> (params, xs)`: draws the noise of a whole sequence. It returns the noise together
        with the params (if constant in time) or the xs (if per step), and the other functions take these in place of
        the plain ones. It is called once, outside the loop, only if a key is given. None: the cell draws nothing.
      hears: for recurrent dropout, which drops what the recurrent weights see but not what is remembered. True: h is
        both, as in the GRU, and `step` and `backward` also take a `Heard` as the carry. False: h is not remembered,
        as in the RNN. None: not specified. Then the part `h` of a carry with named parts is dropped, and a carry that
        is one array is an error.
      linear: for a step that is linear in its carry: its element, and how to read the outputs. Kernels use it to run
        many steps at once. None: the step is not linear, or this is not specified.
    """

    size: int
    init: Callable[..., Params]
    carry: Callable[..., Carry]
    project: Callable[[Params, Inputs], Inputs]
    step: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array]]
    backward: Backward | None = None
    noise: Callable[[jax.Array, Params, Inputs], tuple[Params, Inputs]] | None = None
    hears: bool | None = None
    linear: Linear | None = None


class Heard(NamedTuple):
    """A carry, and the h `[B, H]` that the recurrent weights see in place of the carry's own."""

    carry: Carry
    h: jax.Array


@jax.tree_util.register_static
@by_its_call
class Composite(NamedTuple):
    """A net that is composed of cells and works on whole sequences. `jaxseq.unroll` takes it like a `Cell`.

    Attributes:
      size: the number of features of `ys`.
      init: `(key, in_size, dtype=None) -> params`.
      carry: `(params, batch_shape=()) -> carry`.
      unroll: `(run, params, xs, carry, *, mask, reset, reverse, key) -> (carry, ys)`. `run` is `jaxseq.unroll` with
        the kernel that the caller chose; call it for each part. Draw the noise here, from `key`, once for the whole
        sequence. A `key` of None means no noise.
      step: `(params, carry, x) -> (carry, y)`. None: the net is not causal.
    """

    size: int
    init: Callable[..., Params]
    carry: Callable[..., Carry]
    unroll: Callable[..., tuple[Carry, jax.Array]]
    step: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array]] | None = None


class Kernel(Protocol):
    """One way to run a cell over time. Kernels do not see masks and resets: `masking.masked` puts them into a cell."""

    def __call__(
        self, cell: Cell, params: Params, carry: Carry, xs: Inputs, /, *, reverse: bool = False
    ) -> tuple[Carry, jax.Array]:
        """Runs `cell` over the leading axis of `xs`. `reverse` runs from the last step to the first.

        Returns the last carry and `ys [T, B, H]`, in the order of `xs`.
        """
        ...


class Initializer(Protocol):
    """A function that draws an array, as those of `jax.nn.initializers` do."""

    def __call__(self, key: jax.Array, shape: Any, dtype: Any = ..., /) -> jax.Array:
        """Returns an array of `shape` and `dtype`."""
        ...
