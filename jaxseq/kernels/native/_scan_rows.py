"""A native loop of a function that is not a cell, if possible."""

import functools
import math
from typing import Any

import jax

from jaxseq import _meshes
from jaxseq.kernels._bytes import sizes_are_known
from jaxseq.kernels.native import _call
from jaxseq.kernels.native._nodes import Unsupported
from jaxseq.kernels.native._scan import Function, scan, whole


def scan_rows(
    function: Function, params: Any, carry: jax.Array, inputs: Any, *, reverse: bool = False
) -> tuple[jax.Array, Any]:
    """See `jaxseq.kernels.native.scan_rows`."""
    batch = carry.shape[:-1]
    if _can_be_native((params, carry, inputs)):
        try:
            flat, steps = _rows(carry, batch, 0), jax.tree.map(lambda leaf: _rows(leaf, batch, 1), inputs)
            last, outs = scan(function, lambda _, inputs: inputs, params, flat, steps, reverse)
        except Unsupported:
            pass
        else:
            last, outs = last.reshape(carry.shape), whole(outs)
            return last, jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], *batch, *leaf.shape[2:]), outs)
    return _meshes.scan(functools.partial(function, params), carry, inputs, reverse=reverse)


def _can_be_native(arguments):
    on_cpu = jax.default_backend() == "cpu" and _call.why_not() is None
    return on_cpu and sizes_are_known(arguments) and not _meshes.in_types(arguments)


def _rows(leaf, batch, lead):
    """Returns the array with one axis in place of the batch axes, which follow `lead` other axes."""
    return leaf.reshape(*leaf.shape[:lead], math.prod(batch), *leaf.shape[lead + len(batch) :])
