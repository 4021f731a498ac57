"""One batch out of the rows of `jax.vmap`, for loops over time that have a gradient of their own.

JAX maps a function with a `custom_vjp` by mapping its gradient: every row would form a gradient of every weight, as
large as the weight, before they are added up. So the loop is a primitive of JAX's, and mapped over carry and xs, with
the params shared, it takes the mapped axis as one more batch axis. Mapped over the params too it is mapped as ever, and
so is its gradient: `jax.vmap(jax.grad(…))` gives each row its own.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxseq.typing import Carry, Inputs, Params

Loop = Callable[[Hashable, Params, Carry, Inputs], tuple[Carry, jax.Array]]


def fold_rows(loop: Loop, ys_shape: Callable[[Hashable, Params, Carry, Inputs], jax.ShapeDtypeStruct]) -> Loop:
    """Returns `loop(static, params, carry, xs) -> (carry, ys)` as such a primitive; `ys_shape` gives the shape of ys.

    The carry keeps its shapes and dtypes. Its leaves have the batch in front, those of xs and ys time and the batch.
    """
    primitive = Primitive(loop.__name__.strip("_"))
    primitive.multiple_results = True

    def call(static, params, carry, xs):
        leaves, tree = jax.tree.flatten((params, carry, xs))
        *carry_leaves, ys = primitive.bind(*leaves, static=static, tree=tree)
        return jax.tree.unflatten(jax.tree.structure(carry), carry_leaves), ys

    def flat(*leaves, static, tree):
        return jax.tree.leaves(loop(static, *jax.tree.unflatten(tree, leaves)))

    def shapes(*leaves, static, tree):
        arrays = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        params, carry, xs = jax.tree.unflatten(tree, arrays)
        results = *jax.tree.leaves(carry), ys_shape(static, params, carry, xs)
        return [ShapedArray(result.shape, result.dtype) for result in results]

    def derivative(primals, tangents, **statics):
        varied = [place for place, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

        def of_varied(*leaves):
            at = dict(enumerate(primals)) | dict(zip(varied, leaves, strict=True))
            return flat(*at.values(), **statics)

        return jax.jvp(of_varied, [primals[place] for place in varied], [tangents[place] for place in varied])

    def mapped(leaves, axes, *, static, tree):
        params, carry, xs = jax.tree.unflatten(tree, map(_Rows, leaves, axes))
        if any(row.axis is not None for row in jax.tree.leaves(params, is_leaf=_is_rows)):
            results = jax.vmap(functools.partial(flat, static=static, tree=tree), in_axes=axes)(*leaves)
            return results, [0] * len(results)
        size = next(leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None)
        params = jax.tree.map(lambda row: row.array, params, is_leaf=_is_rows)
        carry = jax.tree.map(lambda row: row.with_axis(0, size), carry, is_leaf=_is_rows)
        xs = jax.tree.map(lambda row: row.with_axis(1, size), xs, is_leaf=_is_rows)
        carry, ys = call(static, params, carry, xs)
        carry = jax.tree.leaves(carry)
        return [*carry, ys], [0] * len(carry) + [1]

    primitive.def_impl(flat)
    primitive.def_abstract_eval(shapes)
    mlir.register_lowering(primitive, mlir.lower_fun(flat, multiple_results=True))
    ad.primitive_jvps[primitive] = derivative
    batching.primitive_batchers[primitive] = mapped
    return call


class _Rows(NamedTuple):
    """An array under `jax.vmap`, and its mapped axis, None where it has none."""

    array: jax.Array
    axis: int | None

    def with_axis(self, place: int, size: int) -> jax.Array:
        """Returns the array with the mapped axis, of `size` rows, at its place."""
        if self.axis is not None:
            return jnp.moveaxis(self.array, self.axis, place)
        shape = self.array.shape
        return jnp.broadcast_to(jnp.expand_dims(self.array, place), (*shape[:place], size, *shape[place:]))


def _is_rows(tree):
    return isinstance(tree, _Rows)
