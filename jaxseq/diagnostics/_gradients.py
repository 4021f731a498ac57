"""The flow of gradients through time (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu et al. 2013).

    carry_t, y_t = step(carry_{t-1} + δ_t, x_t)          L = loss(y_1 … y_T)

    ∂L/∂carry_{t-1} = ∂L/∂δ_t at δ = 0 = Σ_{k≥t} ∂L/∂y_k ∂y_k/∂carry_{t-1}

The gradient is taken with respect to the carry that enters a step, because a cell's output need not be a part of the
carry. For the stock cells, where y_t = h_t, the whole ∂L/∂h_t is ∂L/∂y_t plus the gradient with respect to the h that
enters step t+1.
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
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def carry_gradients(
    cell: Cell | Composite,
    params: Params,
    xs: AnyArray,
    loss: Callable[[jax.Array], jax.Array],
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Carry:
    """Returns ∂L/∂carry at every step, for L = loss(ys) and the ys of `jaxseq.unroll`.

    Entry t is the gradient with respect to the carry that enters step t; with `reverse` that carry comes from step t+1.
    It is zero where a reset acts before the step. On padding it equals the gradient at the next step in the order of
    processing.

    Args:
      cell: a Cell, or a Composite made of them.
      loss: a function of ys `[T, B, H]` that returns a scalar.
      params, xs, carry, mask, reset, reverse, key: as for `jaxseq.unroll`.

    Returns:
      A pytree with the structure of the carry and leaves `[T, B, ...]`.

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

    # A net hands on what a kernel returns as its last carry, so the place of a cell's carry tells where it was run.
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
    xs: AnyArray,
    loss: Callable[[jax.Array], jax.Array],
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
) -> Carry:
    """Returns ‖∂L/∂carry‖₂ at every step: the norms of `carry_gradients` over the features, for the same arguments.

    Returns:
      A pytree with the structure of the carry and leaves `[T, B]`.

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
    """Plots gradient norms over steps on a logarithmic scale: the mean over the batch as a line, the range as a band.

    The band ignores rows that are zero, for example before a reset. There is a gap where all rows are zero or one has
    overflowed.

    Args:
      norms: the result of `gradient_norms`, or any pytree of arrays `[T, B]`, such as a dict with the norms of several
        cells. The path of a leaf is its label.
      ax: the axes to draw on. None: the axes of a new figure.
    """
    check.representable(norms, "norms")
    if not jax.tree.leaves(norms) or not all(jnp.ndim(leaf) for leaf in jax.tree.leaves(norms)):
        raise ValueError("`norms` must be a pytree of arrays [T, B]; got an empty pytree, or a number in it")
    if any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(norms)):
        raise TypeError("`norms` must be real numbers; got complex ones")
    ax = axes_or_new(ax)
    for path, leaf in jax.tree_util.tree_leaves_with_path(norms):
        label = jax.tree_util.keystr(path, simple=True, separator=".") or "carry"
        rows = np.asarray(leaf, np.float64).reshape(len(leaf), -1)
        least = np.min(rows, axis=1, where=rows > 0, initial=np.inf)  # zero would extend the band to -∞
        mean, least, most = (_above_zero(values) for values in (rows.mean(axis=1), least, rows.max(axis=1)))
        marker = "o" if np.sum(np.isfinite(mean)) == 1 else None  # a single point makes no visible line
        (line,) = ax.plot(mean, label=label, marker=marker, markersize=4)
        ax.fill_between(range(len(rows)), least, most, color=line.get_color(), alpha=0.2, lw=0)
        if np.any(mean > 0):  # a logarithmic axis needs a number above zero
            ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="‖∂L / ∂carry‖₂", title="Gradient by the carry that enters each step")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def _above_zero(values):
    return np.where((values > 0) & np.isfinite(values), values, np.nan)


@functools.cache
def _pushed(cell):
    """Returns a cell that adds δ to its carry at each step; δ is part of its xs."""
    return around(cell, given="xs", enter=lambda push, _, carry: jax.tree.map(jnp.add, carry, push))


def _norm(x, axes):
    """Returns the norm over `axes`, scaled so that the squares of tiny gradients do not underflow."""
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return jnp.sqrt(jnp.sum(jnp.abs(x / scale) ** 2, axis=axes)) * jnp.squeeze(scale, axes)
