"""Runs any cell for all steps at once by Newton's method (DEER: Lim et al. 2024; ELK: Gonzalez et al. 2024; ParaRNN).

Rounds improve a guess of all carries. Each round computes all steps and their Jacobians in parallel, and combines them
by an associative scan: log T sequential operations, where a loop has T. The equations are in `_newton_rounds`, the
derivatives in `_newton_states`. Masks and resets need no special case: the Jacobian of a padded step is the identity,
and that of a step with a reset before it is zero.

The largest Lyapunov exponent tells how many rounds are needed (Gonzalez et al. 2025). Below 0, a difference between two
carries decays, and a few rounds suffice for any T. Above 0 it grows, and a round makes only a few more steps exact.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp

from jaxseq import check
from jaxseq._factory import factory
from jaxseq._handed import handed_to_steps
from jaxseq._meshes import on_meshes, step_output
from jaxseq.kernels._bytes import array_bytes, kernel_bytes, one_step
from jaxseq.kernels._flat import Flat
from jaxseq.kernels._newton_rounds import Rounds, Solution
from jaxseq.kernels._newton_states import newton_states
from jaxseq.kernels._plan import Plan, register
from jaxseq.kernels._rows import of_rows, rows_are_batch
from jaxseq.kernels._wide import widened
from jaxseq.recurrences._cut import unknown
from jaxseq.typing import Carry, Cell, Inputs, Kernel, Params


def newton(*, jacobian: str = "full", tolerance: float | None = None, rounds: int = 32, damping: float = 0.0) -> Kernel:
    """Returns the kernel that solves for all steps at once, in rounds of associative scans, for parallel hardware.

    It runs any cell that treats every row the same. A loop runs what has not converged, also in the gradient, so the
    results are always those of `scan`. `diagnostics.newton_report` says whether it converged. On a CPU a loop does less
    work; see docs/newton.md. Supports reverse mode, to any order, and forward over reverse.

    Args:
      jacobian: "full": the Jacobian `[n, n]` of each step and row, with n the numbers in a row's carry. It needs few
        rounds, each of n³ work. "diagonal": only its diagonal (quasi-DEER). It needs no more memory than carries, but
        more rounds.
      tolerance: rounds end when no carry changes by more than this, relative to the largest value of that number over
        the steps of its row. The remaining error is the square of it with "full", and a few times it with "diagonal" or
        damping. None: eps^(3/4) of the carry's dtype: 2e-12 for float64, 6e-6 for float32, 0.03 for bfloat16.
      rounds: the largest number of rounds before the loop takes over. After k rounds the first k steps are exact.
      damping: Jacobians are scaled by 1 - damping. It takes more rounds, but may converge where 0 does not.

    Raises:
      TypeError, ValueError: an argument does not fit. The kernel raises ValueError for a cell whose carry is not
        floating, or that mixes the rows of a batch.

    >>> cell = jaxseq.gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> xs = jax.random.normal(jax.random.key(1), (1000, 2, 3))
    >>> carry, ys = jaxseq.unroll(cell, params, xs, kernel=newton())
    >>> jnp.allclose(ys, jaxseq.unroll(cell, params, xs)[1], atol=1e-5)
    Array(True, dtype=bool)
    """
    return _newton(*newton_options(jacobian, tolerance, rounds, damping))


def newton_options(
    jacobian: str, tolerance: float | None, rounds: int, damping: float
) -> tuple[str, float | None, int, float]:
    """Returns the arguments of `newton`, after checking them."""
    check.one_of("jacobian", jacobian, ("full", "diagonal"))
    tolerance = None if tolerance is None else check.positive_finite("tolerance", tolerance)
    damping = check.number("damping", damping, "in [0, 1]", lambda damping: 0 <= damping <= 1)
    return jacobian, tolerance, check.positive_int("rounds", rounds), damping


@factory
def _newton(jacobian, tolerance, rounds, damping):
    options = jacobian, tolerance, rounds, damping

    def newton_loop(params, carry, xs, *, cell, reverse):
        carry, ys, _ = newton_solution(options, cell, params, carry, xs, reverse)
        return carry, ys

    loop = rows_are_batch(newton_loop)

    def kernel(cell, params, carry, xs, *, reverse=False):
        refuse(cell, params, xs)
        return loop(params, carry, xs, cell=cell, reverse=reverse)

    def plan(cell, params, xs):
        refuse(cell, params, xs)
        return _plan(options, compiled, cell, params, xs)

    kernel.__name__ = kernel.__qualname__ = "newton"
    compiled = jax.jit(on_meshes(kernel), static_argnames=("cell", "reverse"))
    return register(compiled, plan)


def newton_solution(
    options: tuple[str, float | None, int, float], cell: Cell, params: Params, carry: Carry, xs: Inputs, reverse: bool
) -> tuple[Carry, jax.Array, Solution]:
    """Returns the last carry, ys `[T, B, H]`, and the solution of the rounds, in the order of processing."""
    T = jax.tree.leaves(xs)[0].shape[0]
    if not isinstance(T, int):
        raise unknown(T, "for an associative scan")
    batch = step_output(cell, params, carry, xs).shape[:-1]
    flat = Flat.of(carry, len(batch))
    jacobian, tolerance, rounds, damping = options
    how = Rounds(jacobian, flat.eps**0.75 if tolerance is None else tolerance, rounds, damping)
    us = cell.project(params, _flipped(xs) if reverse else xs)
    wide, narrow = widened(params)

    def whole_step(params, before, u):
        return cell.step(narrow(params), flat.whole(before), u)

    def step(params, before, u):
        return flat.flat(whole_step(params, before, u)[0], before.shape[:-1])

    first = flat.flat(carry, batch)
    solution = newton_states(step, how, wide, first, us)
    befores = handed_to_steps(first, solution.states, False)
    afters, ys = jax.vmap(whole_step, (None, 0, 0))(wide, befores, us)
    last = jax.tree.map(lambda leaf: leaf[-1], afters) if T else carry
    return last, _flipped(ys) if reverse else ys, solution


def _flipped(tree):
    return jax.tree.map(lambda leaf: jnp.flip(leaf, 0), tree)


def refuse(cell: Cell, params: Params, xs: Inputs) -> None:
    """Raises unless Newton's method can run a cell.

    Raises:
      ValueError: its carry is not floating, or it mixes rows.
    """
    leaves, tree = jax.tree.flatten((params, one_step(xs)))
    reason = _reason(cell, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    if reason is not None:
        raise ValueError(
            f"`cell` must have a carry of floats and treat rows alike, to be run by kernels.newton; {cell!r} does not: "
            f"{reason}. Unroll with kernel=jaxseq.kernels.scan, which runs every cell"
        )


@functools.lru_cache(maxsize=1024)
def _reason(cell, tree, shapes):
    """Returns why a cell cannot run, or None if it can, from the shapes of params and of one step's input."""
    from jaxseq.kernels.native._row_by_row import ROWS, mixing  # imported on first use, like the rest of that package

    params, x = jax.tree.unflatten(tree, itertools.starmap(jax.ShapeDtypeStruct, shapes))
    carry = jax.eval_shape(lambda params: cell.carry(params, jax.tree.leaves(x)[0].shape[:-1]), params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(carry):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return f"`carry{jax.tree_util.keystr(path)}` is {check.shaped(leaf)}"
    u = jax.eval_shape(cell.project, params, x)
    axes = jax.eval_shape(cell.step, params, carry, u)[1].ndim - 1

    def many(leaf):
        return jax.ShapeDtypeStruct((ROWS, *leaf.shape[axes:]), leaf.dtype)

    leaves, tree = jax.tree.flatten(params)
    leaves = [many(leaf) if flag else leaf for leaf, flag in zip(leaves, of_rows(params), strict=True)]
    closed = jax.make_jaxpr(cell.step)(jax.tree.unflatten(tree, leaves), *jax.tree.map(many, (carry, u)))
    across = mixing(closed.jaxpr)
    return None if across is None else f"it looks across the rows of a batch, by `{across}`"


def _plan(options, kernel, cell, params, xs):
    """Returns the plan.

    A scan holds full Jacobians three times. Before it, the us are held once for each of the n rows of the Jacobian.
    """
    T, *batch = jax.tree.leaves(xs)[0].shape[:-1]
    jacobian, _, rounds, _ = options
    carry = jax.eval_shape(lambda params: cell.carry(params, tuple(batch)), params)
    flat = Flat.of(carry, len(batch))
    n, is_full = flat.size, jacobian == "full"
    matrices = f"Jacobians of {n} × {n}" if is_full else f"diagonals of {n}"
    reason = f"at most {rounds} rounds of associative scans over {matrices}, then the loop"

    def held():
        vectors = T * math.prod(batch) * n * flat.dtype.itemsize
        of_rows = 3 * n * vectors + n * array_bytes(jax.eval_shape(cell.project, params, xs)) if is_full else 0
        return kernel_bytes(kernel, cell, params, xs) + of_rows

    return Plan("kernels.newton", "the adjoint of the solution", T, T, reason, held)
