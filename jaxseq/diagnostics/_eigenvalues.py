"""How long a linear cell remembers: the eigenvalues of the matrix that multiplies its state at each step.

    diagonal       h' = a ⊙ h + b                            a
    outer          S' = Diag(α) S + k vᵀ                     α, one for each row
    scaled outer   C' = f C + i k vᵀ, times e^m              e^{f̃}, the factor of C e^m
    delta          S' = α (I - β k kᵀ) S + β k vᵀ            α orthogonal to the key; α (1 - β kᵀk) along the key

After T steps a fraction |λ_1 ⋯ λ_T| of a state's number is left. With the mean of log |λ|, a fraction of 1/e is left
after

    -1 / mean log |λ|  steps

The same holds for an LSTM's forget gate. A phase is a rotation per step: a complex number with angle φ returns after
2π / φ steps.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._unroll import unroll
from jaxseq.kernels import scan
from jaxseq.masking import keep
from jaxseq.recurrences import Delta, Diagonal, Outer, ScaledOuter
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def eigenvalues(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Any:
    """Returns the eigenvalues of a linear cell's recurrence at every step, `[T, B, ...]`, real or complex.

    They are 1 on padding, because the carry is held, and 0 where a reset acts before the step.

    Args:
      cell: a linear Cell, or a Composite of such cells.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.

    Returns:
      An array. For a diagonal cell it is `[T, B, *state]`. For matrix states it is `[T, B, heads, K]`, or
      `[T, B, heads, 1]` if the rows of a head share their decay. For the delta rule it is `[T, B, heads, 2]`: the
      decay, and the eigenvalue along the key. For a Composite, a pytree with such an array in place of each cell's
      carry.

    Raises:
      TypeError, ValueError: an argument does not fit, or a cell is not linear.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.lru(4, r_min=0.5, r_max=0.9)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> sizes = jnp.abs(diagnostics.eigenvalues(cell, params, jnp.ones([5, 2, 3])))
    >>> sizes.shape, bool(jnp.all((sizes > 0.5) & (sizes < 0.9)))
    ((5, 2, 4), True)
    """
    flags = {"mask": mask, "reset": reset, "reverse": reverse}
    return unroll(cell, params, xs, carry, kernel=_as_carry, key=key, **flags)[0]


def memory_lengths(eigenvalues: AnyArray, *, mask: AnyArray | None = None) -> jax.Array:
    """Returns the number of steps after which a fraction of 1/e of the state is left, -1 / mean log |λ|.

    The mean is over all real steps of all rows. The result is inf where the state does not decay, 0 where an eigenvalue
    is 0 at some step, and negative where the state grows.

    Args:
      eigenvalues: real or complex `[T, B, ...]`; with a mask any number of batch axes, without a mask one.
      mask: bool `[T, B]`; only True steps count. Without True steps the result is inf.

    Returns:
      Float `[...]`, in steps: one length for each number of the state.

    Raises:
      TypeError, ValueError: `eigenvalues` or `mask` does not fit.

    >>> from jaxseq import diagnostics
    >>> diagnostics.memory_lengths(jnp.full([5, 2, 1], jnp.exp(-0.1))).round(3)
    Array([10.], dtype=float32)
    """
    values = check.array("eigenvalues", "T, B, ...", eigenvalues)
    if not jnp.issubdtype(values.dtype, jnp.inexact) or values.ndim < 2:
        raise TypeError(f"`eigenvalues` must be floating or complex [T, B, ...]; got {check.shaped(values)}")
    mask = check.flags("mask", mask, values.shape[: 2 if mask is None else np.ndim(mask)])
    real = jnp.ones(values.shape[:2], bool) if mask is None else mask
    axes = tuple(range(real.ndim))
    logs = keep(real, jnp.log(jnp.abs(values)))
    total = jnp.sum(logs, axis=axes)
    return jnp.where(total == 0, jnp.inf, -jnp.sum(real, dtype=total.dtype) / jnp.where(total == 0, 1, total))


def plot_eigenvalues(eigenvalues: AnyArray, *, ax: Axes | None = None) -> Axes:
    """Plots eigenvalues in the complex plane, with the unit circle, on which nothing decays.

    Args:
      eigenvalues: real or complex, of any shape.
      ax: the axes to draw on. None: the axes of a new figure.

    Raises:
      TypeError: `eigenvalues` is not an array of numbers.
    """
    import matplotlib.pyplot as plt

    values = np.asarray(check.array_like("eigenvalues", "T, B, ...", eigenvalues)).ravel()
    if ax is None:
        ax = plt.subplots(figsize=(4.2, 4.2), layout="constrained")[1]
    angles = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(angles), np.sin(angles), color="0.4", lw=1, ls="--")
    ax.scatter(np.real(values), np.imag(values), s=16, alpha=0.6, lw=0, zorder=3)
    ax.set(aspect="equal", xlabel="Re λ", ylabel="Im λ", title="Eigenvalues of the recurrence")
    ax.grid(alpha=0.3)
    return ax


@functools.partial(jax.jit, static_argnames=("cell", "reverse"))
def _as_carry(cell, params, carry, xs, *, reverse=False):
    """A kernel that returns the eigenvalues as its last carry, so that a net puts them in the carry's place."""
    if cell.linear is None:
        raise ValueError("`cell` must be linear; for other cells, take the eigenvalues of `diagnostics.jacobians`")
    steps = cell.linear.element(params, cell.project(params, xs))
    return _of_steps(steps), scan(cell, params, carry, xs, reverse=reverse)[1]


def _of_steps(steps):
    """Returns the eigenvalues of the steps of an algebra."""
    if isinstance(steps, Diagonal):
        return steps.whole().a
    if isinstance(steps, Outer):
        values = jnp.exp(steps.log_decay)
    elif isinstance(steps, ScaledOuter):
        values = jnp.exp(steps.log_forget)
    elif isinstance(steps, Delta):
        decay = jnp.exp(steps.log_decay)
        values = jnp.stack([decay, decay * (1 - steps.beta * jnp.sum(steps.k**2, axis=-1))], axis=-1)
    else:
        raise ValueError(f"`cell` must use an algebra of jaxseq.recurrences; its element is a {type(steps).__name__}")
    return values if steps.start is None else keep(~steps.start.reset, values)
