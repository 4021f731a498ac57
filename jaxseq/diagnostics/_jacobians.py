"""The Jacobians of the recurrence, and how they stretch (Pascanu et al. 2013; Vogt et al. 2022).

    J_t = ∂carry_t / ∂carry_{t-1}                         ∂carry_t / ∂carry_0 = J_t … J_1

A gradient vanishes where the singular values of the product go to 0, and may explode where they grow. The Lyapunov
exponents are their mean logarithms per step as T grows. The product would overflow or underflow; with its columns made
orthonormal after each step it does not (Benettin et al. 1980):

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
from jaxseq.typing import Carry, Cell, Composite, Params

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def jacobians(cell: Cell | Composite, params: Params, xs: jax.Array, carry: Carry | None = None) -> jax.Array:
    """Returns the Jacobian of every step of one sequence, `[T, n, n]`: [t, i, j] is ∂(carry after t)_i / ∂(before t)_j.

    Args:
      cell: a Cell, or a causal Composite.
      params: what `cell.init` returned.
      xs: `[T, D]`, one sequence without batch axes; `jax.vmap` over more of them.
      carry: the carry to start from; None: `cell.carry(params)`. Its leaves one after the other, flattened by
        `jax.flatten_util.ravel_pytree`, are the n entries; of complex ones the real parts, then the imaginary ones.

    Raises:
      TypeError, ValueError: an argument does not fit, `xs` have batch axes, or the net is not causal.

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


def jacobian_singular_values(jacobians: jax.Array) -> jax.Array:
    """Returns the singular values of J_t … J_1 for every t, `[T, n]`, the largest first.

    Those smaller than the largest one times the dtype's precision are rounding. Over many steps the product overflows
    or underflows; `lyapunov_exponents` does not.

    Args:
      jacobians: `[T, n, n]`.

    Raises:
      TypeError, ValueError: `jacobians` are no array of square matrices.

    >>> from jaxseq import diagnostics
    >>> diagnostics.jacobian_singular_values(0.5 * jnp.stack([jnp.eye(2)] * 3))
    Array([[0.5  , 0.5  ], [0.25 , 0.25 ], [0.125, 0.125]], dtype=float32)
    """
    jacobians = _square(jacobians)
    _, products = _meshes.scan(_multiply, jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians)
    return jnp.linalg.svd(products, compute_uv=False)


def lyapunov_exponents(jacobians: jax.Array) -> jax.Array:
    """Returns the mean log stretching per step in each of n orthogonal directions, `[n]`, the largest first.

    Where all are below zero the carry forgets where it started; with one above zero, small differences grow. A
    direction that is lost has -inf.

    Args:
      jacobians: `[T, n, n]` of at least one step. The estimate settles as T grows.

    Raises:
      TypeError, ValueError: `jacobians` are no array of square matrices, or none.

    >>> from jaxseq import diagnostics
    >>> diagnostics.lyapunov_exponents(jnp.stack([jnp.diag(jnp.array([0.5, 2.0]))] * 9))
    Array([ 0.6931472, -0.6931472], dtype=float32)
    """
    jacobians = _square(jacobians)
    if len(jacobians) == 0:
        raise ValueError("`jacobians` must hold at least one step")
    _, logs = _meshes.scan(_stretch, jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype), jacobians)
    return jnp.sort(jnp.mean(logs, axis=0), descending=True)


def plot_singular_values(singular_values: jax.Array, *, ax: Axes | None = None) -> Axes:
    """Draws what `jacobian_singular_values` returned, `[T, n]`, over steps on a logarithmic scale, dark the largest.

    Args:
      singular_values: `[T, n]`.
      ax: the axes to draw on; None: those of a new figure.
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
    """The carry with real numbers for complex ones, `[2, ...]`."""
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
    return jacobians.astype(widen(jacobians.dtype))  # decompositions know no narrower ones
