"""The conversion between batch-major `[B, T, D]`, as in Flax, and time-major, as in `jaxseq.unroll`.

All transposition is here, and so are the checks whose messages depend on the order of axes.
"""

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._unroll import unroll as unroll_time_major
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Kernel, Params


def unroll(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    carry: Carry | None,
    *,
    mask: AnyArray | None,
    reset: AnyArray | None,
    kernel: Kernel | None,
    key: jax.Array | None,
) -> tuple[Carry, jax.Array]:
    """Runs `jaxseq.unroll` on `xs [B, T, D]`, `mask` and `reset` bool `[B, T]`; returns `(carry, ys [B, T, H])`.

    Raises:
      TypeError, ValueError: an argument does not fit.
    """
    xs = check.inputs("xs", "B, T, D", xs, params)
    if xs.ndim < 2:
        raise ValueError(f"`xs` must be [B, T, D], of at least 2 axes; got {xs.dtype} {xs.shape}")
    mask, reset = (check.flags(name, f, xs.shape[:-1], "B, T") for name, f in (("mask", mask), ("reset", reset)))
    carry, ys = unroll_time_major(
        cell,
        params,
        jnp.moveaxis(xs, -2, 0),
        carry,
        mask=None if mask is None else jnp.moveaxis(mask, -1, 0),
        reset=None if reset is None else jnp.moveaxis(reset, -1, 0),
        kernel=kernel,
        key=key,
    )
    return carry, jnp.moveaxis(ys, 0, -2)
