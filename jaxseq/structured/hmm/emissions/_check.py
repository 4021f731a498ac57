"""The errors of emissions: observations that do not fit the params."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseq import check


def features(xs: Any, D: int | None = None) -> jax.Array:
    """Returns observations `[T, B, D]`, floating; of as many features as the params have, where `D` is given."""
    xs = check.array("xs", "T, B, D", xs)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise TypeError(f"`xs` must be floating [T, B, D]; got {xs.dtype} {xs.shape}. Cast it: xs.astype(float).")
    return _of_size(xs, D)


def counts(xs: Any, D: int | None = None) -> jax.Array:
    """Returns observations `[T, B, D]`, integers or floating, as floating."""
    xs = check.array("xs", "T, B, D", xs)
    if not jnp.issubdtype(xs.dtype, jnp.number) or jnp.iscomplexobj(xs):
        raise TypeError(f"`xs` must be counts [T, B, D], integers or floating; got {xs.dtype} {xs.shape}")
    return _of_size(xs if jnp.issubdtype(xs.dtype, jnp.floating) else xs.astype(float), D)


def _of_size(xs, D):
    if xs.ndim < 2 or xs.shape[-1] == 0:
        raise ValueError(f"`xs` must be [T, B, D], with at least one feature; got {xs.dtype} {xs.shape}")
    if D is not None and xs.shape[-1] != D:
        raise ValueError(f"`xs` must be [T, B, D] of the D = {D} features that the params are for; got {xs.shape}")
    return xs
