"""Raises a clear error where forward mode meets a function that only has a reverse-mode gradient."""

from typing import NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def in_reverse_mode(x: jax.Array) -> jax.Array:
    """Returns `x`, an argument of a function with a `custom_vjp`. Its tangent is marked by `reverse_only`."""
    return _in_reverse_mode.bind(x)


def reverse_only(tangent: jax.Array) -> jax.Array:
    """Returns the tangent. Reverse mode transposes it; forward mode computes it and so raises TypeError."""
    return _reverse_only.bind(tangent)


def _refuse(*_, **__) -> NoReturn:
    raise TypeError(
        "the hand-written backward supports only reverse mode: jax.grad, jax.vjp, jax.jacrev. For forward mode "
        "(jax.jvp, jax.jacfwd or jax.linearize), unroll with kernel=jaxseq.kernels.scan"
    )


_reverse_only = Primitive("reverse_only")
_reverse_only.def_impl(_refuse)
_reverse_only.def_abstract_eval(lambda tangent: tangent)
ad.deflinear2(_reverse_only, lambda cotangent, _: [cotangent])
batching.primitive_batchers[_reverse_only] = _refuse  # transposition precedes vmap, so this tangent would be computed
mlir.register_lowering(_reverse_only, _refuse)


def _derivative(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return x, tangent if isinstance(tangent, ad.Zero) else reverse_only(tangent)


_in_reverse_mode = Primitive("in_reverse_mode")
_in_reverse_mode.def_impl(lambda x: x)
_in_reverse_mode.def_abstract_eval(lambda x: x)
ad.primitive_jvps[_in_reverse_mode] = _derivative
batching.defvectorized(_in_reverse_mode)
mlir.register_lowering(_in_reverse_mode, lambda _, x: [x])
