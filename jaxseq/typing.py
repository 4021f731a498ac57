"""The words of the library as types.

Axis letters mean one thing everywhere:

    T  time          B  batch, zero or more axes      D  input features
    H  hidden features, `cell.size`                   G  gate features, a multiple of H

`xs`, `us`, `ys` are whole sequences with time leading (`[T, B, ...]`); `x`, `u`, `y` are one step of them (`[B, ...]`).
`carry` is the recurrent state. Cotangents are named `d_*`.

A cell is a `Cell`: pure functions over a parameter pytree. What is put together from cells and works on whole
sequences is a `Composite`. One way to run a cell over time is a `Kernel`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

from jaxseq._factory import by_its_call

Params: TypeAlias = Any
"""A pytree of arrays; the stock cells use a NamedTuple."""

Carry: TypeAlias = Any
"""A pytree of arrays `[B, ...]`: batch axes lead in every leaf."""

Inputs: TypeAlias = Any
"""An array, or a pytree of arrays: with leading time `[T, B, ...]` as `xs` and `us`, without it as `x` and `u`."""

Saved: TypeAlias = Any
"""A pytree of arrays: what one step keeps for its backward."""

Shape: TypeAlias = tuple[int, ...]


class Augmented(NamedTuple):
    """Params, xs or us of the inner cell, and what travels beside them for the cell around it."""

    value: Params | Inputs
    extra: Any


@by_its_call
class Backward(NamedTuple):
    """Backpropagation through one step, by hand; weight gradients are gathered outside the loop.

    Attributes:
      fwd: `(params, carry, u) -> (carry, y, saved)`: the cell's `step`, which also returns what `bwd` and `collect`
        need; a wrapper's `saved` is a plain tuple that begins with the inner cell's.
      bwd: `(params, saved, d_carry, d_y) -> (d_carry, d_u)`: the cotangents of the step's results in, those of its
        arguments out. A part of `u` that has no gradient (a bool) gets None.
      collect: `(params, saved, d_us) -> d_params`: the gradients of the weights that `step` uses, zeros for those that
        only `project` uses. Arrays come with any number of leading axes, so a whole sequence costs one matmul a weight.
      project: `(params, xs, d_us) -> (d_params, d_xs)`: the gradient of the cell's `project`, zeros for the weights
        that only `step` uses; None: JAX's own.
    """

    fwd: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array, Saved]]
    bwd: Callable[[Params, Saved, Carry, jax.Array], tuple[Carry, Inputs]]
    collect: Callable[[Params, Saved, Inputs], Params]
    project: Callable[[Params, Inputs, Inputs], tuple[Params, Inputs]] | None = None


class Element(Protocol):
    """Linear steps of one algebra of `jaxseq.recurrences`, a pytree: of a whole sequence `[T, B, ...]` or of one."""

    def step(self, carry: Carry, /) -> tuple[Carry, Any]:
        """Returns the carry after one step, and what is observed of it."""
        ...

    def hold(self, mask: jax.Array, /) -> "Element":
        """Returns the steps; where `mask`, bool `[T, B]`, is False, they are the identity."""
        ...

    def restart(self, reset: jax.Array, initial: Carry, /) -> "Element":
        """Returns the steps; where `reset`, bool `[T, B]`, is True, they start from `initial`, on held steps too."""
        ...


@by_its_call
class Linear(NamedTuple):
    """What kernels know of a cell whose step is linear in its carry; see `jaxseq.recurrences.linear_cell`.

    Attributes:
      element: `(params, us) -> Element`, pointwise in time.
      read: `(params, observed, us) -> ys`, pointwise in time, linear or not.
    """

    element: Callable[[Params, Inputs], Element]
    read: Callable[[Params, Any, Inputs], jax.Array]


@jax.tree_util.register_static
@by_its_call
class Cell(NamedTuple):
    """A recurrent cell: its equations, and nothing else. Static under `jax.jit`; all arguments are passed by position.

    Step and projection are apart because the projection of all steps is one matmul, which a kernel may do before its
    loop. A cell is known by the identity of its functions: make it once, not at every call, or each call compiles anew;
    `jaxseq.factory` on the function that makes it sees to that, and lets it print and pickle as the call of it.
    Whoever replaces `step` replaces `backward` with it; `jaxseq.check_bptt` tells whether they fit.

    Attributes:
      size: H, the number of features of `y`.
      init: `(key, in_size, dtype=None) -> params`; dtype None is JAX's default float. Traceable by JAX.
      carry: `(params, batch_shape=()) -> carry`: the initial carry.
      project: `(params, xs) -> us`: the input half of the pre-activations, pointwise in time. It may be called on a
        whole sequence or on one step.
      step: `(params, carry, u) -> (carry, y)`: one step of the recurrence.
      backward: the step's hand-written gradient; with None, JAX differentiates the loop.
      noise: `(key, params, xs) -> (params, xs)`: draws what the cell needs for a whole sequence, and hands it on with
        the params (constant in time) or the xs (per step), which the other functions then take in place of the plain
        ones. It is called once, outside the loop, and only where a key is given; None: the cell draws nothing.
      hears: for recurrent dropout, which drops what the recurrent weights see, not what is remembered. True: h is both,
        as in the GRU, and `step` and `backward` also take a `Heard` for the carry. False: h is not remembered, as in
        the RNN. None: not said; then the `h` of a carry of named parts is dropped, and an array is refused.
      linear: of a step that is linear in its carry, its element and how outputs are read, by which a kernel may run
        many steps at once. None: the step is not linear, or it is not said.
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
    """What is put together from cells and works on whole sequences; `jaxseq.unroll` takes it where it takes a `Cell`.

    Attributes:
      size: the number of features of `ys`.
      init: `(key, in_size, dtype=None) -> params`.
      carry: `(params, batch_shape=()) -> carry`.
      unroll: `(run, params, xs, carry, *, mask, reset, reverse, key) -> (carry, ys)`, where `run` is `jaxseq.unroll`
        bound to the kernel that the caller chose: call it for each part. Noise is drawn here, from `key`, once for the
        whole sequence; `key` None means no noise.
      step: `(params, carry, x) -> (carry, y)`, or None where the net is not causal.
    """

    size: int
    init: Callable[..., Params]
    carry: Callable[..., Carry]
    unroll: Callable[..., tuple[Carry, jax.Array]]
    step: Callable[[Params, Carry, Inputs], tuple[Carry, jax.Array]] | None = None


class Kernel(Protocol):
    """One way to run a cell over time. Kernels know neither masks nor resets: `masking.masked` is a cell to them."""

    def __call__(
        self, cell: Cell, params: Params, carry: Carry, xs: Inputs, /, *, reverse: bool = False
    ) -> tuple[Carry, jax.Array]:
        """Runs `cell` over the leading axis of `xs`; `reverse` runs from the last step to the first.

        Returns the last carry and `ys [T, B, H]`, in the order of `xs`.
        """
        ...


class Initializer(Protocol):
    """Draws an array, as `jax.nn.initializers` do."""

    def __call__(self, key: jax.Array, shape: Any, dtype: Any = ..., /) -> jax.Array:
        """Returns an array of `shape` and `dtype`."""
        ...
