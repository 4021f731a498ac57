"""Turns the rows of `jax.vmap` into one batch, for loops over time with a custom gradient.

JAX maps a function with a `custom_vjp` by mapping its gradient: every row would compute its own gradient of every
weight, as large as the weight, before they are summed. So the loop is a JAX primitive. Mapped over carry and xs, with
shared params, it takes the mapped axis as one more batch axis. The `extra` of params is per row, so it gets that axis
too. Over mapped params the loop is mapped as usual, and so is its gradient: `jax.vmap(jax.grad(…))` gives each row its
own.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxseq._around import Augmented
from jaxseq._meshes import step_output, zeros_types
from jaxseq._reverse_only import reverse_only
from jaxseq.typing import Carry

Loop = Callable[..., tuple[Carry, jax.Array]]


def rows_are_batch(loop: Loop) -> Loop:
    """Returns `loop(params, carry, xs, *, cell, reverse) -> (carry, ys)` as such a primitive.

    The carry keeps its shapes and dtypes. Its leaves lead with the batch, those of xs and ys with time and the batch.
    """
    primitive = Primitive(loop.__name__.strip("_"))
    primitive.multiple_results = True

    def call(params, carry, xs, **static):
        leaves, tree = jax.tree.flatten((params, carry, xs))
        *carry_leaves, ys = primitive.bind(*leaves, tree=tree, **static)
        return jax.tree.unflatten(jax.tree.structure(carry), carry_leaves), ys

    def flat(*leaves, tree, **static):
        return jax.tree.leaves(loop(*jax.tree.unflatten(tree, leaves), **static))

    def shapes(*leaves, tree, cell, reverse):
        params, carry, xs = jax.tree.unflatten(tree, leaves)
        T, y = jax.tree.leaves(xs)[0].shape[0], step_output(cell, params, carry, xs)
        return zeros_types([*jax.tree.leaves(carry), y.update(shape=(T, *y.shape))], like=leaves)

    def derivative(primals, tangents, **statics):
        varied = [place for place, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

        def of_varied(*leaves):
            at = dict(enumerate(primals)) | dict(zip(varied, leaves, strict=True))
            return flat(*at.values(), **statics)

        tangents = [reverse_only(tangents[place]) for place in varied]
        return jax.jvp(of_varied, [primals[place] for place in varied], tangents)

    def mapped(leaves, axes, *, tree, **static):
        of_params, of_carry, of_xs = (part.num_leaves for part in tree.children())
        if any(axis is not None for axis in axes[:of_params]):
            results = jax.vmap(functools.partial(flat, tree=tree, **static), in_axes=axes)(*leaves)
            return results, [0] * len(results)
        rows = next(leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None)
        params = jax.tree.unflatten(tree, leaves)[0]
        places = [0 if flag else None for flag in of_rows(params)] + [0] * of_carry + [1] * of_xs
        leaves = [_with_rows(*of_leaf, rows) for of_leaf in zip(leaves, axes, places, strict=True)]
        return primitive.bind(*leaves, tree=tree, **static), [0] * of_carry + [1]

    primitive.def_impl(flat)
    primitive.def_abstract_eval(shapes)
    mlir.register_lowering(primitive, mlir.lower_fun(flat, multiple_results=True))
    ad.primitive_jvps[primitive] = derivative
    batching.primitive_batchers[primitive] = mapped
    return call


def of_rows(params: Any) -> list[bool]:
    """Returns which leaves of params are per row, `[B, ...]`: those in the `extra` of `Augmented` params."""

    def flags(node, inside):
        if isinstance(node, Augmented):
            return Augmented(mark(node.value, inside), mark(node.extra, True))
        return inside

    def mark(tree, inside):
        return jax.tree.map(lambda node: flags(node, inside), tree, is_leaf=lambda node: isinstance(node, Augmented))

    return jax.tree.leaves(mark(params, False))


def _with_rows(array, axis, place, rows):
    """Returns the array with its rows, at `axis` (None: shared by all), at the axis `place` (None: no axis)."""
    if place is None:
        return array
    if axis is not None:
        return jnp.moveaxis(array, axis, place)
    return jnp.broadcast_to(jnp.expand_dims(array, place), (*array.shape[:place], rows, *array.shape[place:]))
