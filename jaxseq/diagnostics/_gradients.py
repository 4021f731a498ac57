"""How the gradient flows through time (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu et al. 2013).

    carry_t, y_t = step(carry_{t-1} + δ_t, x_t)          L = loss(y_1 … y_T)

    ∂L/∂carry_{t-1} = ∂L/∂δ_t at δ = 0 = Σ_{k≥t} ∂L/∂y_k ∂y_k/∂carry_{t-1}

The gradient is taken by the carry that enters a step, because what a cell puts out need not be a part of the carry that
leaves it. Of the stock cells, where y_t = h_t, the whole ∂L/∂h_t is ∂L/∂y_t plus the gradient by the h that enters t+1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._around import Augmented, around
from jaxseq._unroll import unroll
from jaxseq.diagnostics._axes import axes_or_new
from jaxseq.kernels import scan
from jaxseq.kernels._plan import Placeholder
from jaxseq.typing import Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def carry_gradients(
    cell: Cell | Composite,
    params: Params,
    xs: jax.Array,
    loss: Callable[[jax.Array], jax.Array],
    carry: Carry | None = None,
    *,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Carry:
    """Returns ∂L/∂carry at every step, with L = loss(ys) and ys what `jaxseq.unroll` gives.

    Entry t is the gradient by the carry that enters step t, which with `reverse` is the one that step t+1 left. Where a
    reset acts before the step it is zero; on padding it is that of the step that follows.

    Args:
      cell: a Cell, or a Composite made of them.
      loss: a function of ys `[T, B, H]` that returns a scalar.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.

    Returns:
      The structure of the carry, its leaves `[T, B, ...]`.

    Raises:
      TypeError, ValueError: an argument does not fit.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.lstm(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> gradients = diagnostics.carry_gradients(cell, params, jnp.ones([5, 2, 3]), lambda ys: ys[-1].sum())
    >>> gradients.c.shape
    (5, 2, 4)
    """
    check.function_taking("loss", loss, 1)

    def run(kernel):
        return unroll(cell, params, xs, carry, mask=mask, reset=reset, reverse=reverse, kernel=kernel, key=key)

    shapes = []

    def note(cell, params, carry, xs, *, reverse=False):
        T = jax.tree.leaves(xs)[0].shape[0]
        shapes.append(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((T, *leaf.shape), leaf.dtype), carry))
        return Placeholder(len(shapes) - 1), scan(cell, params, carry, xs, reverse=reverse)[1]

    # A net hands carries on as they are, so what a kernel returns as the last carry shows where it was run.
    places, _ = jax.eval_shape(lambda: run(note))

    def loss_of(pushes):
        pushes = iter(pushes)

        def push(cell, params, carry, xs, *, reverse=False):
            return scan(_pushed(cell), params, carry, Augmented(xs, next(pushes)), reverse=reverse)

        return loss(run(push)[1])

    gradients = jax.grad(loss_of)(jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes))
    return jax.tree.map(
        lambda place: gradients[place.number], places, is_leaf=lambda node: isinstance(node, Placeholder)
    )


def gradient_norms(
    cell: Cell | Composite,
    params: Params,
    xs: jax.Array,
    loss: Callable[[jax.Array], jax.Array],
    carry: Carry | None = None,
    *,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Carry:
    """Returns ‖∂L/∂carry‖₂ over the features at every step: the norms of `carry_gradients`, of the same arguments.

    Returns:
      The structure of the carry, its leaves `[T, B]`.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.rnn(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> params = params._replace(w_h=0.5 * params.w_h)
    >>> norms = diagnostics.gradient_norms(cell, params, jnp.ones([9, 2, 3]), lambda ys: ys[-1].sum())
    >>> bool(jnp.all(norms[0] < norms[-1]))
    True
    """
    flags = {"mask": mask, "reset": reset, "reverse": reverse}
    gradients = carry_gradients(cell, params, xs, loss, carry, key=key, **flags)
    return jax.tree.map(lambda leaf: _norm(leaf, tuple(range(jnp.ndim(xs) - 1, leaf.ndim))), gradients)


def plot_gradient_norms(norms: Carry, *, ax: Axes | None = None) -> Axes:
    """Draws gradient norms over steps on a logarithmic scale: a leaf's mean over the batch, and the range as a band.

    The band leaves out rows that are zero, as before a reset; where all are zero, or one overflowed, is a gap.

    Args:
      norms: what `gradient_norms` returned, or any pytree of `[T, B]`, such as a dict of several cells' norms. The path
        to a leaf is its label.
      ax: the axes to draw on; None: those of a new figure.
    """
    check.representable(norms, "norms")
    if not jax.tree.leaves(norms) or not all(jnp.ndim(leaf) for leaf in jax.tree.leaves(norms)):
        raise ValueError("`norms` must be a pytree of arrays [T, B]; got none, or a number in it")
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(norms)):
        raise TypeError("`norms` must be real numbers; got complex ones")
    ax = axes_or_new(ax)
    for path, leaf in jax.tree_util.tree_leaves_with_path(norms):
        label = jax.tree_util.keystr(path, simple=True, separator=".") or "carry"
        rows = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
        least = np.min(rows, axis=1, where=rows > 0, initial=np.inf)  # a zero would take the band to -∞
        mean, least, most = (_above_zero(values) for values in (rows.mean(axis=1), least, rows.max(axis=1)))
        marker = "o" if np.sum(np.isfinite(mean)) == 1 else None  # a single point is no line
        (line,) = ax.plot(mean, label=label, marker=marker, markersize=4)
        ax.fill_between(range(len(rows)), least, most, color=line.get_color(), alpha=0.2, lw=0)
        if np.any(mean > 0):  # an axis without a number above zero cannot be logarithmic
            ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="‖∂L / ∂carry‖₂", title="Gradient by the carry that enters each step")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _above_zero(values):
    return np.where((values > 0) & np.isfinite(values), values, np.nan)


@functools.cache
def _pushed(cell):
    """The cell to whose carry an array δ, beside its xs, is added at each step."""
    return around(cell, given="xs", enter=lambda push, _, carry: jax.tree.map(jnp.add, carry, push))


def _norm(x, axes):
    """The norm over `axes`, also where the squares would underflow, as those of vanished gradients do."""
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return jnp.sqrt(jnp.sum(jnp.abs(x / scale) ** 2, axis=axes)) * jnp.squeeze(scale, axes)
