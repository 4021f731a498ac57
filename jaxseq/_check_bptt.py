"""Holds a cell's hand-written backward against autodiff and finite differences, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._unroll import unroll
from jaxseq.kernels import bptt, scan
from jaxseq.typing import Carry, Cell, Params

_DIFFERENCE = 1e-6  # the step of a central difference: its error is about 1e-10 of the third derivative


def check_bptt(
    cell: Cell,
    params: Params,
    xs: jax.Array,
    carry: Carry | None = None,
    *,
    mask: jax.Array | None = None,
    reset: jax.Array | None = None,
    reverse: bool = False,
    tolerance: float = 1e-9,
    difference_tolerance: float = 1e-5,
) -> None:
    """Raises unless `cell.backward` is the gradient of `cell.step`, on the numbers given.

    All numbers are converted to float64 first. Outputs, last carry and the gradients by params, carry and xs, for
    random cotangents of both results, are held against `kernels.scan`, which knows only `step`, and so are the values
    of the cell's `direct`, if it has one; then each leaf's gradient, along a random direction, against central finite
    differences.

    Args:
      cell: a Cell with a `backward`.
      params, xs, carry, mask, reset, reverse: as for `jaxseq.unroll`; small sizes do, with T of at least 3.
      tolerance: the largest error against autodiff, relative to the leaf's largest entry or 1.
      difference_tolerance: the same against finite differences. Keep `activation`s with kinks away from them.

    Raises:
      AssertionError: naming the leaf and the error.
      TypeError, ValueError: `cell` has no `backward`, there is nothing to check, or an argument does not fit.

    >>> cell = jaxseq.gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> check_bptt(cell, params, jax.random.normal(jax.random.key(1), (5, 2, 3)))
    """
    check.net(cell)
    if not isinstance(cell, Cell) or cell.backward is None:
        raise ValueError("`cell` must be a Cell with a `backward`; there is no hand-written gradient to check")
    with jax.enable_x64(True):
        xs = check.array("xs", "T, B, D", xs)
        check.representable((params, carry), ("params", "carry"))
    tolerance = check.at_least_zero("tolerance", tolerance)
    difference_tolerance = check.at_least_zero("difference_tolerance", difference_tolerance)
    leaves = jax.tree.leaves((params, carry))
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        raise ValueError("`params` and `carry` must be all floating to be checked against finite differences")
    if xs.shape[0] < 2 or xs.size == 0 or (mask is not None and not np.any(mask)):
        raise ValueError(f"there is nothing to check in `xs` {xs.shape} and its mask: give at least 2 real steps")
    check.parameters(cell, params, xs.shape[-1])
    with jax.enable_x64(True):
        params, xs, carry = _to_float64((params, xs, carry))
        if carry is None:
            carry = cell.carry(params, xs.shape[1:-1])
        arguments = {"params": params, "carry": carry, "xs": xs}
        flags = {"mask": mask, "reset": reset}
        run = functools.partial(_run, cell, reverse=reverse)
        cotangents = _normal_like(jax.eval_shape(functools.partial(run, scan), arguments, flags), seed=0)
        results, gradients = {}, {}
        for kernel in (scan, bptt):
            results[kernel], gradients[kernel] = _run_and_back(cell, kernel, reverse, arguments, flags, cotangents)
        _compare("`fwd` differs from `step` in", results[bptt], results[scan], tolerance)
        if cell.direct is not None:
            directly = run(_directly, arguments, flags)
            _compare("`direct` differs from `step` in", directly, results[scan], tolerance)
        _compare("the hand-written gradient differs from autodiff's in", gradients[bptt], gradients[scan], tolerance)
        slopes, differences = _directional(
            lambda arguments: _inner(run(scan, arguments, flags), cotangents), arguments, gradients[bptt]
        )
        _compare(
            "the hand-written gradient, along a random direction, differs from finite differences in",
            slopes,
            differences,
            difference_tolerance,
        )


@functools.partial(jax.jit, static_argnames=("cell", "kernel", "reverse"))
def _run(cell, kernel, arguments, flags, *, reverse):
    params, carry, xs = arguments["params"], arguments["carry"], arguments["xs"]
    last, ys = unroll(cell, params, xs, carry, **flags, reverse=reverse, kernel=kernel)
    return {"carry": last, "ys": ys}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run_and_back(cell, kernel, reverse, arguments, flags, cotangents):
    results, pull = jax.vjp(lambda arguments: _run(cell, kernel, arguments, flags, reverse=reverse), arguments)
    return results, pull(cotangents)[0]


def _directly(cell, params, carry, xs, *, reverse):
    """A kernel that runs the cell's `direct`."""
    return jax.lax.scan(cell.direct(params), carry, xs, reverse=reverse)


def _directional(function, arguments, gradients):
    """Each leaf's derivative along a random direction of length 1: by its gradient, and by central differences."""
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, arguments))
    slopes, differences = [], []
    for place, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        direction = _normal_like(leaf, seed=1 + place)
        direction = direction / np.maximum(np.linalg.norm(direction), 1e-300)
        ahead, behind = (
            float(function(jax.tree.unflatten(structure, [*leaves[:place], leaf + move, *leaves[place + 1 :]])))
            for move in (_DIFFERENCE * direction, -_DIFFERENCE * direction)
        )
        slopes.append(np.vdot(np.asarray(gradient), direction))
        differences.append(np.asarray((ahead - behind) / (2 * _DIFFERENCE)))
    return jax.tree.unflatten(structure, slopes), jax.tree.unflatten(structure, differences)


def _compare(message, got, want, tolerance):
    """Raises naming every leaf that is off, the worst first."""
    wrong = []
    for (path, got_leaf), want_leaf in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        got_leaf, want_leaf = np.asarray(got_leaf), np.asarray(want_leaf)
        error = float(np.max(np.abs(got_leaf - want_leaf), initial=0))
        bound = tolerance * max(1.0, float(np.max(np.abs(want_leaf), initial=0)))
        if not error <= bound:
            name = path[0].key + jax.tree_util.keystr(path[1:])
            wrong.append((error, f"{name}, whose largest error is {error:.3g}, more than {bound:.3g}"))
    if wrong:
        raise AssertionError(f"{message} " + "; ".join(text for _, text in sorted(wrong, reverse=True)))


@jax.jit
def _inner(left, right):
    return sum(map(jnp.vdot, jax.tree.leaves(left), jax.tree.leaves(right)))


def _normal_like(tree, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), tree)


def _to_float64(tree):
    def convert(leaf):
        leaf = np.asarray(leaf)
        return jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.asarray(leaf)

    return jax.tree.map(convert, tree)
