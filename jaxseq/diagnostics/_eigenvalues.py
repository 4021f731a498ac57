"""How long a linear cell remembers: the eigenvalues of what it multiplies its state by, step by step.

    diagonal       h' = a ⊙ h + b                            a
    outer          S' = Diag(α) S + k vᵀ                     α, each for a row
    scaled outer   C' = f C + i k vᵀ, times e^m              e^{f̃}, of C e^m
    delta          S' = α (I - β k kᵀ) S + β k vᵀ            α, of all that is orthogonal to the key; α (1 - β kᵀk)

Over T steps |λ_1 ⋯ λ_T| of a number is left. With the mean of log |λ|, a share of 1/e is left after

    -1 / mean log |λ|  steps

as of an LSTM's forget gate. Phases are turns a step: a complex number with angle φ comes back after 2π / φ steps.
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
from jaxseq.typing import Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def eigenvalues(
    cell: Cell | Composite,
    params: Params,
    xs: jax.Array,
    carry: Carry | None = None,
    *,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Any:
    """Returns the eigenvalues of a linear cell's recurrence at every step, `[T, B, ...]`, complex where they are.

    On padding they are 1, for the carry is held; where a reset acts before the step they are 0.

    Args:
      cell: a linear Cell, or a Composite of such cells.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.

    Returns:
      An array: of a diagonal cell `[T, B, *state]`; of matrices `[T, B, heads, K]`, or `[T, B, heads, 1]` where the
      rows of a head decay alike; of the delta rule `[T, B, heads, 2]`, the decay and that along the key. For a
      Composite a pytree of them, each in the place of its cell's carry.

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


def memory_lengths(eigenvalues: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Returns the steps after which a share of 1/e is left, -1 / mean log |λ|, for each number of a state.

    Where nothing decays it is inf, where nothing is kept at some step 0; of what grows it is negative.

    Args:
      eigenvalues: `[T, B, ...]`, of any number of batch axes with a mask, of one without.
      mask: bool `[T, B]`; only True steps count. Where there are none the length is inf.

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


def plot_eigenvalues(eigenvalues: jax.Array, *, ax: Axes | None = None) -> Axes:
    """Draws eigenvalues in the complex plane, with the unit circle, on which nothing decays.

    Args:
      eigenvalues: real or complex, of any axes.
      ax: the axes to draw on; None: those of a new figure.

    Raises:
      TypeError: they are no array of numbers.
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
    """A kernel which returns the eigenvalues in place of the last carry, so that a net puts them in its place."""
    if cell.linear is None:
        raise ValueError("`cell` must be linear: other cells' `diagnostics.jacobians` have eigenvalues")
    steps = cell.linear.element(params, cell.project(params, xs))
    return _of_steps(steps), scan(cell, params, carry, xs, reverse=reverse)[1]


def _of_steps(steps):
    """Those of the steps of an algebra."""
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
        raise ValueError(f"`cell` must be of an algebra of jaxseq.recurrences; its element is a {type(steps).__name__}")
    return values if steps.start is None else keep(~steps.start.reset, values)
