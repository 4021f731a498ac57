"""Checks a cell's hand-written gradient against autodiff and finite differences, in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq import check
from jaxseq._around import around
from jaxseq._carry_parts import parts_of
from jaxseq._unroll import unroll
from jaxseq.kernels import associative, bptt, chunkwise, scan
from jaxseq.typing import AnyArray, Carry, Cell, Kernel, Params

_DIFFERENCE = 1e-6  # the step of a central difference; the error is about 1e-10 times the third derivative
_OFF_KINK = 0.1  # the distance from a kink at which finite differences are taken


def check_bptt(
    cell: Cell,
    params: Params,
    xs: AnyArray,
    carry: Carry | None = None,
    *,
    mask: AnyArray | None = None,
    reset: AnyArray | None = None,
    reverse: bool = False,
    key: jax.Array | None = None,
    tolerance: float = 1e-9,
    difference_tolerance: float = 1e-5,
) -> None:
    """Raises unless `cell.backward` or `cell.linear` has the values and the gradient of `cell.step` on this input.

    All numbers are first converted to float64. The check compares the outputs, the last carry, and the gradients with
    respect to params, carry and xs (for random cotangents of both results) with `kernels.scan`, which uses only
    `step`. It then compares each leaf's gradient along a random direction with central finite differences. A leaf at
    a kink, such as the sLSTM's n = 0, has no finite differences; everything is checked again slightly away from the
    kink. A linear cell gets its gradient from its algebra. It is checked with every kind of kernel that runs it: step
    by step, in chunks, and all steps at once.

    A cell that draws noise or has `Cell.hears` is checked twice: without, and with noise and a `Heard` carry.

    Args:
      cell: a Cell with a `backward`, or a linear Cell.
      params, xs, carry, mask, reset, reverse: as for `jaxseq.unroll`. Small sizes suffice; T should be at least 3.
        Call it for large numbers and extreme params too, where gates saturate.
      key: the key for the noise. None: `jax.random.key(0)`.
      tolerance: the largest allowed error against autodiff, relative to the leaf's largest entry or 1.
      difference_tolerance: the same against finite differences.

    Raises:
      AssertionError: a value or gradient differs. The message names the leaf and the error.
      TypeError, ValueError: `cell` has neither `backward` nor `linear`, there is nothing to check, or an argument does
        not fit.

    >>> cell = jaxseq.gru(4)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> check_bptt(cell, params, jax.random.normal(jax.random.key(1), (5, 2, 3)))
    """
    check.net(cell)
    if not isinstance(cell, Cell) or not _by_hand(cell):
        raise ValueError(
            "`cell` must be a Cell with a `backward` or a `linear`; there is no hand-written gradient to check"
        )
    check.random_key(key)
    with jax.enable_x64(True):
        xs = check.array("xs", "T, B, D", xs)
        check.representable((params, carry), ("params", "carry"))
    mask = check.flags("mask", mask, xs.shape[:-1])
    reset = check.flags("reset", reset, xs.shape[:-1])
    check.direction(reverse)
    tolerance = check.at_least_zero("tolerance", tolerance)
    difference_tolerance = check.at_least_zero("difference_tolerance", difference_tolerance)
    leaves = jax.tree.leaves((params, carry))
    if not all(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves):
        raise ValueError("`params` and `carry` must be floating or complex, because finite differences are taken")
    if xs.shape[0] < 2 or xs.size == 0 or (mask is not None and not np.any(mask)):
        raise ValueError(f"`xs` {xs.shape} with its mask leaves nothing to check: give at least 2 real steps")
    check.parameters(cell, params, xs.shape[-1])
    with jax.enable_x64(True):
        params, xs, carry = _to_float64((params, xs, carry))
        if carry is None:
            carry = cell.carry(params, xs.shape[1:-1])
        arguments = {"params": params, "carry": carry, "xs": xs}
        options: dict[str, Any] = {"mask": mask, "reset": reset, "key": None}
        tolerances = tolerance, difference_tolerance
        _check("", cell, reverse, arguments, options, *tolerances)
        extras = [name for name, has in (("noise", cell.noise), ("a `Heard` carry", cell.hears)) if has]
        if extras:
            options["key"] = jax.random.key(0) if key is None else key
            cell = _hearing(cell) if cell.hears else cell
            _check(f"with {' and '.join(extras)}, ", cell, reverse, arguments, options, *tolerances)


def _by_hand(cell) -> dict[str, Kernel]:
    """Returns the kernels that run the cell by a hand-written gradient, keyed by the words that errors use for them."""
    if cell.linear is not None:
        kernels = {"bptt": bptt, "chunkwise(2)": chunkwise(2), "associative": associative}
        return {f", by kernels.{name},": kernel for name, kernel in kernels.items()}
    return {} if cell.backward is None else {"": bptt}


@functools.cache
def _hearing(cell):
    """Returns a cell whose recurrent weights see half of h plus a function of the inputs, in place of h."""

    def extra(_, params, xs):
        h = jax.eval_shape(lambda params: parts_of("Heard", cell.carry(params, xs.shape[:-1]))["h"], params)
        return jnp.broadcast_to(jnp.sin(xs.sum(-1)).reshape(*xs.shape[:-1], *[1] * (h.ndim - xs.ndim + 1)), h.shape)

    return around(cell, extra=extra, hear=lambda _, u, h: 0.5 * h + u)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(cell, kernel, reverse, arguments, options):
    params, xs, carry = arguments["params"], arguments["xs"], arguments["carry"]
    carry, ys = unroll(cell, params, xs, carry, **options, reverse=reverse, kernel=kernel)
    return {"carry": carry, "ys": ys}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run_and_back(cell, kernel, reverse, arguments, options, cotangents):
    results, pull = jax.vjp(lambda arguments: _run(cell, kernel, reverse, arguments, options), arguments)
    return results, pull(cotangents)[0]


def _check(case, cell, reverse, arguments, options, tolerance, difference_tolerance):
    """Raises unless the functions of the cell agree. The error names the `case`."""
    shapes = jax.eval_shape(functools.partial(_run, cell, scan, reverse), arguments, options)
    cotangents = _normal_like(shapes, seed=0)

    def function(arguments):
        return _inner(_run(cell, scan, reverse, arguments, options), cotangents)

    values = "`fwd`" if cell.linear is None else "`linear`"
    for is_last in (False, True):
        want, want_gradients = _run_and_back(cell, scan, reverse, arguments, options, cotangents)
        gradients = want_gradients
        for by, kernel in _by_hand(cell).items():
            got, gradients = _run_and_back(cell, kernel, reverse, arguments, options, cotangents)
            _compare(f"{case}{values}{by} differs from `step` in", got, want, tolerance)
            message = f"{case}the hand-written gradient{by} differs from autodiff's in"
            _compare(message, gradients, want_gradients, tolerance)
        slopes, differences, bends = _directional(function, arguments, gradients)
        message = f"{case}the hand-written gradient, along a random direction, differs from finite differences in"
        wrong = _wrong(slopes, differences, difference_tolerance)
        kinks = wrong.keys() & _wrong(bends, jax.tree.map(np.zeros_like, bends), difference_tolerance).keys()
        if is_last or not kinks:
            _raise(message, wrong)
            return
        arguments = _moved_off_kinks(arguments, kinks)


def _directional(function, arguments, gradients):
    """Returns each leaf's derivative along a random direction of length 1, from its gradient and from differences.

    Also returns how much the forward and the backward difference differ. Without a kink that is close to zero.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, arguments))
    here = float(function(arguments))
    results = []
    for place, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        direction = _normal_like(leaf, seed=1 + place)
        direction = direction / np.maximum(np.linalg.norm(direction), 1e-300)
        ahead, behind = (
            float(function(jax.tree.unflatten(structure, [*leaves[:place], leaf + move, *leaves[place + 1 :]])))
            for move in (_DIFFERENCE * direction, -_DIFFERENCE * direction)
        )
        bend = (ahead - 2 * here + behind) / _DIFFERENCE
        slope = np.sum(np.asarray(gradient) * direction).real
        results.append((slope, (ahead - behind) / (2 * _DIFFERENCE), bend))
    return (jax.tree.unflatten(structure, map(np.asarray, column)) for column in zip(*results, strict=True))


def _moved_off_kinks(arguments, names):
    """Returns the arguments with the named leaves moved upwards, as a leaf that must not be negative starts at zero."""
    moves = jax.tree.map(lambda move: _OFF_KINK * (1 + np.abs(move)), _normal_like(arguments, seed=0))
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf, move: leaf + move if _name(path) in names else leaf, arguments, moves
    )


def _wrong(got, want, tolerance):
    """Returns the leaves that differ: by name, their largest error and its bound."""
    wrong = {}
    for (path, got_leaf), want_leaf in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        got_leaf, want_leaf = np.asarray(got_leaf), np.asarray(want_leaf)
        error = float(np.max(np.abs(got_leaf - want_leaf), initial=0))
        bound = tolerance * max(1.0, float(np.max(np.abs(want_leaf), initial=0)))
        if not error <= bound:
            wrong[_name(path)] = error, bound
    return wrong


def _compare(message, got, want, tolerance):
    _raise(message, _wrong(got, want, tolerance))


def _raise(message, wrong):
    """Raises an error that names every leaf that differs, the worst first."""
    if wrong:
        ordered = sorted(wrong.items(), key=lambda entry: entry[1], reverse=True)
        leaves = [
            f"{name}, whose largest error is {error:.3g}, more than {bound:.3g}" for name, (error, bound) in ordered
        ]
        raise AssertionError(f"{message} " + "; ".join(leaves))


def _name(path):
    return path[0].key + jax.tree_util.keystr(path[1:])


@jax.jit
def _inner(values, cotangents):
    """Returns the number whose change is Re(δ · dz): JAX's definition of a cotangent, also for complex z."""
    return sum(jnp.sum(z * d).real for z, d in zip(*map(jax.tree.leaves, (values, cotangents)), strict=True))


def _normal_like(tree, seed):
    generator = np.random.default_rng(seed)

    def draw(leaf):
        drawn = generator.normal(size=leaf.shape)
        return drawn + 1j * generator.normal(size=leaf.shape) if jnp.iscomplexobj(leaf) else drawn

    return jax.tree.map(draw, tree)


def _to_float64(tree):
    def convert(leaf):
        return jnp.asarray(leaf, np.complex128 if jnp.iscomplexobj(leaf) else np.float64)

    return jax.tree.map(convert, tree)
