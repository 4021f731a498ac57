"""The main functions: `unroll` runs a cell over a sequence, `step` over one step."""

import functools

import jax

from jaxseq import check, masking
from jaxseq._around import Augmented
from jaxseq.kernels import scan
from jaxseq.kernels._choice import default, values_alone
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Inputs, Kernel, Params


def unroll(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    kernel: Kernel | None = None,
    key: jax.Array | None = None,
) -> tuple[Carry, jax.Array]:
    """Runs `cell` over the sequences `xs`.

    Args:
      cell: a Cell, or a Composite made of cells.
      params: what `cell.init` returned. Their dtype is the dtype of the computation.
      xs: `[T, B, D]`, time-major, in the dtype of `params`. Zero or more batch axes; T may be 0.
      carry: the initial carry. None: `cell.carry(params, batch_shape)`.
      mask: bool `[T, B]`, any pattern, True on real steps. On a padded (False) step the carry is held and `ys` is
        zero. The cell sees zeros there, so a padded value of `xs`, even a NaN, affects neither a value nor a gradient.
      reset: bool `[T, B]`, True where a new sequence starts. Before such a step, also a padded one, the carry becomes
        `cell.carry(params, batch_shape)`, not the `carry` argument. With `reverse`, a reset at t acts between the
        steps t and t - 1.
      reverse: run from the last step to the first. `ys` keep the order of `xs`. With a mask of lengths, this reverses
        each sequence within its length.
      kernel: how to run over time, see `jaxseq.kernels`. None: the kernel that was measured to be fastest for each
        cell here: `kernels.native` on most CPUs, otherwise `kernels.bptt`. `kernels.explain` says which, and why.
      key: a key for cells and nets that draw noise (`dropout`, `zoneout`). None: no noise.

    Returns:
      The last carry, and `ys [T, B, H]`.

    Raises:
      TypeError, ValueError: an argument does not fit. Nothing is broadcast, and only NumPy's float64 is cast: it
        becomes JAX's default float.

    >>> cell = jaxseq.lstm(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jnp.ones([5, 2, 3])
    >>> carry, ys = unroll(cell, params, xs, mask=jaxseq.lengths_to_mask([5, 3], 5))
    >>> ys.shape, carry.c.shape
    ((5, 2, 4), (2, 4))
    """
    params, carry, xs = enter(cell, params, carry, "xs", "T, B, D", xs)
    mask = check.flags("mask", mask, xs.shape[:-1])
    reset = check.flags("reset", reset, xs.shape[:-1])
    check.direction(reverse)
    check.kernel(kernel)
    check.random_key(key)

    if isinstance(cell, Composite):
        run = functools.partial(unroll, kernel=kernel)
        return cell.unroll(run, params, xs, carry, mask=mask, reset=reset, reverse=reverse, key=key)
    try:
        last, ys = default(kernel)(*_prepare(cell, params, carry, xs, mask, reset, reverse, key), reverse=reverse)
        check.outputs(cell, ys, xs.shape[:-1])
    except (TypeError, ValueError) as error:
        check.blame(error, cell, params, carry, jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype))
        raise
    return last, ys


def _prepare(
    cell: Cell, params: Params, carry: Carry, xs: jax.Array, mask, reset, reverse: bool, key
) -> tuple[Cell, Params, Carry, Inputs]:
    """Returns the kernel's arguments: the cell, params, carry and xs, with noise, mask and resets built in, if any."""
    batch, noisy = xs.shape[1:-1], params
    if key is not None and cell.noise is not None:
        noisy, xs = cell.noise(key, params, xs)
    if mask is None and reset is None:
        return cell, noisy, carry, xs
    check.batch_leads(cell, params, batch)
    if reset is not None:
        reset = masking.reset_before_step(reset, reverse)
    restartable = Augmented(noisy, cell.carry(params, batch))
    return masking.masked(cell), restartable, carry, Augmented(xs, (mask, reset))


def step(
    cell: Cell | Composite, params: Params, carry: Carry | None, x: AnyArray, *, reset: AnyArray | None = None
) -> tuple[Carry, jax.Array]:
    """Runs `cell` over one step, as in streaming. Equals one step of `unroll`. Put it under `jax.jit` with your code.

    On a CPU, a step runs as machine code if a loop does. `kernels.explain(cell, params, x[None])` tells which.

    Args:
      cell: a Cell, or a causal Composite.
      params: what `cell.init` returned.
      carry: the carry so far. None starts a new sequence.
      x: `[B, D]`, with zero or more batch axes.
      reset: bool `[B]`, True where a new sequence starts at this step.

    Returns:
      The next carry, and `y [B, H]`.

    Raises:
      TypeError, ValueError: an argument does not fit, or the net is not causal.
    """
    one_step = check.causal(cell)
    params, carry, x = enter(cell, params, carry, "x", "B, D", x)
    reset = check.flags("reset", reset, x.shape[:-1], "B")
    if reset is not None:
        carry = masking.choose(reset, cell.carry(params, x.shape[:-1]), carry)
    if isinstance(cell, Composite):
        return one_step(params, carry, x)
    try:
        after, y = _step(cell, params, carry, x)
        check.outputs(cell, y, x.shape[:-1])
    except (TypeError, ValueError) as error:
        check.blame(error, cell, params, carry, x)
        raise
    return after, y


def _step(cell, params, carry, x):
    sequence = jax.ShapeDtypeStruct((1, *x.shape), x.dtype)
    kernel = values_alone(cell, params, sequence)
    if kernel is scan:
        return cell.step(params, carry, cell.project(params, x))
    after, ys = kernel(cell, params, carry, x[None])
    return after, ys[0]


def enter(cell, params, carry, name, axes, xs):
    """Returns the checked params, carry and inputs, which are called `name` and have axes `axes` in errors."""
    check.net(cell)
    params, carry = check.as_jax((params, carry), ("params", "carry"))
    xs = check.inputs(name, axes, xs, params)
    batch = xs.shape[1:-1] if axes.startswith("T") else xs.shape[:-1]
    try:
        check.parameters(cell, params, xs.shape[-1])
        if carry is None:
            return params, cell.carry(params, batch), xs
        check.carry(cell, params, carry, batch)
    except TypeError:
        check.signatures(cell)
        raise
    return params, carry, xs
