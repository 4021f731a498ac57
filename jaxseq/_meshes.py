"""Loops over time on the devices of a mesh, in the two modes of JAX that put devices into types.

Inside `jax.shard_map` a value's type says over which axes of the mesh it varies. The carry of a loop must say so from
the start, also where it begins as a constant; and what is alike on all devices, as params are, is made varying before
a loop that has a gradient of its own, not in it: the transpose of that step is the sum over the devices.

On a mesh of explicit axes, which `jax.make_mesh` makes, a value's type says how it is split. A kernel runs with these
axes left to the compiler, so that a cell needs no word about them; its results are split as its inputs are.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxseq.typing import Carry, Cell, Inputs, Kernel, Params

Tree = TypeVar("Tree")


def vary_alike(tree: Tree) -> Tree:
    """Returns the tree; its leaves vary over all axes of a mesh over which any of them does."""
    return _vary(tree, _varied(tree))


def scan(
    body: Callable, start: Tree, xs: Any = None, length: int | None = None, reverse: bool = False
) -> tuple[Tree, Any]:
    """Runs `jax.lax.scan`, also where `start` is constant and what the body makes of it varies over a mesh."""
    if _is_manual():
        of_steps = jax.vmap(body, (None, 0)) if jax.tree.leaves(xs) else body
        start = _vary(start, _varied((start, xs, jax.eval_shape(of_steps, start, xs)[0])))
    return jax.lax.scan(body, start, xs, length, reverse)


def while_loop(goes_on: Callable[[Any], jax.Array], body: Callable[[Any], Any], start: Any) -> Any:
    """Runs `jax.lax.while_loop`, also where `start` is constant and what the body makes of it varies over a mesh."""
    if _is_manual():
        start = _vary(start, _varied((start, jax.eval_shape(body, start))))
    return jax.lax.while_loop(goes_on, body, start)


def step_output(cell: Cell, params: Params, carry: Carry, xs: Inputs) -> jax.ShapeDtypeStruct:
    """Returns the shape of a step's output, from shapes alone: of no array it matters how it is split."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, carry, xs))
    params, carry, xs = shapes
    x = jax.tree.map(lambda leaf: leaf.update(shape=leaf.shape[1:]), xs)
    return jax.eval_shape(cell.step, params, carry, jax.eval_shape(cell.project, params, x))[1]


def zeros_types(shapes: list[jax.ShapeDtypeStruct], like: Any) -> list[Any]:
    """Returns the types of arrays of such shapes that vary over a mesh as the leaves of `like` do."""
    axes = _varied(like)
    zeros = jax.make_jaxpr(lambda: _vary([jnp.zeros(leaf.shape, leaf.dtype) for leaf in shapes], axes))
    return zeros().out_avals


def on_meshes(kernel: Kernel) -> Kernel:
    """Returns a kernel that runs on any mesh: under `jax.shard_map`, and on explicit axes."""

    @functools.wraps(kernel)
    def run(cell, params, carry, xs, *, reverse=False):
        params, carry, xs = vary_alike((params, carry, xs))
        mesh = _explicit_mesh((params, carry, xs))
        of_cell = functools.partial(kernel, cell, reverse=reverse)
        if mesh is None:
            return of_cell(params, carry, xs)
        split = _split(mesh, cell, params, carry, xs)
        left_to_compiler: Any = jax.sharding.auto_axes(of_cell, axes=mesh.explicit_axes, out_sharding=split)
        return left_to_compiler(params, carry, xs)

    return run


def _is_manual():
    """Whether this is traced inside `jax.shard_map`."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def _varied(tree) -> frozenset[str]:
    """The axes of a mesh over which any leaf, an array or an array's type, varies."""
    types = (leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf) for leaf in jax.tree.leaves(tree))
    kinds = (kind.manual_axis_type for kind in types)
    return frozenset().union(*(kind.varying for kind in kinds if kind is not None))


def _vary(tree, axes):
    def cast(leaf):
        missing = tuple(sorted(axes - _varied(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def _explicit_mesh(tree):
    """The mesh of explicit axes that a leaf's type names; None: there is none."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if mesh.explicit_axes), None)


def _split(mesh, cell, params, carry, xs):
    """How the last carry and ys are split: time and the batch as they are in xs, or in the carry."""
    axes = step_output(cell, params, carry, xs).ndim - 1
    time, *batch = _first_named(*(_spec(leaf)[: 1 + axes] for leaf in jax.tree.leaves(xs) if leaf.ndim > axes))
    batch = _first_named(batch, *(_spec(leaf)[:axes] for leaf in jax.tree.leaves(carry)))
    sharding = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
    return jax.tree.map(lambda leaf: sharding(*batch, *_spec(leaf)[axes:]), carry), sharding(time, *batch, None)


def _spec(leaf):
    return tuple(jax.typeof(leaf).sharding.spec)


def _first_named(*specs):
    """Of each axis the first of the names that specs give it; None where none does."""
    return [next(filter(None, names), None) for names in zip(*specs, strict=True)]
