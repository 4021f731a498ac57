"""Saliency, or which inputs matter: gradient × input, integrated gradients (Sundararajan et al. 2017), leave-one-out.

    gradient × input         a = x ⊙ ∂s/∂x
    integrated gradients     a = (x - x₀) ⊙ ∫₀¹ ∂s/∂x at x₀ + α (x - x₀) dα          Σ a = s(x) - s(x₀)
    leave-one-out            a_t = s(mask) - s(mask without t)

The integral is a Gauss–Legendre sum. It is exact if the gradient is a polynomial in α of degree below 2 steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxseq import _meshes, check
from jaxseq._promote import widen
from jaxseq.diagnostics._axes import axes_or_new, named, real
from jaxseq.typing import AnyArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Score = Callable[[jax.Array], jax.Array]


def gradient_times_input(score: Score, xs: AnyArray) -> jax.Array:
    """Returns x ⊙ ∂score/∂x, an array like `xs`: each input's first-order contribution to the score.

    Args:
      score: a function of xs that returns a scalar, or `[B]` with one score per row; rows must not affect each other.
      xs: floating, such as `[T, B, D]`; for tokens, their embeddings.

    Raises:
      TypeError: `xs` is not a floating array.

    >>> from jaxseq import diagnostics
    >>> diagnostics.gradient_times_input(lambda xs: jnp.sum(xs * jnp.array([1.0, 2.0])), jnp.array([[3.0, 4.0]]))
    Array([[3., 8.]], dtype=float32)
    """
    check.function_taking("score", score, 1)
    xs = _floating("xs", xs)
    return _attribute(xs, _gradient(score)(xs))


def integrated_gradients(score: Score, xs: AnyArray, *, baseline: AnyArray | None = None, steps: int = 32) -> jax.Array:
    """Returns integrated gradients, an array like `xs`; its entries add up to score(xs) - score(baseline).

    Args:
      score: a function of xs that returns a scalar, or `[B]` with one score per row; rows must not affect each other.
        With `[B]`, the entries of each row add up to the row's own difference.
      xs: floating, such as `[T, B, D]`; for tokens, their embeddings.
      baseline: the input that stands for "no input", an array like `xs`. None: zeros.
      steps: the number of points of the sum; each takes one gradient.

    Raises:
      TypeError, ValueError: `xs` is not a floating array, `baseline` is not like it, or `steps` is not a positive int.

    >>> from jaxseq import diagnostics
    >>> diagnostics.integrated_gradients(lambda xs: jnp.sum(xs**3), jnp.array([1.0, 2.0])).round(4)
    Array([1., 8.], dtype=float32)
    """
    check.function_taking("score", score, 1)
    xs = _floating("xs", xs)
    baseline = jnp.zeros_like(xs) if baseline is None else _floating("baseline", baseline)
    if baseline.shape != xs.shape or baseline.dtype != xs.dtype:
        raise ValueError(f"`baseline` must be like `xs`, {xs.dtype} {xs.shape}; got {baseline.dtype} {baseline.shape}")
    points, weights = np.polynomial.legendre.leggauss(check.positive_int("steps", steps))
    wide = widen(xs.dtype)
    points, weights = jnp.asarray((1 + points) / 2, xs.dtype), jnp.asarray(weights / 2, wide)

    def add(total, point_weight):
        point, weight = point_weight
        return total + weight * _gradient(score)(baseline + point * (xs - baseline)).astype(wide), None

    mean = jnp.zeros(xs.shape, wide)
    if isinstance(xs, Tracer):
        mean, _ = _meshes.scan(add, mean, (points, weights))
    else:  # a loop of JAX's over the user's function would be compiled again at each call
        for point_weight in zip(points, weights, strict=True):
            mean, _ = add(mean, point_weight)
    return _attribute(xs - baseline, mean).astype(xs.dtype)


def leave_one_out(score_of_mask: Score, mask: AnyArray) -> jax.Array:
    """Returns how much the score falls if one step is left out, for each step, `[T, B]`; zero where `mask` is False.

    The step is masked out, not zeroed, so the net reads the sequence without it. All T masks are scored at once, which
    takes T times the memory of one.

    Args:
      score_of_mask: a function of a mask, bool `[T, B] -> [B]`, whose rows must not affect each other, for example
        `lambda mask: readout(jaxseq.unroll(..., mask=mask)[1])`.
      mask: bool `[T, B]`, True where a step is real.

    Raises:
      TypeError, ValueError: `mask` is not bool, or `score_of_mask` does not return one number per row.

    >>> from jaxseq import diagnostics
    >>> weights = jnp.array([[1.0], [2.0], [3.0]])
    >>> diagnostics.leave_one_out(lambda mask: jnp.sum(weights * mask, axis=0), jnp.array([[True], [False], [True]]))
    Array([[1.], [0.], [3.]], dtype=float32)
    """
    check.function_taking("score_of_mask", score_of_mask, 1)
    mask = check.array("mask", "T, B", mask)
    if mask.ndim < 1:
        raise ValueError("`mask` must be [T, B]; got a scalar")
    check.flags("mask", mask, mask.shape)
    if len(mask) == 0:
        return jnp.zeros(mask.shape)
    score = score_of_mask(mask)
    if jnp.shape(score) != mask.shape[1:]:
        raise ValueError(f"`score_of_mask` must return one number per row, {mask.shape[1:]}; got {jnp.shape(score)}")
    without = jax.vmap(lambda t: score_of_mask(mask.at[t].set(False)))(jnp.arange(len(mask)))
    return jnp.where(mask, score[None] - without, 0)


def plot_saliency(attributions: AnyArray, *, tokens: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Plots the attributions of one sequence: red steps raise the score, blue steps lower it.

    Args:
      attributions: `[T]`, drawn as bars, or `[T, D]`, as a heat map of features over steps.
      tokens: a label for each step. None: its index.
      ax: the axes to draw on. None: the axes of a new figure.

    Raises:
      ValueError: `attributions` is not of one sequence, or the number of `tokens` is not T.
    """
    values = real("attributions", "[T] or [T, D], of one row of the batch", attributions, (1, 2))
    named("tokens", tokens, len(values), f"{len(values)} steps")
    ax = axes_or_new(ax)
    if values.ndim == 1:
        ax.bar(range(len(values)), values, color=["tab:red" if value > 0 else "tab:blue" for value in values])
        ax.axhline(0, color="0.4", lw=1)
        ax.set(ylabel="attribution")
    else:
        largest = np.max(np.abs(values))
        image = ax.imshow(values.T, aspect="auto", interpolation="nearest", cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.figure.colorbar(image, ax=ax, pad=0.01, label="attribution")
        ax.set(ylabel="feature")
    if tokens is not None:
        size = min(10, 300 / max(len(tokens), 1))  # in points; about the width of a step
        ax.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    ax.set(xlabel="step" if tokens is None else "", title="Which steps mattered")
    return ax


def _attribute(xs, gradient):
    """Returns the product; zero where the gradient is zero, such as on padding, even if x is NaN there."""
    return jnp.where(gradient == 0, 0, xs * gradient)


def _gradient(score):
    return jax.grad(lambda xs: jnp.sum(score(xs)))


def _floating(name, xs):
    xs = check.array(name, "T, B, D", xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be floating; got {xs.dtype}. For tokens, attribute to their embeddings.")
    return xs
