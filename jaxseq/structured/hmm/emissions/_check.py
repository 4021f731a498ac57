"""Checks of emissions: that params belong to the emission, and that observations fit them."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxseq import check

_P = TypeVar("_P", bound=tuple)


class Partial(NamedTuple):
    """Observations with missing features: `xs` `[T, B, D]`, with zeros there, and `seen`, bool of that shape.

    The functions of an emission take it in place of `xs`.
    """

    xs: jax.Array
    seen: jax.Array


def fields(params: Any, kind: type[_P], *axes: str, **sizes: int) -> _P:
    """Returns an emission's params, a NamedTuple `kind` of float arrays, after checking their axes against `sizes`."""
    names = kind._fields  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(params, kind):
        expected = f"hmm.{kind.__name__}({', '.join(names)})"
        raise TypeError(f"`params` must be the emission's, {expected}; got {type(params).__name__}")
    arrays = [check.floating(f"params.{name}", of, x) for name, of, x in zip(names, axes, params, strict=True)]
    for name, of, x in zip(names, axes, arrays, strict=True):
        letters = of.split(", ")
        if x.ndim != len(letters) or x.size == 0:
            raise ValueError(f"`params.{name}` must be [{of}], with all sizes above 0; got {check.shaped(x)}")
        expected = tuple(sizes.setdefault(letter, size) for letter, size in zip(letters, x.shape, strict=True))
        if x.shape != expected:
            raise ValueError(f"`params.{name}` must be [{of}] = {expected}; got {check.shaped(x)}")
    return kind(*arrays)


def features(xs: Any, D: int | None = None) -> tuple[jax.Array, jax.Array | None]:
    """Returns observations `[T, B, D]` after checking that they are floating, and which features are seen.

    The latter is bool of the same shape, or None if all are seen. `D`, if given, is the number of features of the
    params.
    """
    xs, seen = xs if isinstance(xs, Partial) else (xs, None)
    xs = check.array("xs", "T, B, D", xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"`xs` must be floating [T, B, D]; got {xs.dtype} {xs.shape}. Cast it: xs.astype(float).")
    return _of_size(xs, D), seen


def counts(xs: Any, D: int | None = None) -> tuple[jax.Array, jax.Array | None]:
    """Returns counts `[T, B, D]`, integers or floating, as floating, and which features are seen, as in `features`."""
    xs, seen = xs if isinstance(xs, Partial) else (xs, None)
    xs = check.array("xs", "T, B, D", xs)
    if not jnp.issubdtype(xs.dtype, jnp.number) or jnp.iscomplexobj(xs):
        raise TypeError(f"`xs` must be counts [T, B, D], integers or floating; got {xs.dtype} {xs.shape}")
    return _of_size(xs if jnp.issubdtype(xs.dtype, jnp.floating) else xs.astype(float), D), seen


def learned(learn: Sequence[str] | None, name: str) -> bool:
    """Returns whether `name` is among the params to learn; None means all."""
    return learn is None or name in learn


def _of_size(xs, D):
    if xs.ndim < 2 or xs.shape[-1] == 0:
        raise ValueError(f"`xs` must be [T, B, D], with at least one feature; got {xs.dtype} {xs.shape}")
    if D is not None and xs.shape[-1] != D:
        raise ValueError(f"`xs` must be [T, B, D] with the D = {D} features of the params; got {xs.shape}")
    return xs
