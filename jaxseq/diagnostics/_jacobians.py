"""The Jacobians of the recurrence, and how much they stretch (Pascanu et al. 2013; Vogt et al. 2022).

    J_t = ∂carry_t / ∂carry_{t-1}                         ∂carry_t / ∂carry_0 = J_t … J_1

A gradient vanishes if the singular values of the product go to 0, and may explode if they grow. The Lyapunov exponents
are the limits of their mean logarithms per step for large T. The product itself would overflow or underflow, so its
columns are made orthonormal after each step (Benettin et al. 1980):

    J_t Q_{t-1} = Q_t R_t,   Q_0 = 1              λ_i = 1/T Σ_t log |R_t,ii|
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxseq import _meshes, check
from jaxseq._promote import widen
from jaxseq._unroll import step
from jaxseq.diagnostics._axes import axes_or_new, real
from jaxseq.typing import AnyArray, Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def jacobians(cell: Cell | Composite, params: Params, xs: AnyArray, carry: Carry | None = None) -> jax.Array:
    """Returns the Jacobian of every step of one sequence, `[T, n, n]`: entry [t, i, j] is ∂(after t)_i / ∂(before t)_j.

    Its rows belong to the carry after step t, its columns to the carry before it.

    Args:
      cell: a Cell, or a causal Composite.
      params: as `cell.init` returns them.
      xs: `[T, D]`, one sequence without batch axes. Use `jax.vmap` for several.
      carry: the initial carry. None: `cell.carry(params)`. The n entries are its leaves, flattened in order by
        `jax.flatten_util.ravel_pytree`. A complex leaf counts as its real parts followed by its imaginary parts.

    Raises:
      TypeError, ValueError: an argument does not fit, `xs` has batch axes, or the net is not causal.

    >>> from jaxseq import diagnostics
    >>> cell = jaxseq.lstm(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> diagnostics.jacobians(cell, params, jnp.ones([5, 3])).shape
    (5, 8, 8)
    """
    check.net(cell)
    params, carry = check.as_jax((params, carry), ("params", "carry"))
    xs = check.inputs("xs", "T, D", xs, params)
    if xs.ndim != 2:
        raise ValueError(f"`xs` must be [T, D], one sequence without batch axes; got {xs.shape}. Use jax.vmap.")
    check.parameters(cell, params, xs.shape[-1])
    return _along(cell, params, xs, cell.carry(params) if carry is None else carry)


def jacobian_singular_values(jacobians: AnyArray) -> jax.Array:
    """Returns the singular values of the product J_t … J_1 for every t, `[T, n]`, the largest first.

    Values smaller than the largest one times the dtype's precision are rounding errors. Over many steps the product
    overflows or underflows; `lyapunov_exponents` does not.

    Args:
      jacobians: `[T, n, n]`.

    Raises:
      TypeError, ValueError: `jacobians` is not an array of square matrices.

    >>> from jaxseq import diagnostics
    >>> diagnostics.jacobian_singular_values(0.5 * jnp.stack([jnp.eye(2)] * 3))
    Array([[0.5  , 0.5  ], [0.25 , 0.25 ], [0.125, 0.125]], dtype=float32)
    """
    jacobians = _square(jacobians)
    _, products = _meshes.scan(_multiply, jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians)
    return jnp.linalg.svd(products, compute_uv=False)


def lyapunov_exponents(jacobians: AnyArray) -> jax.Array:
    """Returns the Lyapunov exponents: the mean log stretching per step in n orthogonal directions, largest first.

    If all are below zero, the carry forgets its initial value; if one is above zero, small differences grow. A
    direction that a Jacobian maps to zero has -inf.

    Args:
      jacobians: `[T, n, n]` with T of at least 1. The estimate converges as T grows.

    Returns:
      Float `[n]`, in nats per step.

    Raises:
      TypeError, ValueError: `jacobians` is not an array of square matrices, or is empty.

    >>> from jaxseq import diagnostics
    >>> diagnostics.lyapunov_exponents(jnp.stack([jnp.diag(jnp.array([0.5, 2.0]))] * 9))
    Array([ 0.6931472, -0.6931472], dtype=float32)
    """
    jacobians = _square(jacobians)
    if len(jacobians) == 0:
        raise ValueError("`jacobians` must hold at least one step; got none")
    _, logs = _meshes.scan(_stretch, jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians)
    return jnp.sort(jnp.mean(logs, axis=0), descending=True)


def plot_singular_values(singular_values: AnyArray, *, ax: Axes | None = None) -> Axes:
    """Plots singular values over steps on a logarithmic scale; the largest is drawn darkest.

    Args:
      singular_values: `[T, n]`, as `jacobian_singular_values` returns them.
      ax: the axes to draw on. None: the axes of a new figure.
    """
    import matplotlib

    values = real("singular_values", "[T, n]", singular_values, (2,))
    values = np.where(values > 0, values, np.nan)
    T, n = values.shape
    ax = axes_or_new(ax)
    ax.axhline(1, color="0.4", lw=1, ls="--", label="norm kept")
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, n))
    names = {0: "largest", n - 1: "smallest"} if n > 1 else {}
    for i in range(n):
        ax.plot(range(1, T + 1), values[:, i], color=colors[i], lw=1.2, label=names.get(i))
    ax.set(yscale="log", xlabel="steps t", ylabel="singular value", title="Singular values of  $J_t \\cdots J_1$")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


@functools.partial(jax.jit, static_argnames="cell")
def _along(cell, params, xs, carry):
    start, unravel = ravel_pytree(_in_parts(carry))

    def after(flat, x):
        before = jax.tree.map(_whole, carry, unravel(flat))
        return ravel_pytree(_in_parts(step(cell, params, before, x)[0]))[0]

    _, before = _meshes.scan(lambda flat, x: (after(flat, x), flat), start, xs)
    return jax.vmap(jax.jacrev(after))(before, xs)


def _in_parts(carry):
    """Returns the carry with each complex leaf as real numbers `[2, ...]`."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf, carry)


def _whole(leaf, parts):
    return jax.lax.complex(*parts) if jnp.iscomplexobj(leaf) else parts


def _multiply(product, jacobian):
    product = jacobian @ product
    return product, product


def _stretch(q, jacobian):
    q, r = jnp.linalg.qr(jacobian @ q)
    return q, jnp.log(jnp.abs(jnp.diagonal(r)))


def _square(jacobians):
    jacobians = check.floating("jacobians", "T, n, n", jacobians)
    if jacobians.ndim != 3 or jacobians.shape[1] != jacobians.shape[2]:
        raise ValueError(f"`jacobians` must be [T, n, n]; got {jacobians.shape}")
    return jacobians.astype(widen(jacobians.dtype))  # decompositions need at least float32
